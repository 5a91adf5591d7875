"""Rows that nobody would write, and somebody sends: each is its own failure, or is answered, and no neighbour's."""

import json
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from db.actors import Lease
from db.queue.row import WorkRow
from tests.workers.asking import generate
from workers.inference.runtime import Runtime
from workers.shard.reading import read_rows
from workers.tasks import TASKS
from workers.tasks.generate.body import MAX_ANSWERS, GenerateAsk
from workers.tasks.reading import Reader, check_defaults
from workers.tasks.task import Group

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
GENERATE = TASKS["generate"]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
TEXT_FORMAT = {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}


def asked(body: dict[str, Any], endpoint: str = CHAT, defaults: dict[str, Any] | None = None, *, plain: bool = False) -> Any:
    least: dict[str, Any] = {CHAT: {"messages": [{"role": "user", "content": "Hi"}]}, COMPLETIONS: {"prompt": "Hi"}, RESPONSES: {}}[
        endpoint
    ]
    return Reader(GENERATE, endpoint, defaults or {}).ask(json.dumps({**least, **body}).encode(), plain=plain)


@pytest.mark.parametrize("kind", [[], {}, ["text"], 1, 1.5, True, None])
def test_a_part_of_a_message_whose_kind_is_no_text_is_named(kind: object) -> None:
    messages = [{"role": "user", "content": [{"type": kind, "text": "x"}]}]
    assert asked({"messages": messages}).startswith("unsupported_field:messages[0].content[0].type:")
    assert asked({"input": messages}, RESPONSES).startswith("unsupported_field:input[0].content[0].type:")
    assert (check_defaults(GENERATE, CHAT, {"messages": messages}) or "").startswith("unsupported_field:messages[0]")


@pytest.mark.parametrize("prompt", [[2**31], [2**63], [10**30], [[1, 2**63]]])
def test_a_token_that_no_vocabulary_has_is_its_rows_fault(prompt: object) -> None:
    assert asked({"prompt": prompt}, COMPLETIONS).startswith("invalid_field:prompt")


def test_what_fails_in_reading_one_row_costs_no_neighbour_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*given: Any) -> Any:
        if given[0].max_tokens == 7:
            raise TypeError("which holds the row's text")
        return GENERATE.__class__.ask(GENERATE, *given)

    monkeypatch.setattr(GENERATE, "ask", ask)
    rows = [WorkRow(at, body=json.dumps({"prompt": "x", "max_tokens": 6 + at}).encode(), endpoint=COMPLETIONS) for at in range(3)]
    lease = Lease(UUID(int=2), UUID(int=3), UUID(int=1), UUID(int=4), 1, 0, len(rows), "generate", COMPLETIONS, "fake-decoder", None)
    [(_, kept)] = read_rows(GENERATE, lease, {}, rows, cast(Any, SimpleNamespace(group=lambda *_: Group("fake-decoder"))), max_labels=9)
    assert [row.code for row in rows] == [None, "engine_error", None]
    assert [row.idx for row in kept] == [0, 2]


