"""Slots over a small random model, whose answers to each prompt alone are known."""

from dataclasses import replace
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.workers.engines.decoders.driving import run, said
from tests.workers.engines.decoders.families import END, greedy, loaded, model_of, prompt
from workers.arrays import Ids
from workers.batches.outcomes import FailedRow
from workers.engines.contract.decoding import DecoderRow, Generation, TokenLogprob
from workers.engines.contract.generation import Sampling
from workers.engines.decoders.cache import LEAST_SHARED
from workers.engines.decoders.slots import PROMPT_TOKENS, Loaded, TorchSlots

MOST = 40
TENANTS = ("a", "b", None)


@cache
def small(family: str = "gemma3") -> Loaded:
    return loaded(model_of(family), rows=4, tokens=4_000)


@cache
def prompts() -> list[Ids]:
    """Of several lengths; many begin alike, for 64 tokens or more."""
    one, other = prompt(1, 90), prompt(2, 70)
    alike = [np.concatenate([one[:cut], prompt(cut + length, length)]) for cut, length in ((90, 3), (90, 20), (80, 9), (64, 5), (90, 240))]
    alike += [np.concatenate([other, prompt(length, length)]) for length in (1, 12)]
    return [*alike, alike[0], one[:65], *(prompt(length, length) for length in (1, 7, 30, 250))]


@cache
def known(family: str) -> list[list[int]]:
    model = model_of(family)
    return [greedy(model, ids, MOST) for ids in prompts()]


EVENTS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, MOST), st.sampled_from(TENANTS))  # a row: its prompt, its limit, its tenant
    | st.integers(1, 12)  # so many steps
    | st.tuples(st.integers(0, 30)),  # a row that nobody waits for any more
    max_size=40,
)


@pytest.mark.parametrize("family", ["gemma3", "gpt_oss"])  # packed, and padded; both with windows
@settings(max_examples=40, deadline=None)
@given(EVENTS)
def test_rows_say_the_same_however_they_come_and_go(family: str, events: list[Any]) -> None:
    slots = TorchSlots(small(family))
    rows: list[tuple[DecoderRow, int]] = []
    answers: dict[DecoderRow, Generation | FailedRow] = {}
    gone: set[DecoderRow] = set()

    def step() -> None:
        before = dict(slots.room()._asdict())
        ended = dict(slots.step())
        assert not ended.keys() & answers.keys()
        answers.update(ended)
        assert slots.room().rows == before["rows"] + len(ended)

    for event in events:
        if isinstance(event, int):
            for _ in range(event):
                step()
        elif len(event) == 1 and rows:
            row, _ = rows[event[0] % len(rows)]
            slots.cancel(row)
            gone.add(row)
        elif len(event) == 3:
            place, limit, tenant = event
            while slots.room().rows == 0:
                step()
            row = DecoderRow(prompts()[place], limit, tenant=tenant)
            slots.add([row])
            rows.append((row, place))
    while slots.room().rows < small(family).rows:
        step()
    assert slots.room().tokens == small(family).tokens
    for row, place in rows:
        if row in answers:
            whole = known(family)[place]
            assert list(said(answers[row]).ids) == whole[: row.max_tokens]
            if row.tenant is None:
                assert said(answers[row]).cached_tokens == 0
        else:
            assert row in gone


def test_what_prompts_have_in_common_is_shared_within_a_tenant_and_never_between_two() -> None:
    slots = TorchSlots(small())
    ids = prompts()[1]

    def cached(tenant: str | None) -> int:
        return said(run(slots, [DecoderRow(ids, 3, tenant=tenant)])[0]).cached_tokens

    assert [cached(tenant) for tenant in ("a", "b", "a", "b", None, None, "c")] == [0, 0, len(ids) - 1, len(ids) - 1, 0, 0, 0]


def test_of_rows_that_come_together_one_reads_what_all_have_in_common() -> None:
    slots = TorchSlots(small())
    beginning = prompt(1, 3 * LEAST_SHARED)
    rows = [DecoderRow(np.concatenate([beginning, prompt(seed, 9)]), 2, tenant="a") for seed in range(2, 6)]
    assert [said(answer).cached_tokens for answer in run(slots, rows)] == [0] + [len(beginning)] * 3


def test_behind_one_template_what_each_list_has_in_common_is_shared() -> None:
    template, lists = prompt(1, LEAST_SHARED + 6), [prompt(seed, 60) for seed in (2, 3)]
    prompts_of = [[np.concatenate([template, own, prompt(seed, 5)]) for seed in (4, 5, 6)] for own in lists]
    rows = [DecoderRow(ids, 1, tenant="a") for ids in (*prompts_of[0], *prompts_of[1])]
    slots = TorchSlots(replace(small(), rows=6))
    assert [said(answer).cached_tokens for answer in run(slots, rows)] == [0, 130, 130] * 2


