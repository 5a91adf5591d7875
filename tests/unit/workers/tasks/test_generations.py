"""Answers of a generation, in the shapes that the stock client's types read."""

import json
from typing import Any
from uuid import uuid4

import pytest
from openai.types import Completion, ModerationCreateResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from db.catalogue.heads import Head
from db.queue.row import WorkRow
from tests.workers.asking import generate, run
from workers.batches.outcomes import FailedRow
from workers.engines.contract.decoding import Generation
from workers.engines.fake import expected_text, vectors_of
from workers.inference.continuous import TAKEN_BACK
from workers.inference.runtime import Runtime
from workers.tasks import TASKS
from workers.tasks.generate import forms
from workers.tasks.generate.trying import OpenRow
from workers.tasks.moderate.task import CATEGORIES, UNFIT
from workers.tasks.reading import Reader
from workers.tasks.task import Group, LabelSet
from workers.training.head import fit_head

COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}


def body_of(row: WorkRow) -> Any:
    assert row.code is None, row.code
    return json.loads(row.payload or b"")


def test_n_answers_are_one_result_and_usage_counts_the_prompt_once(fake_runtime: Runtime) -> None:
    [row] = generate(fake_runtime, [{**HELLO, "n": 3, "max_tokens": 2, "seed": 7}])
    answer = ChatCompletion.model_validate_json(row.payload or b"")
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {expected_text("hello", 2)}
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    usage = (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens)
    assert usage == (5, 6, 11) == (row.input_tokens, row.output_tokens, 11)
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


def test_answers_of_one_row_have_seeds_that_follow_each_other() -> None:
    ask = Reader(TASKS["generate"], "/v1/chat/completions", {}).ask(json.dumps({**HELLO, "n": 3, "seed": 7}).encode())
    assert [request.sampling.seed for request in ask.each()] == [7, 8, 9]
    ask = Reader(TASKS["generate"], "/v1/chat/completions", {"n": 2}).ask(json.dumps(HELLO).encode())
    assert [request.sampling.seed for request in ask.each()] == [None, None]


def test_a_prompt_of_several_answers_is_tokenised_once(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = type(fake_runtime.decoder("fake-decoder").engine)
    read: list[str] = []
    tokenize = engine.tokenize_prompt
    monkeypatch.setattr(engine, "tokenize_prompt", lambda self, prompt: read.append(prompt) or tokenize(self, prompt))
    rows = generate(fake_runtime, [{"prompt": ["one", "two"], "n": 3, "max_tokens": 2}, {"prompt": "two", "max_tokens": 2}], COMPLETIONS)
    told = [choice.text for row in rows for choice in Completion.model_validate_json(row.payload or b"").choices]
    assert told == [expected_text(prompt, 2) for prompt in ("one", "one", "one", "two", "two", "two", "two")]
    assert read in (["one", "two"], ["one", "two", "two"])


def test_what_a_row_must_look_like_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    grammar_of = forms.grammar_of
    reader = Reader(TASKS["generate"], RESPONSES, {})
    monkeypatch.setattr(forms, "grammar_of", lambda body: read.append(body) or grammar_of(body))
    ask = reader.ask(json.dumps({"input": "a", "text": {"format": {"type": "json_object"}}}).encode())
    assert ask.requests[0].grammar is not None
    assert len(read) == 1


def test_where_one_of_n_answers_fails_the_row_does(fake_runtime: Runtime) -> None:
    [row, fine] = generate(fake_runtime, [{"prompt": ["fine", "x" * 4096], "n": 2}, {"prompt": "fine"}], COMPLETIONS)
    assert (row.code, row.payload) == ("prompt_too_long", None)
    assert fine.code is None


def test_a_row_that_lost_one_of_its_answers_to_a_drain_is_left_as_it_is() -> None:
    ask = Reader(TASKS["generate"], "/v1/chat/completions", {}).ask(json.dumps({**HELLO, "n": 2}).encode())
    said = Generation("a", [1], "stop")
    for answers, ends in (([said, said], True), ([said, TAKEN_BACK], False), ([FailedRow("engine_error"), said], True)):
        one = OpenRow(WorkRow(0, ask=ask))
        one.begin()
        assert [one.take(nth, answer) for nth, answer in enumerate(answers)] == [False, ends]


def test_logprobs_of_a_chat_are_what_the_client_reads(fake_runtime: Runtime) -> None:
    told, plain = generate(fake_runtime, [{**HELLO, "logprobs": True, "top_logprobs": 2, "max_tokens": 3}, HELLO])
    answer = ChatCompletion.model_validate_json(told.payload or b"")
    [choice] = answer.choices
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert [len(one.top_logprobs) for one in choice.logprobs.content] == [2, 2, 2]
    assert [bytes(one.bytes or []).decode() for one in choice.logprobs.content] == [one.token for one in choice.logprobs.content]
    assert all(one.logprob <= 0 for one in choice.logprobs.content)
    assert body_of(plain)["choices"][0]["logprobs"] is None


def test_logprobs_of_a_completion_are_lists(fake_runtime: Runtime) -> None:
    [row] = generate(fake_runtime, [{"prompt": "once", "logprobs": 1, "max_tokens": 3}], COMPLETIONS)
    logprobs = Completion.model_validate_json(row.payload or b"").choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.text_offset, len(logprobs.tokens or []), [len(top) for top in logprobs.top_logprobs or []]) == (
        [0, 1, 2],
        3,
        [1, 1, 1],
    )


