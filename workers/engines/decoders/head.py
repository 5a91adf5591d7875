"""From the last hidden states to scores of all tokens: with a large vocabulary half of a decoder's step.

In two stages where the CPU is quick at it: all tokens are scored in eight bits, and of the best blocks of tokens the candidates are scored
again, exactly. Timed when the model is loaded, for oneDNN runs a reference kernel, thousands of times slower, where it has no better one.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import linear

BLOCK: Final = 128  # tokens whose highest score is looked for first
LEAST_VOCABULARY: Final = 16_384  # of a smaller one the scores are soon looked through
CANDIDATES: Final = 16  # of a greedy token
BLOCKS: Final = 4  # that they are looked for in
NORMALISED_ROWS: Final = 32  # at a time, of which each has a score for every token
DRAWN_CANDIDATES: Final = 256
DRAWN_BLOCKS: Final = 64
TIMED_ROWS: Final = 16
TIMES: Final = 3


class Head:
    """``weight`` [vocabulary, hidden size]; ``scale``, above zero, and ``softcap``, the scores' bound, keep their order."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        softcap: float | None = None,
        scale: float = 1.0,
        *,
        two_stages: bool | None = None,
    ) -> None:
        self.vocabulary = len(weight)
        self._weight, self._bias = weight.detach(), None if bias is None else bias.detach()
        self._softcap, self._scale = softcap, scale
        self._eight_bits: EightBits | None = None
        fits = weight.device.type == "cpu" and bias is None and len(weight) >= LEAST_VOCABULARY and len(weight) % BLOCK == 0
        if two_stages or (two_stages is None and fits):
            eight_bits = EightBits(self._weight)
            if two_stages or _seconds(eight_bits.scores, self._weight) < _seconds(self.exact, self._weight):
                self._eight_bits = eight_bits

    @classmethod
    def of_model(cls, model: Any) -> "Head":
        """transformers' own, of a causal language model."""
        config, head = model.config, model.get_output_embeddings()
        scale = getattr(model, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)  # Cohere's, Granite's
        return cls(head.weight, head.bias, getattr(config, "final_logit_softcapping", None), scale)

    @property
    def two_stages(self) -> bool:
        return self._eight_bits is not None

    def exact(self, hidden: Tensor) -> Tensor:
        """[n, hidden size] -> logits [n, vocabulary], fp32."""
        return self._capped(linear(hidden, self._weight, self._bias).float())

    def scores(self, hidden: Tensor) -> Tensor:
        """The same, near enough to tell which tokens count."""
        return self.exact(hidden) if self._eight_bits is None else self._capped(self._eight_bits.scores(hidden))

    def greedy(self, hidden: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest token of each row by its ``scores``, in which what may not be said is minus infinity, and its logit."""
        if self._eight_bits is None:
            return best_of(scores)
        logits, ids = self._refined(hidden, scores, BLOCKS, CANDIDATES)
        highest, at = logits.max(dim=1)
        return highest, ids.gather(1, at[:, None])[:, 0]

    def refine(self, hidden: Tensor, scores: Tensor) -> Tensor:
        """The scores, those of the likeliest tokens exact."""
        if self._eight_bits is not None:
            logits, ids = self._refined(hidden, scores, DRAWN_BLOCKS, DRAWN_CANDIDATES)
            scores.scatter_(1, ids, logits)
        return scores

    def of(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """[n, hidden size] and [n, k] tokens -> their logits [n, k], fp32, whatever the weights' format."""
        logits = torch.einsum("nkh,nh->nk", self._weight[ids].float(), hidden.float())
        return self._capped(logits if self._bias is None else logits + self._bias[ids].float())

    def normalisers(self, hidden: Tensor) -> Tensor:
        """[n, hidden size] -> [n]: the logarithm of what the exponentials of all logits sum to, the likeliest of them exact."""
        found = []
        for rows in torch.split(hidden, NORMALISED_ROWS):
            scores = self.scores(rows)
            if self._eight_bits is not None:
                scores = self.refine(rows, scores)
            elif self._weight.dtype != torch.float32:  # whose sums are rounded to a few bits
                ids = scores.topk(min(CANDIDATES, self.vocabulary)).indices
                scores = scores.scatter(1, ids, self.of(rows, ids))
            found.append(scores.logsumexp(dim=1))
        return torch.cat(found)

    def _refined(self, hidden: Tensor, scores: Tensor, blocks: int, count: int) -> tuple[Tensor, Tensor]:
        """Exact logits and ids of the ``count`` best tokens of the ``blocks`` best blocks: [n, count]."""
        blocked = scores.view(len(scores), -1, BLOCK)
        best = blocked.amax(dim=-1).topk(min(blocks, blocked.shape[1]), sorted=False).indices
        inside = blocked.gather(1, best[..., None].expand(-1, -1, BLOCK)).flatten(1)
        values, at = inside.topk(min(count, inside.shape[1]), sorted=False)
        ids = best.gather(1, at // BLOCK) * BLOCK + at % BLOCK
        return torch.where(values == -torch.inf, values, self.of(hidden, ids)), ids

    def _capped(self, logits: Tensor) -> Tensor:
        if self._scale != 1.0:
            logits = logits * self._scale
        return logits if self._softcap is None else torch.tanh(logits / self._softcap) * self._softcap


class EightBits:
    """Weights with a scale a token, hidden states with one a row: u8 around 128, the only kind for which oneDNN has a quick kernel."""

    def __init__(self, weight: Tensor) -> None:
        self._scale = weight.abs().amax(dim=1).float().clamp_(min=1e-12) / 127
        whole = torch.cat([(part.float() / scale[:, None]).round_().to(torch.int8) for part, scale in self._parts(weight)])
        self._weight = torch.ops.onednn.qlinear_prepack(whole, [TIMED_ROWS, weight.shape[1]])
        self._zero = torch.zeros(len(weight), dtype=torch.int64)

    def _parts(self, weight: Tensor) -> "zip[tuple[Tensor, Tensor]]":
        return zip(torch.split(weight, LEAST_VOCABULARY), torch.split(self._scale, LEAST_VOCABULARY), strict=True)

    def scores(self, hidden: Tensor) -> Tensor:
        hidden = hidden.float()
        scale = hidden.abs().amax(dim=1, keepdim=True)
        whole = (hidden * (127 / scale.clamp(min=1e-12))).round_().add_(128).to(torch.uint8)
        found: Tensor = torch.ops.onednn.qlinear_pointwise(
            whole, 1 / 127, 128, self._weight, self._scale, self._zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return found.mul_(scale)


def best_of(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Highest and where, by row: block by block where there are many, which is several times quicker than torch's own search."""
    if scores.shape[1] < LEAST_VOCABULARY or scores.shape[1] % BLOCK:
        highest, ids = scores.max(dim=1)
        return highest, ids
    blocked = scores.view(len(scores), -1, BLOCK)
    highest, block = blocked.amax(dim=-1).max(dim=1)
    inside = blocked.gather(1, block[:, None, None].expand(-1, 1, BLOCK))[:, 0].argmax(dim=1)
    return highest, block * BLOCK + inside


def _seconds(score: Callable[[Tensor], Tensor], weight: Tensor) -> float:
    """The least that one call took, of CPU time: another process may run beside it."""
    hidden = torch.ones(TIMED_ROWS, weight.shape[1], dtype=weight.dtype)
    took = []
    for _ in range(TIMES):
        began = time.thread_time()
        score(hidden)
        took.append(time.thread_time() - began)
    return min(took)
