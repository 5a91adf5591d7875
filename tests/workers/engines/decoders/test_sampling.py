from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from workers.engines.contract.generation import Sampling
from workers.engines.decoders.head import BLOCK, Head, best_of
from workers.engines.decoders.sampling import change, draw, logprob_of

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=50)


def drawn(logits: Tensor, draws: list[float], **sampling: Any) -> list[int]:
    how = Sampling(**({"temperature": 1.0} | sampling))
    return draw(logits.expand(len(draws), -1), [how] * len(draws), draws)


def shares(tokens: list[int], vocabulary: int) -> Any:
    return np.bincount(tokens, minlength=vocabulary) / len(tokens)


EVENLY = [at / 2000 for at in range(2000)]


@given(LOGITS, st.floats(0.1, 2), st.floats(0.01, 1), st.floats(0, 1, exclude_max=True))
def test_a_draw_is_never_outside_the_smallest_set_that_reaches_top_p(
    values: list[float], temperature: float, top_p: float, at: float
) -> None:
    logits = torch.tensor(values)
    [chosen] = drawn(logits, [at], temperature=temperature, top_p=top_p)
    probabilities = torch.softmax(logits / temperature, dim=0)
    likelier = float(probabilities[probabilities > probabilities[chosen]].sum())
    assert likelier < top_p + 1e-4


@given(LOGITS, st.floats(0.3, 2), st.integers(1, 60), st.floats(0.05, 1), st.floats(0, 0.9))
def test_draws_follow_the_distribution_that_the_cuts_leave(
    values: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    """Against the rules as they are written down, in their order: top_k, top_p of what it leaves, min_p."""
    logits = torch.tensor(values)
    chances = torch.softmax(logits.double() / temperature, dim=0)
    order = chances.argsort(descending=True, stable=True)[:top_k]
    left = chances[order]
    left = left[(left.cumsum(0) - left) / left.sum() < top_p - 1e-9]
    left = left[left >= min_p * left[0]]
    found = shares(drawn(logits, EVENLY, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p), len(values))
    allowed = order[: len(left) + 1].tolist()  # where a sum meets top_p, rounding decides about one token
    assert found[[token for token in range(len(values)) if token not in allowed]].sum() == 0
    if len(set(values)) == len(values) and len(left) == len(allowed):
        expected = (left / left.sum()).numpy()
        assert np.abs(found[order[: len(left)].numpy()] - expected).max() < 0.005


def test_a_small_top_p_is_greedy_and_draws_cover_the_distribution() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0])
    assert set(drawn(logits, EVENLY, top_p=1e-6)) == {1}
    assert np.abs(shares(drawn(logits, EVENLY), 3) - torch.softmax(logits, 0).numpy()).max() < 0.002


def test_a_top_p_that_hardly_any_token_reaches_still_counts_every_token() -> None:
    assert drawn(torch.zeros(5000), [0.999], top_p=0.9)[0] >= 1024
    far = torch.full((300_000,), -21.0)
    far[0] = 0.0
    assert drawn(far, [0.9999], top_p=0.9999999)[0] > 0, "each is a billionth as likely, and there are many"


def test_rows_of_one_call_are_drawn_each_by_its_own_rules() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.0], [0.0, 0.1, 0.2]])
    how = [Sampling(temperature=1.0, top_k=1), Sampling(temperature=0.5), Sampling(temperature=2.0, top_p=0.3)]
    assert draw(logits, how, [0.99, 0.99, 0.0]) == [1, 2, 2]


@given(st.integers(1, 4), st.data())
def test_bias_and_penalties_are_as_written_down(seed: int, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(30, generator=generator)
    prompt = data.draw(st.lists(st.integers(0, 29), max_size=8, unique=True))
    said = data.draw(st.lists(st.integers(0, 29), max_size=20))
    how = Sampling(
        repetition_penalty=data.draw(st.sampled_from([1.0, 1.3, 0.7])),
        presence_penalty=data.draw(st.sampled_from([0.0, 0.5, -0.5])),
        frequency_penalty=data.draw(st.sampled_from([0.0, 0.2])),
        logit_bias=data.draw(st.dictionaries(st.integers(0, 29), st.floats(-100, 100), max_size=3)),
    )
    expected = logits.clone()
    for token in range(30):
        value = float(logits[token]) + how.logit_bias.get(token, 0.0)
        if token in prompt or token in said:
            value = value / how.repetition_penalty if value > 0 else value * how.repetition_penalty
        count = Counter(said)[token]
        expected[token] = value - how.presence_penalty * (count > 0) - how.frequency_penalty * count
    change(logits, how, torch.tensor(prompt, dtype=torch.long), said)
    assert torch.allclose(logits, expected, atol=1e-4)


def test_a_logprob_and_the_likeliest_beside_it() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0])
    logprobs = torch.log_softmax(logits, 0).tolist()
    assert logprob_of(logits, 0, 2) == (0, logprobs[0], ((1, logprobs[1]), (2, logprobs[2])))


VOCABULARY = 160 * BLOCK


@pytest.fixture(scope="module")
def weight() -> Tensor:
    return torch.randn(VOCABULARY, 64, generator=torch.Generator().manual_seed(1))


def hidden_states(count: int) -> Tensor:
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("softcap", [None, 30.0])
def test_two_stages_find_the_tokens_that_all_exact_scores_name(weight: Tensor, softcap: float | None) -> None:
    exact, staged = Head(weight, softcap=softcap, two_stages=False), Head(weight, softcap=softcap, two_stages=True)
    hidden = hidden_states(64)
    logits = exact.exact(hidden)
    highest, ids = staged.greedy(hidden, staged.scores(hidden))
    assert ids.tolist() == logits.argmax(dim=1).tolist()
    assert torch.allclose(highest, logits.amax(dim=1), atol=1e-4)
    refined = staged.refine(hidden, staged.scores(hidden))
    best = logits.topk(64).indices
    assert torch.allclose(refined.gather(1, best), logits.gather(1, best), atol=1e-4)
    distance = (refined.softmax(1) - logits.softmax(1)).abs().sum(1) / 2
    assert float(distance.mean()) < 0.005


def test_a_barred_token_is_not_found_in_either_way(weight: Tensor) -> None:
    hidden = hidden_states(8)
    for two_stages in (False, True):
        head = Head(weight, two_stages=two_stages)
        scores = head.scores(hidden)
        first = head.greedy(hidden, scores.clone())[1]
        scores[torch.arange(8), first] = -torch.inf
        second = head.greedy(hidden, scores.clone())[1]
        logits = head.exact(hidden)
        assert second.tolist() == logits.topk(2).indices[:, 1].tolist()
        scores[:, :-3] = -torch.inf
        assert head.greedy(hidden, scores.clone())[1].min() >= VOCABULARY - 3
        assert head.refine(hidden, scores)[:, :-3].amax() == -torch.inf


def test_numbers_that_are_none_are_seen_in_either_way(weight: Tensor) -> None:
    hidden = hidden_states(4)
    hidden[2] = torch.nan
    for two_stages in (False, True):
        head = Head(weight, two_stages=two_stages)
        highest, _ = head.greedy(hidden, head.scores(hidden))
        assert highest.isfinite().tolist() == [True, True, False, True]


def test_a_small_vocabulary_is_scored_at_once_and_searched_so(weight: Tensor) -> None:
    assert not Head(weight[:1000]).two_stages
    scores = hidden_states(5) @ weight[:1001].T
    assert best_of(scores)[1].tolist() == scores.argmax(dim=1).tolist()
    assert best_of(scores := hidden_states(5) @ weight.T)[1].tolist() == scores.argmax(dim=1).tolist()