def test_keys_and_values_are_counted_while_they_are_held_and_a_beginning_once() -> None:
    slots = TorchSlots(small())
    beginning = prompt(1, 3 * LEAST_SHARED)
    rows = [DecoderRow(np.concatenate([beginning, prompt(seed, 9)]), 3, tenant="a") for seed in range(2, 6)]
    assert slots.kv_tokens() == 0
    slots.add(rows)
    slots.step()
    slots.step()
    assert slots.kv_tokens() == len(beginning) + 4 * 9 + 1  # the first one has spoken already
    for row in rows:
        slots.cancel(row)
    assert slots.kv_tokens() == len(beginning)


def test_an_engine_says_when_a_row_had_its_first_token() -> None:
    slots = TorchSlots(small())
    rows = [DecoderRow(prompts()[0], 3), DecoderRow(prompt(1, PROMPT_TOKENS), 3)]
    slots.add(rows)
    slots.step()
    first, second = rows[0].first_token_at, rows[1].first_token_at
    assert first is not None
    assert second is None
    for _ in range(3):
        slots.step()
    assert rows[0].first_token_at == first
    assert rows[1].first_token_at is not None


def test_rows_whose_reader_goes_away_read_for_themselves() -> None:
    slots = TorchSlots(small())
    beginning = prompt(1, PROMPT_TOKENS + 100)
    rows = [DecoderRow(np.concatenate([beginning, prompt(seed, 9)]), 2, tenant="a") for seed in range(2, 4)]
    slots.add(rows)
    assert slots.step() == []
    slots.cancel(rows[0])
    answer = dict(one for _ in range(5) for one in slots.step())[rows[1]]
    assert said(answer).cached_tokens == 0
    assert said(answer).ids == said(run(TorchSlots(small()), [DecoderRow(rows[1].ids, 2)])[0]).ids


def test_what_is_kept_of_prefixes_that_nobody_uses_is_bounded() -> None:
    slots = TorchSlots(replace(small(), tokens=2_000))
    for seed in range(30):
        run(slots, [DecoderRow(prompt(seed, 100), 1, tenant="a")])
    assert 400 <= sum(len(prefix.ids) for prefix in slots._cache._prefixes) <= 600


def test_a_long_prompt_keeps_nobody_waiting() -> None:
    slots = TorchSlots(small())
    short = DecoderRow(prompts()[9], 6)
    slots.add([short])
    slots.step()
    slots.add([DecoderRow(prompt(3, 3 * PROMPT_TOKENS), 6)])
    ended = [len(slots.step()) for _ in range(5)]
    assert ended == [0, 0, 0, 0, 1], "it says a token at each step"


def test_of_a_long_prompt_a_step_reads_no_more_than_its_part() -> None:
    slots = TorchSlots(small())
    slots.add([DecoderRow(prompt(3, 2 * PROMPT_TOKENS + 1), 2), DecoderRow(prompts()[9], 1)])
    assert [len(slots.step()) for _ in range(4)] == [0, 0, 1, 1]


def test_a_row_that_joins_takes_part_in_the_next_step() -> None:
    slots = TorchSlots(small())
    run(slots, [DecoderRow(prompts()[9], 2)])
    slots.add([DecoderRow(prompts()[11], 1), DecoderRow(prompts()[10], 2)])
    assert [len(slots.step()), len(slots.step())] == [1, 1]


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0.9, seed=3), Sampling(temperature=1.2, seed=3, top_p=0.8, top_k=20, min_p=0.01)]
)
def test_a_seed_says_the_same_alone_and_in_company(sampling: Sampling) -> None:
    row = DecoderRow(prompts()[1], 30, sampling)
    alone = said(run(TorchSlots(small()), [row])[0]).ids
    slots = TorchSlots(small())
    slots.add([DecoderRow(ids, 20, Sampling(temperature=1.0), tenant="a") for ids in prompts()[:3]])
    for _ in range(4):
        slots.step()
    again = DecoderRow(prompts()[1], 30, sampling, tenant="a")
    slots.add([again])
    ended = dict(one for _ in range(60) for one in slots.step())
    assert said(ended[again]).ids == alone
    assert said(ended[again]).cached_tokens > 0


