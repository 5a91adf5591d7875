"""What a decoder holds of choices is what transformers' whole distributions say of them, token by token."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.workers.engines.decoders.driving import run, said, scored
from tests.workers.engines.decoders.families import END, PACKED, VOCABULARY, WINDOW, greedy, loaded, model_of, prompt
from workers.arrays import Ids
from workers.batches.outcomes import FailedRow
from workers.engines.contract.choices import Choices
from workers.engines.contract.decoding import DecoderRow
from workers.engines.decoders.slots import PROMPT_TOKENS, TorchSlots

SHORT = [[5], [9], [77]]
LONG = [[5, 6, 7], [5, 6, 8], [5, 9], [40], [41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54], [40, 3], [5, 6]]
TOLERANCE = 1e-4  # of a logprob of up to some 100: fp32 in another order of summing


def choices_of(choices: Sequence[Sequence[int]]) -> Choices:
    return Choices([np.array(one, dtype=np.int32) for one in choices], [END])


def by_transformers(model: Any, ids: Ids, choices: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Each choice by itself, over the whole vocabulary; where another goes on from it, with the end token behind it."""
    sums = []
    for choice in choices:
        own = [*choice, END] if any(len(other) > len(choice) and other[: len(choice)] == choice for other in choices) else [*choice]
        with torch.inference_mode():
            logits = model(torch.tensor([[*ids.tolist(), *own]])).logits[0].float()
        logprobs = torch.log_softmax(logits[len(ids) - 1 : -1], dim=-1)
        sums.append(float(logprobs[torch.arange(len(own)), torch.tensor(own)].sum()))
    return np.array(sums)


def chances(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logprobs - logprobs.max())
    return np.asarray(powers / powers.sum())


@pytest.mark.parametrize("family", [*list(PACKED)[:10], "cohere", "granite"])
def test_each_family_scores_choices_as_transformers_does_with_and_without_a_shared_beginning(family: str) -> None:
    model = model_of(family)
    beginning = prompt(99, 90)
    prompts = [prompt(1, 1), prompt(2, 17), prompt(3, 300)] + [np.concatenate([beginning, prompt(cut, 4 + cut)]) for cut in range(3)]
    known = [(by_transformers(model, ids, SHORT), by_transformers(model, ids, LONG)) for ids in prompts]
    slots, short, long = TorchSlots(loaded(model)), choices_of(SHORT), choices_of(LONG)
    asked = [DecoderRow(ids, 1, tenant="a", choices=choices) for ids in prompts for choices in (short, long)]
    answers = [scored(answer) for answer in run(slots, asked)]
    for (of_short, of_long), own_short, own_long in zip(known, answers[::2], answers[1::2], strict=True):
        assert own_long.logprobs == pytest.approx(of_long, abs=TOLERANCE)
        assert chances(own_short.logprobs) == pytest.approx(chances(of_short), abs=2e-5)
        assert chances(own_long.logprobs) == pytest.approx(chances(of_long), abs=2e-5)
    assert sum(answer.cached_tokens > 0 for answer in answers) >= 4


def test_more_choices_than_a_step_reads_are_scored_beside_rows_that_speak() -> None:
    model = model_of("gemma3")
    many = [[first, second, third] for first in range(3, 60) for second in range(3, 17) for third in (20, 21)]
    ids, others = prompt(1, 40), [prompt(2, 9), prompt(3, 30)]
    known, known_others = by_transformers(model, ids, many), [greedy(model, other, 20) for other in others]
    choices = choices_of(many)
    assert len(choices.tokens) > PROMPT_TOKENS
    answers = run(TorchSlots(loaded(model)), [DecoderRow(others[0], 20), DecoderRow(ids, 1, choices=choices), DecoderRow(others[1], 20)])
    assert scored(answers[1]).logprobs == pytest.approx(known, abs=TOLERANCE)
    assert [list(said(answer).ids) for answer in answers[::2]] == known_others


@pytest.mark.parametrize("length", [WINDOW - 4, WINDOW - 1, WINDOW + 5])
def test_windows_count_a_choice_from_where_it_stands_and_not_from_where_it_is_read(length: int) -> None:
    """The last choices of a list are read far behind the prompt, and follow it at once."""
    model = model_of("gemma3")
    wide = [[first, 3, 4] for first in range(10, 50)]
    ids = prompt(7, length)
    known = by_transformers(model, ids, wide)
    [answer] = run(TorchSlots(loaded(model)), [DecoderRow(ids, 1, choices=choices_of(wide))])
    assert scored(answer).logprobs == pytest.approx(known, abs=TOLERANCE)


def test_rows_of_another_tenant_share_no_beginning() -> None:
    slots, choices = TorchSlots(loaded(model_of("llama"))), choices_of(SHORT)
    beginning = prompt(5, 100)
    for tenant, cached in (("a", 0), ("a", 100), ("b", 0), (None, 0)):
        row = DecoderRow(np.concatenate([beginning, prompt(6, 3)]), 1, tenant=tenant, choices=choices)
        [answer] = run(slots, [row])
        assert scored(answer).cached_tokens == (102 if cached else 0)


def test_a_row_whose_numbers_are_not_finite_fails_and_its_neighbour_does_not() -> None:
    model = model_of("llama")
    spoilt = 90
    with torch.no_grad():
        model.get_input_embeddings().weight[spoilt] = torch.nan
        model.get_output_embeddings().weight[spoilt] = 0.0
    bad = np.array([3, spoilt, 4], dtype=np.int32)
    answers = run(TorchSlots(loaded(model)), [DecoderRow(ids, 1, choices=choices_of(LONG)) for ids in (bad, prompt(1, 5), prompt(1, 5))])
    assert answers[0] == FailedRow("non_finite_output")
    assert np.isfinite(scored(answers[1]).logprobs).all()
    assert scored(answers[1]).logprobs == pytest.approx(scored(answers[2]).logprobs)


def test_all_tokens_of_the_vocabulary_as_choices_are_a_whole_distribution() -> None:
    model = model_of("qwen3")
    everything = [[token] for token in range(VOCABULARY) if token != 7] + [[7, token] for token in range(VOCABULARY)]
    [answer] = run(TorchSlots(loaded(model)), [DecoderRow(prompt(1, 9), 1, choices=choices_of(everything))])
    assert np.exp(scored(answer).logprobs).sum() == pytest.approx(1.0, abs=1e-5)


def test_a_row_takes_room_for_the_tokens_of_its_choices() -> None:
    choices = choices_of(LONG)
    row = DecoderRow(prompt(1, 9), 1, choices=choices)
    assert row.tokens == 9 + len(choices.tokens)
    slots = TorchSlots(loaded(model_of("llama")))
    free = slots.room().tokens
    slots.add([row])
    assert slots.room().tokens == free - row.tokens