def test_what_fails_in_tokenising_one_prompt_costs_no_neighbour_its_answer(
    fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = fake_runtime.decoder("fake-decoder").engine
    tokenize = type(engine).tokenize_prompt

    def failing(own: Any, prompt: str) -> Any:
        if prompt == "quixotic":
            raise OverflowError(prompt)
        return tokenize(own, prompt)

    monkeypatch.setattr(type(engine), "tokenize_prompt", failing)
    [odd, fine] = generate(fake_runtime, [{"prompt": "quixotic"}, {"prompt": "fine"}], COMPLETIONS)
    assert (odd.code, fine.code) == ("engine_error", None)
    assert "OverflowError" in caplog.text
    assert "quixotic" not in caplog.text


def test_answers_of_all_prompts_of_a_row_count_together() -> None:
    half = MAX_ANSWERS // 2
    assert isinstance(asked({"prompt": ["a", "b"], "n": half}, COMPLETIONS), GenerateAsk)
    assert asked({"prompt": ["a", "b"], "n": half + 1}, COMPLETIONS).startswith("invalid_field:n:")


def test_logprobs_of_a_row_are_bounded_by_what_it_may_answer() -> None:
    assert isinstance(asked({"logprobs": True, "top_logprobs": 20, "max_tokens": 32_768}), GenerateAsk)
    assert asked({"logprobs": True, "top_logprobs": 20, "max_tokens": 2_000, "n": 128}).startswith("invalid_field:top_logprobs:")
    assert asked({"logprobs": 5, "max_tokens": 8_000, "n": 128}, COMPLETIONS).startswith("invalid_field:logprobs:")


def test_a_row_may_ask_for_free_text_where_its_job_asks_for_a_form() -> None:
    for defaults in ({"response_format": FORMAT}, {"guided_regex": "a+"}):
        assert asked({}, defaults=defaults).requests[0].grammar is not None
        assert asked({"response_format": None}, defaults=defaults).requests[0].grammar is not None
        assert asked({"response_format": {"type": "text"}}, defaults=defaults).requests[0].grammar is None
    free = asked({"input": "Hi", "text": {"format": {"type": "text"}}}, RESPONSES, {"text": TEXT_FORMAT})
    assert free.requests[0].grammar is None
    assert asked({"response_format": {"type": "text"}, "guided_regex": "a+"}).requests[0].grammar is not None


@pytest.mark.parametrize(
    ("fields", "endpoint", "code"),
    [
        ({"input": "Hi", "text": {"verbosity": "low"}}, RESPONSES, 'unsupported_field:text.verbosity:"medium"|'),
        ({"input": "Hi", "text": {"formt": {"type": "json_object"}}}, RESPONSES, "invalid_field:text:"),
        ({"input": "Hi", "text": {"format": {**TEXT_FORMAT["format"], "strickt": True}}}, RESPONSES, "invalid_field:text.format:"),
        ({"response_format": {"type": "text", "json_schema": {"schema": SCHEMA}}}, CHAT, "invalid_field:response_format:"),
        ({"response_format": {**FORMAT, "strict": True}}, CHAT, "invalid_field:response_format:"),
    ],
)
def test_what_a_form_says_besides_is_not_left_aside(fields: dict[str, Any], endpoint: str, code: str) -> None:
    assert asked(fields, endpoint).startswith(code)


def test_a_form_with_what_clients_send_along_is_taken() -> None:
    own = {**FORMAT["json_schema"], "strict": True, "description": "What it is."}  # type: ignore[dict-item]
    assert asked({"response_format": {"type": "json_schema", "json_schema": own}}).requests[0].grammar is not None
    assert asked({"response_format": {"type": "json_object", "schema": SCHEMA}}).requests[0].grammar.source == SCHEMA
    assert asked({"input": "Hi", "text": {"verbosity": "medium"}}, RESPONSES).requests[0].grammar is None


def test_a_plain_row_is_read_under_the_names_of_its_endpoint() -> None:
    ask = asked({"input": "Hi", "max_tokens": 5}, RESPONSES, plain=True)
    assert ask.requests[0].max_tokens == 5
    ask = asked({"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 6}, RESPONSES, plain=True)
    assert (ask.requests[0].max_tokens, ask.requests[0].messages[0].content) == (6, "Hi")
    assert asked({"input": "Hi", "max_tokens": 5}, RESPONSES).startswith("unknown_field:max_tokens")


def test_a_temperature_that_is_as_good_as_none_is_none() -> None:
    for temperature in (1e-50, 2.2e-308, 5e-324, 1e-7):
        assert asked({"temperature": temperature}).requests[0].sampling.temperature == 0.0
    assert asked({"temperature": 0.01}).requests[0].sampling.temperature == 0.01


def test_a_bias_that_names_no_token_is_refused_where_it_is_its_jobs() -> None:
    assert (check_defaults(GENERATE, CHAT, {"logit_bias": {"notanumber": 1}}) or "").startswith("invalid_field:logit_bias:")
    assert check_defaults(GENERATE, CHAT, {"logit_bias": {"5": 1}}) is None


def test_every_seed_of_a_row_fits_64_bits() -> None:
    seeds = [request.sampling.seed for request in asked({"seed": 2**63 - 1, "n": 3}).each()]
    assert seeds == [2**63 - 1, -(2**63), -(2**63) + 1]
