"""Each family says what transformers says, whatever runs beside it."""

import numpy as np
import pytest
import torch

from tests.workers.engines.decoders.driving import run, said
from tests.workers.engines.decoders.families import FAMILIES, WINDOW, greedy, loaded, model_of, prompt
from workers.engines.contract.decoding import DecoderRow
from workers.engines.decoders.distributions import logprobs
from workers.engines.decoders.slots import TorchSlots
from workers.models.decoder_folder import FAMILIES as OURS

LENGTHS = ((5, 14), (1, 9), (70, 3), (17, 20), (3, 1), (300, 6), (40, 12), (2, 16), (11, 2))
SHARING = ((0, 5), (0, 1), (3, 9), (0, 30), (10, 4))  # of a beginning, the tokens that are left out, and those that follow


def test_each_family_that_is_driven_is_held_against_transformers() -> None:
    assert {model_of(family).config.model_type for family in FAMILIES} == OURS


@pytest.mark.parametrize("family", FAMILIES)
def test_ragged_rows_and_those_that_share_a_beginning_say_what_transformers_says_of_each_alone(family: str) -> None:
    model = model_of(family)
    ragged = [prompt(seed, length) for seed, (length, _) in enumerate(LENGTHS)]
    beginning = prompt(99, 90)
    alike = [np.concatenate([beginning[: 90 - cut], prompt(cut, length)]) for cut, length in SHARING]
    known = [greedy(model, ids, limit) for ids, (_, limit) in zip(ragged, LENGTHS, strict=True)]
    known_alike = [greedy(model, ids, WINDOW) for ids in alike]
    with torch.inference_mode():
        likely = torch.log_softmax(model(torch.from_numpy(beginning)[None].long()).logits[0], dim=-1)
    shared = loaded(model)
    torch.testing.assert_close(logprobs(shared, [beginning], exact=True), likely, rtol=0, atol=1e-3)
    answers = run(TorchSlots(shared), [DecoderRow(ids, limit) for ids, (_, limit) in zip(ragged, LENGTHS, strict=True)])
    assert [list(said(answer).ids) for answer in answers] == known
    answers = run(TorchSlots(shared), [DecoderRow(ids, WINDOW, tenant="a") for ids in alike])
    assert [list(said(answer).ids) for answer in answers] == known_alike
    kept = sum(said(answer).cached_tokens > 0 for answer in answers)
    assert kept >= 3 if shared.body.shares else kept == 0


@pytest.mark.parametrize("tenant", [None, "a"])
def test_windows_are_right_beyond_their_width_and_beyond_a_step_of_the_prompt(tenant: str | None) -> None:
    """Of 512, as Gemma's, with prompts that are longer, read in several steps, behind a prefix that the window leaves."""
    model = model_of("gemma3", sliding_window=512)
    beginning = prompt(1, 700)
    prompts = [np.concatenate([beginning, prompt(seed, length)]) for seed, length in ((2, 146), (3, 20), (4, 250))] + [prompt(5, 40)]
    known = [greedy(model, ids, 24) for ids in prompts]
    answers = run(TorchSlots(loaded(model)), [DecoderRow(ids, 24, tenant=tenant) for ids in prompts])
    assert [list(said(answer).ids) for answer in answers] == known
    assert [said(answer).cached_tokens for answer in answers] == ([0, 700, 700, 0] if tenant else [0] * 4)