def test_several_prompts_are_answered_in_one_result_in_their_order(fake_runtime: Runtime) -> None:
    [row] = generate(fake_runtime, [{"prompt": ["one", "two"], "n": 2, "max_tokens": 2, "best_of": 2}], COMPLETIONS)
    answer = Completion.model_validate_json(row.payload or b"")
    assert [choice.text for choice in answer.choices] == [expected_text(text, 2) for text in ("one", "one", "two", "two")]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 8)


def test_a_prompt_may_be_tokens_of_the_model(fake_runtime: Runtime) -> None:
    one, two, wild = generate(
        fake_runtime, [{"prompt": [111, 110, 101]}, {"prompt": [[111, 110, 101], [116]], "max_tokens": 1}, {"prompt": [257]}], COMPLETIONS
    )
    assert body_of(one)["choices"][0]["text"] == expected_text("one")
    assert [choice["text"] for choice in body_of(two)["choices"]] == [expected_text("one", 1), expected_text("t", 1)]
    assert wild.code == "invalid_field:prompt:tokens of the model, which are below 257"


def test_a_bias_of_a_token_that_is_none_is_named(fake_runtime: Runtime) -> None:
    row, fine = generate(fake_runtime, [{**HELLO, "logit_bias": {"257": 5}}, {**HELLO, "logit_bias": {"256": 5}}])
    assert str(row.code).startswith("invalid_field:logit_bias:")
    assert fine.code is None


def test_a_fingerprint_says_engine_and_version(fake_runtime: Runtime) -> None:
    [row] = generate(fake_runtime, [HELLO])
    assert body_of(row)["system_fingerprint"].startswith("fake-decoder@1+textmill-")