def test_a_row_whose_numbers_are_spoilt_fails_and_spoils_no_neighbour_then_or_later() -> None:
    model = model_of("llama")
    whole = [greedy(model, prompts()[at], 8) for at in (10, 11)]
    with torch.no_grad():
        model.get_input_embeddings().weight[2] = torch.nan
    slots = TorchSlots(loaded(model, rows=3))
    spoilt = np.array([*prompt(1, 44), 2], np.int32)  # on one shelf with its neighbours
    for _ in range(2):
        answers = run(slots, [DecoderRow(prompts()[10], 8), DecoderRow(spoilt, 8), DecoderRow(prompts()[11], 8)])
        assert answers[1] == FailedRow("non_finite_output")
        assert [list(said(answer).ids) for answer in (answers[0], answers[2])] == whole
    long = DecoderRow(prompt(1, 45), 8)  # so that what the spoilt one left is within what is looked at
    for order in permutations([long, DecoderRow(prompts()[10], 8), DecoderRow(prompts()[11], 8)]):
        answers = run(slots, [replace(row) for row in order])
        told = {len(row.ids): list(said(answer).ids) for row, answer in zip(order, answers, strict=True)}
        assert [told[len(prompts()[at])] for at in (10, 11)] == whole


def test_a_step_that_fails_leaves_no_row_behind() -> None:
    class Fails:
        shape = small().body.shape

        def __call__(self, *_: object) -> Any:
            raise ValueError("told to")

    slots = TorchSlots(replace(small(), body=Fails()))  # type: ignore[arg-type]
    slots.add([DecoderRow(prompts()[9], 2)])
    with pytest.raises(ValueError, match="told to"):
        slots.step()
    assert slots.room().rows == small().rows
    assert slots.step() == []


def test_logprobs_are_those_of_the_whole_vocabulary() -> None:
    model = model_of("gemma3")
    ids = prompts()[10]
    row = DecoderRow(ids, 5, Sampling(top_logprobs=3))
    [answer] = run(TorchSlots(small()), [row])
    logprobs = said(answer).logprobs
    assert logprobs is not None
    assert [one.token for one in logprobs] == list(said(answer).ids)
    for at, one in enumerate(logprobs):
        with torch.no_grad():
            logits = model(torch.tensor([[*ids, *said(answer).ids[:at]]])).logits[0, -1]
        if at == 0:
            logits[END] = -torch.inf
        expected = torch.log_softmax(logits, 0)
        assert one.logprob == pytest.approx(float(expected[one.token]), abs=1e-4)
        assert [token for token, _ in one.top] == expected.topk(3).indices.tolist()
        assert one.top[0] == (one.token, pytest.approx(one.logprob, abs=1e-6))
    assert said(run(TorchSlots(small()), [DecoderRow(ids, 5)])[0]).logprobs is None


class Even:
    """Lets a row say even tokens, and ends after the third."""

    def __init__(self) -> None:
        self.said: list[int] = []

    def fill(self, bits: NDArray[np.int32]) -> bool:
        bits[:] = 0x55555555
        return True

    def take(self, token: int) -> bool:
        self.said.append(token)
        return len(self.said) == 3


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=2.0, seed=1), Sampling(top_logprobs=0)])
def test_a_mask_says_what_may_follow_and_when_it_is_enough(sampling: Sampling) -> None:
    mask = Even()
    [answer, other] = run(TorchSlots(small()), [DecoderRow(prompts()[10], 9, sampling, mask=mask), DecoderRow(prompts()[10], 9)])
    assert list(said(answer).ids) == mask.said
    assert all(token % 2 == 0 for token in mask.said)
    assert (len(mask.said), said(answer).finish_reason) == (3, "stop")
    assert list(said(other).ids) == known("gemma3")[10][:9]


def test_bias_and_penalties_change_what_is_said() -> None:
    ids = prompts()[10]

    def says(**sampling: Any) -> list[int]:
        return list(said(run(TorchSlots(small()), [DecoderRow(ids, 12, Sampling(**sampling))])[0]).ids)

    assert says(logit_bias={7: 1000.0}) == [7] * 12
    for penalised in (says(presence_penalty=1e4), says(frequency_penalty=1e4)):
        assert 1 < len(penalised) == len(set(penalised))
    assert not set(says(repetition_penalty=1e6)) & set(ids.tolist())
    assert says() == known("gemma3")[10][:12]


def test_logprob_without_likeliest_tokens_is_of_the_token_alone() -> None:
    [answer] = run(TorchSlots(small()), [DecoderRow(prompts()[10], 1, Sampling(top_logprobs=0))])
    logprobs = said(answer).logprobs
    assert logprobs is not None
    assert logprobs == [TokenLogprob(logprobs[0].token, logprobs[0].logprob, ())]
