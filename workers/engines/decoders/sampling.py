"""The next token of one row from its logits. Pure: the random number comes from outside."""

import torch
from torch import Tensor

TOP_CANDIDATES = 1024


def sample(logits: Tensor, temperature: float, top_p: float, draw: float) -> int:
    """`logits` [V], fp32, finite; `temperature` > 0; `draw` in [0, 1). Inverse of the cumulative distribution, likeliest token first.

    top_p keeps the smallest set of likeliest tokens whose probabilities reach it, never fewer than one.
    """
    probabilities = torch.softmax(logits / temperature, dim=0)
    if top_p >= 1.0:
        return _pick(probabilities, draw)
    # Sorting the whole vocabulary of 262,144 costs more than the rest of a step; the head of it nearly always reaches top_p.
    best, ids = probabilities.topk(min(TOP_CANDIDATES, len(probabilities)))
    if float(best.sum()) < top_p:
        best, ids = probabilities.sort(descending=True)
    before = best.cumsum(0) - best
    best = best[before < top_p]
    return int(ids[_pick(best / best.sum(), draw)])


def _pick(probabilities: Tensor, draw: float) -> int:
    # fp64, because 262,144 small fp32 terms do not sum to 1.
    cumulative = probabilities.double().cumsum(0)
    at = int(torch.searchsorted(cumulative, draw * float(cumulative[-1]), right=True))
    return min(at, len(probabilities) - 1)
