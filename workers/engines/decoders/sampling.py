"""The next token of each row from its scores. The random numbers come from outside."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from workers.engines.contract.decoding import TokenLogprob
from workers.engines.contract.generation import Sampling

FAR: Final = 20.0  # below the highest scaled score: what is farther is less than a billionth as likely


def draw(logits: Tensor, samplings: Sequence[Sampling], draws: Sequence[float]) -> list[int]:
    """`logits` [n, V], fp32, one finite at least in each row; of each row a temperature > 0 and a draw in [0, 1).

    Inverse of the cumulative distribution: of all tokens in the order of the vocabulary; of those that a cut leaves, likeliest first.
    """
    temperatures = logits.new_tensor([sampling.temperature for sampling in samplings])[:, None]
    scaled = (logits - logits.amax(dim=1, keepdim=True)).div_(temperatures)
    chances = scaled.exp()
    sums = chances.sum(dim=1, dtype=torch.float64).tolist()
    return [
        _pick(chances[at], draws[at])
        if _is_whole(sampling, logits.shape[1])
        else _cut(scaled[at], chances[at], sums[at], sampling, draws[at])
        for at, sampling in enumerate(samplings)
    ]


def _is_whole(sampling: Sampling, vocabulary: int) -> bool:
    return sampling.top_p >= 1.0 and sampling.min_p <= 0.0 and not 0 < sampling.top_k < vocabulary


def _cut(scaled: Tensor, chances: Tensor, total: float, sampling: Sampling, draw: float) -> int:
    """``scaled``: scores over temperature, the highest 0; ``chances``: their exponentials, which sum to ``total``."""
    near = (scaled > -FAR).nonzero()[:, 0]  # sorting all of 262,144 costs more than the rest of a step
    if sampling.top_p * total > float(chances[near].sum(dtype=torch.float64)):
        near = torch.arange(len(scaled), device=scaled.device)
    best, order = chances[near].sort(descending=True, stable=True)
    if 0 < sampling.top_k < len(best):
        best = best[: sampling.top_k]
    if sampling.top_p < 1.0:  # of what top_k left
        whole = total if sampling.top_k <= 0 else float(best.sum(dtype=torch.float64))
        before = best.double().cumsum(0) - best
        best = best[before < sampling.top_p * whole]
    if sampling.min_p > 0.0:
        best = best[best >= sampling.min_p * best[0]]
    return int(near[order[_pick(best, draw)]])


def _pick(chances: Tensor, draw: float) -> int:
    # fp64, because 262,144 small fp32 terms do not sum to 1.
    cumulative = chances.double().cumsum(0)
    at = int(torch.searchsorted(cumulative, draw * float(cumulative[-1]), right=True))
    return min(at, len(chances) - 1)


def change(logits: Tensor, sampling: Sampling, prompt: Tensor, said: Sequence[int]) -> None:
    """One row's `logits` [V] by bias and penalties, in place. ``prompt``: its ids, each once."""
    if sampling.logit_bias:
        ids = torch.tensor(list(sampling.logit_bias), device=logits.device)
        logits[ids] += logits.new_tensor(list(sampling.logit_bias.values()))
    own, counts = torch.unique(torch.tensor(said, dtype=torch.long, device=logits.device), return_counts=True)
    if sampling.repetition_penalty != 1.0:
        seen = torch.unique(torch.cat([prompt, own]))
        values = logits[seen]
        logits[seen] = torch.where(values > 0, values / sampling.repetition_penalty, values * sampling.repetition_penalty)
    if sampling.presence_penalty or sampling.frequency_penalty:
        logits[own] -= sampling.presence_penalty + sampling.frequency_penalty * counts


def logprob_of(logits: Tensor, token: int, top: int) -> TokenLogprob:
    """Of one row's `logits` [V]."""
    logprobs = torch.log_softmax(logits, dim=0)
    values, ids = logprobs.topk(top)
    return TokenLogprob(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))
