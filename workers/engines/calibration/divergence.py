"""How far what one way of running a decoder holds to be likely next is from what another does."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

LIKELIEST: Final = 512  # tokens that are told apart: all of a large vocabulary would take a mebibyte for each place
LEAST_CHANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Likely:
    """At each place of some texts the likeliest next tokens, best first: ``ids`` and ``logprobs`` [places, some]."""

    ids: Tensor
    logprobs: Tensor

    @classmethod
    def of(cls, logprobs: Tensor) -> "Likely":
        """``logprobs`` [places, vocabulary]."""
        best = logprobs.topk(min(LIKELIEST, logprobs.shape[1]))
        return cls(best.indices, best.values)

    def divergence(self, other: Tensor) -> Tensor:
        """[places], in nats: Kullback-Leibler of ``other`` [places, vocabulary] from this, all that is less likely taken as one token."""
        theirs = other.gather(1, self.ids)
        apart = (self.logprobs.exp() * (self.logprobs - theirs)).sum(dim=1)
        rest, their_rest = _rest(self.logprobs), _rest(theirs)
        return apart + rest * (rest.log() - their_rest.log())

    def agrees(self, other: Tensor) -> Tensor:
        """[places]: whether the likeliest token is the same."""
        return self.ids[:, 0] == other.argmax(dim=1)


def _rest(logprobs: Tensor) -> Tensor:
    return (1 - logprobs.exp().sum(dim=1)).clamp_min(LEAST_CHANCE)
