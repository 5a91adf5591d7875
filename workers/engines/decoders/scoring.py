"""How a row that scores choices comes to its answer: hidden states at the places of its tree to logprobs of the steps from there."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workers.batches.outcomes import FailedRow
from workers.engines.contract.choices import END, Choices, Scored
from workers.engines.decoders.head import Head


class Scoring:
    """Of one row: places come in their order, over one step of the engine or several."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self._steps = np.full(len(choices.step_tokens), np.nan)
        self._places = 0  # that have come

    def take(self, head: Head, hidden: Tensor, normalisers: Tensor | None) -> None:
        """``hidden`` [n, hidden size] of the next places, and ``normalisers`` [n] where logprobs are not all of the same place."""
        places = self.choices.step_places
        first, end = np.searchsorted(places, [self._places, self._places + len(hidden)])
        at = torch.from_numpy(places[first:end] - self._places).to(hidden.device)
        tokens = torch.from_numpy(self.choices.step_tokens[first:end]).to(hidden.device)
        logits = head.of(hidden[at], tokens.clamp(min=0)[:, None])[:, 0]
        ends = tokens == END
        if bool(ends.any()):
            ids = torch.tensor(self.choices.end_ids, device=hidden.device).expand(int(ends.sum()), -1)
            logits[ends] = head.of(hidden[at[ends]], ids).logsumexp(dim=1)
        if normalisers is not None:
            logits -= normalisers[at]
        self._steps[first:end] = logits.double().cpu().numpy()
        self._places += len(hidden)

    def answer(self, cached_tokens: int) -> Scored | FailedRow:
        logprobs = self.choices.sums(self._steps)
        return Scored(logprobs, cached_tokens) if np.isfinite(logprobs).all() else FailedRow("non_finite_output")


def take_all(head: Head, scorings: Sequence[Scoring], hidden: Sequence[Tensor]) -> None:
    """``hidden``: of each the next places. The normaliser over the whole vocabulary is computed only where a choice is longer than a token:
    else it is the same for all choices of a row."""
    long = [at for at, one in enumerate(scorings) if one.choices.places > 1]
    normalisers: dict[int, Tensor] = {}
    if long:
        found = head.normalisers(torch.cat([hidden[at] for at in long]))
        normalisers = dict(zip(long, torch.split(found, [len(hidden[at]) for at in long]), strict=True))
    for at, (one, own) in enumerate(zip(scorings, hidden, strict=True)):
        one.take(head, own, normalisers.get(at))
