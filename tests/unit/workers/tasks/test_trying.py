"""Second tries of a row whose answer did not pass the job's checks."""

import json
from typing import Any

import pytest

from db.failures import describe
from tests.workers.asking import generate
from workers.engines.contract.decoding import DecoderRow, Generation
from workers.engines.fake import FakeSlots
from workers.inference.runtime import Runtime
from workers.tasks import TASKS
from workers.tasks.generate import chat

SHORT = {"checks": [{"check": "length", "max": 2}], "tries": 3}
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0.7}
COMPLETIONS = "/v1/completions"


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """What the engine is asked with, in order. It says as many words as the seed's distance from ten."""
    asked: list[int | None] = []

    def answer(_slots: FakeSlots, _text: str, row: DecoderRow) -> Generation:
        asked.append(row.sampling.seed)
        words = max(1, 10 - (row.sampling.seed or 0))
        return Generation(" ".join(["word"] * words), list(range(words)), "stop")

    monkeypatch.setattr(FakeSlots, "_answer", answer)
    return asked


def body_of(payload: bytes | None) -> Any:
    return json.loads(payload or b"null")


def test_a_row_that_does_not_pass_is_asked_again_with_the_next_seed(fake_runtime: Runtime, seeds: list[int | None]) -> None:
    [row] = generate(fake_runtime, [{**BODY, "seed": 7}], spec=SHORT)
    assert seeds == [7, 8]
    assert row.code is None
    assert body_of(row.payload)["tries"] == 2
    assert TASKS["generate"].values(row.payload or b"")["tries"] == 2


def test_tokens_of_all_tries_count(fake_runtime: Runtime, seeds: list[int | None]) -> None:
    [row] = generate(fake_runtime, [{**BODY, "seed": 7}], spec=SHORT)
    assert (row.input_tokens, row.output_tokens) == (2 * len("hello"), 3 + 2)
    assert body_of(row.payload)["usage"]["completion_tokens"] == 5


def test_after_the_last_try_the_failure_names_the_check(fake_runtime: Runtime, seeds: list[int | None]) -> None:
    bad, good = generate(fake_runtime, [{**BODY, "seed": 1}, {**BODY, "seed": 9}], spec=SHORT)
    assert sorted(seeds, key=str) == [1, 2, 3, 9]
    assert (bad.code, bad.payload, good.code) == ("check_failed:length:0|3", None, None)
    assert (bad.input_tokens, bad.output_tokens) == (15, 9 + 8 + 7)
    assert describe(bad.code or "").message.startswith("No answer of 3 tries passed the check `length` (`checks[0]`)")


def test_a_greedy_row_is_not_asked_again_since_it_would_say_the_same(fake_runtime: Runtime, seeds: list[int | None]) -> None:
    [row] = generate(fake_runtime, [{**BODY, "temperature": 0.0, "seed": 1}], spec=SHORT)
    assert (seeds, row.code) == ([1], "check_failed:length:0|1")
    assert describe(row.code or "").message.startswith("The answer did not pass the check `length`")


def test_all_answers_of_a_row_must_pass_and_no_seed_comes_twice(fake_runtime: Runtime, seeds: list[int | None]) -> None:
    [row] = generate(fake_runtime, [{**BODY, "seed": 7, "n": 2}], spec=SHORT)
    assert seeds == [7, 8, 9, 10]
    assert [choice["message"]["content"] for choice in body_of(row.payload)["choices"]] == ["word", "word"]


def test_a_row_without_a_seed_draws_anew(fake_runtime: Runtime, seeds: list[int | None]) -> None:
    [row] = generate(fake_runtime, [BODY], spec=SHORT)
    assert (seeds, row.code) == ([None, None, None], "check_failed:length:0|3")


def test_a_row_that_fails_otherwise_is_not_asked_again(fake_runtime: Runtime) -> None:
    [row] = generate(fake_runtime, [{"prompt": "x" * 4096, "temperature": 0.7}], COMPLETIONS, spec=SHORT)
    assert row.code == "prompt_too_long"


def test_each_prompt_is_checked_against_its_own_answers(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSlots, "_answer", lambda _slots, text, _row: Generation(f"{text} again", [1], "stop"))
    spec = {"checks": [{"check": "unlike_prompt", "similarity": 0.7}], "tries": 1}
    prompts = ["tell me of tables of oak that are oiled", "tell me of chairs"]
    [row] = generate(fake_runtime, [{"prompt": prompts}], COMPLETIONS, spec=spec)
    assert row.code == "check_failed:unlike_prompt:0|1"


def test_an_answer_without_checks_does_not_speak_of_tries(fake_runtime: Runtime) -> None:
    [row] = generate(fake_runtime, [BODY])
    assert "tries" not in body_of(row.payload)


def test_a_worker_that_cannot_check_fails_each_row_and_asks_no_model(fake_runtime: Runtime, seeds: list[int | None]) -> None:
    rows = generate(fake_runtime, [BODY, BODY], spec={"checks": [{"check": "of a newer version"}]})
    assert ([row.code for row in rows], seeds) == (["check_unavailable"] * 2, [])


def test_seeds_of_the_next_try_follow_those_of_the_one_before() -> None:
    ask = TASKS["generate"].ask(chat.ChatBody(input="a", seed=2**63 - 2, n=2), chat.ChatBody(), chat.ENDPOINT)
    assert [request.sampling.seed for tried in (0, 1) for request in ask.each(tried)] == [2**63 - 2, 2**63 - 1, -(2**63), -(2**63) + 1]