def test_a_response_is_what_the_client_reads(fake_runtime: Runtime) -> None:
    bodies = [
        {"input": "hello", "instructions": "Be kind.", "max_output_tokens": 2, "metadata": {"a": "b"}},
        {"input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}]},
        {"input": "hello", "include": ["message.output_text.logprobs"], "max_output_tokens": 1},
    ]
    cut, whole, told = (Response.model_validate_json(row.payload or b"") for row in generate(fake_runtime, bodies, RESPONSES))
    assert (cut.output_text, cut.status, cut.metadata) == (expected_text("hello", 2), "incomplete", {"a": "b"})
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    assert (whole.output_text, whole.status, whole.incomplete_details) == (expected_text("hello"), "completed", None)
    assert cut.usage is not None
    assert (cut.usage.input_tokens, cut.usage.output_tokens, cut.usage.total_tokens) == (5, 2, 7)
    assert told.output[0].content[0].logprobs is not None  # type: ignore[union-attr, index]


@pytest.mark.parametrize(
    ("endpoint", "asked"),
    [
        ("/v1/chat/completions", {**HELLO, "response_format": FORMAT}),
        ("/v1/chat/completions", {**HELLO, "guided_json": json.dumps(SCHEMA)}),
        (COMPLETIONS, {"prompt": "hello", "structured_outputs": {"json": SCHEMA}}),
        (RESPONSES, {"input": "hello", "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}}),
    ],
)
def test_an_answer_that_must_be_json_is(fake_runtime: Runtime, endpoint: str, asked: dict[str, Any]) -> None:
    [row] = generate(fake_runtime, [{**asked, "n": 2} if endpoint != RESPONSES else asked], endpoint)
    values = TASKS["generate"].values(row.payload or b"")
    assert set(json.loads(str(values["text"]))) == {"a", "b"}


def test_an_answer_is_a_choice_or_matches_a_pattern(fake_runtime: Runtime) -> None:
    choice, pattern, anything = generate(
        fake_runtime,
        [
            {**HELLO, "guided_choice": ["yes", "no"]},
            {**HELLO, "guided_regex": "[0-9]{3}"},
            {**HELLO, "response_format": {"type": "json_object"}},
        ],
    )
    assert body_of(choice)["choices"][0]["message"]["content"] in {"yes", "no"}
    assert len(body_of(pattern)["choices"][0]["message"]["content"]) == 3
    assert isinstance(json.loads(body_of(anything)["choices"][0]["message"]["content"]), dict)


def test_an_answer_that_its_limit_cuts_is_a_failure_and_never_broken_json(fake_runtime: Runtime) -> None:
    cut, stopped, fine = generate(
        fake_runtime,
        [
            {**HELLO, "response_format": FORMAT, "max_tokens": 5},
            {**HELLO, "guided_regex": "[ab]{9}", "max_tokens": 8},
            {**HELLO, "response_format": FORMAT},
        ],
    )
    assert (cut.code, cut.payload) == (stopped.code, stopped.payload) == ("unfinished_answer", None)
    assert fine.code is None


def test_a_schema_of_a_row_that_cannot_be_met_fails_that_row(fake_runtime: Runtime) -> None:
    row, fine = generate(fake_runtime, [{**HELLO, "guided_json": {"enum": []}}, HELLO])
    assert row.code == "invalid_grammar:guided_json:nothing can meet it"
    assert fine.code is None


class OneName:
    """Names of which one is a head's."""

    def __init__(self, group: Group | str) -> None:
        self._group = group

    def group(self, name: str | None) -> Group | str:
        return self._group

    def label_set(self, name: str) -> LabelSet | str:
        return "unknown_label_set"


def moderating(labels: list[str]) -> Head:
    texts = [f"{label} {number}" for label in labels for number in range(6)]
    trained = fit_head(vectors_of([text.encode() for text in texts]), [label for label in labels for _ in range(6)])
    return Head(uuid4(), 2, "fake-encoder", "0123456789abcdef", trained.card, trained.weights)


def test_a_head_that_knows_categories_moderates(fake_runtime: Runtime) -> None:
    head = moderating(["fine", "hate", "violence"])
    reader = Reader(TASKS["moderate"], "/v1/moderations", {})
    asks = [reader.ask(json.dumps({"input": given}).encode()) for given in ("hate 1", ["fine 1", "violence 2"])]
    _, rows = run(fake_runtime, "moderate", "fake-encoder", asks, head=head)
    one, two = (ModerationCreateResponse.model_validate_json(row.payload or b"") for row in rows)
    assert [len(one.results), len(two.results)] == [1, 2]
    told = body_of(rows[0])["results"][0]
    assert (told["flagged"], told["categories"]["hate"], told["categories"]["violence"]) == (True, True, False)
    assert set(told["categories"]) == set(CATEGORIES) == set(told["category_scores"])
    assert told["category_applied_input_types"]["hate"] == ["text"]
    assert told["category_applied_input_types"]["sexual"] == []
    assert [result["flagged"] for result in body_of(rows[1])["results"]] == [False, True]


def test_a_model_that_moderates_nothing_is_refused_with_what_to_do_instead(fake_runtime: Runtime) -> None:
    task = TASKS["moderate"]
    ask = Reader(task, "/v1/moderations", {}).ask(b'{"input": "a text"}')
    assert task.place(ask, OneName(Group("m"))) == UNFIT
    assert task.place(ask, OneName(Group("head:a", None, moderating(["good", "bad"])))) == UNFIT
    assert task.place(ask, OneName("unknown_model")) == "unknown_model"
    _, [row] = run(fake_runtime, "moderate", "fake-encoder", [ask])
    assert row.code == UNFIT


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], ["a\nb"]),
        (["a", "b"], ["a", "b"]),
        ([], "invalid_field:input:text, or a list of 1 to 2,048 texts"),
        (["a", ""], "empty_input:input[1]"),
        ([{"type": "text"}], "invalid_field:input[0].text:text"),
        (
            [{"type": "image_url", "image_url": {"url": "data:"}}],
            'unsupported_field:input[0].type:"text"|since texts alone are judged, and not beside parts of one',
        ),
    ],
)
def test_what_is_moderated_is_a_text_or_several_or_parts_of_one(given: Any, found: Any) -> None:
    ask = Reader(TASKS["moderate"], "/v1/moderations", {}).ask(json.dumps({"input": given}).encode())
    assert (ask if isinstance(ask, str) else ask.texts) == found
