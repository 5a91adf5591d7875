import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.failures import FAILURES, parts_of
from workers.engines.contract.generation import GenerateRequest, Sampling
from workers.tasks import TASKS
from workers.tasks.classify.task import ClassifyBody
from workers.tasks.embed.task import EmbedBody
from workers.tasks.reading import InvalidDefaults, Reader, check_defaults, check_labels, is_blank
from workers.tasks.train.task import TrainBody

LABELS = {"labels": ["sport", "politics"]}
SECRET = "zebra-quartz-canary"


def reader(task: str = "classify", endpoint: str = "/v1/classifications", **defaults: Any) -> Reader:
    return Reader(TASKS[task], endpoint, defaults)


def classify(body: Any, **defaults: Any) -> ClassifyBody | str:
    answer = reader(**defaults).ask(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert isinstance(answer, ClassifyBody | str)
    return answer


def chat(body: Any, endpoint: str = "/v1/chat/completions", **defaults: Any) -> GenerateRequest | str:
    answer = reader("generate", endpoint, **defaults).ask(json.dumps(body).encode())
    if isinstance(answer, str):
        return answer
    [asked] = answer.requests
    assert isinstance(asked, GenerateRequest)
    return asked


def named(stored: str) -> str:
    """Code and outermost field of a failure."""
    code, field, _ = parts_of(stored)
    return f"{code}:{field.partition('[')[0]}" if field else code


def test_a_row_is_laid_over_the_defaults() -> None:
    row = classify({"input": "goal"}, model="minilm-l6-v2", templates=["about {}"], on_long="refuse", **LABELS)
    assert row == ClassifyBody(model="minilm-l6-v2", input="goal", labels=["sport", "politics"], templates=["about {}"], on_long="refuse")


def test_how_a_long_text_is_read_is_laid_over_the_defaults_field_by_field() -> None:
    row = classify({"input": "goal", "stride": 8}, on_long="chunk", pool="max", **LABELS)
    assert isinstance(row, ClassifyBody)
    assert (row.on_long, row.pool, row.stride) == ("chunk", "max", 8)
    row = classify({"input": "goal", "on_long": "truncate"}, on_long="chunk", pool="max", **LABELS)
    assert isinstance(row, ClassifyBody)
    assert row.on_long == "truncate"


def test_the_jobs_model_is_taken_where_nothing_names_one() -> None:
    row = Reader(TASKS["classify"], "/v1/classifications", {}, model="head:desk").ask(b'{"input":"goal"}')
    assert row == ClassifyBody(model="head:desk", input="goal")
    row = Reader(TASKS["classify"], "/v1/classifications", {**LABELS, "model": "m"}, model="other").ask(b'{"input":"goal"}')
    assert isinstance(row, ClassifyBody)
    assert row.model == "m"


def test_a_row_that_names_labels_sets_the_default_label_set_aside() -> None:
    row = classify({"input": "goal", "labels": ["a", "b"]}, label_set="desks")
    assert isinstance(row, ClassifyBody)
    assert (row.labels, row.label_set) == (["a", "b"], None)


def test_a_rows_own_descriptions_are_of_labels_of_the_default_list() -> None:
    assert named(str(classify({"input": "goal", "descriptions": {"nolabel": "x"}}, **LABELS))) == "invalid_field:descriptions"
    asked = classify({"input": "goal", "descriptions": {LABELS["labels"][0]: "x"}}, **LABELS)
    assert isinstance(asked, ClassifyBody)


def test_null_means_take_the_default() -> None:
    row = classify({"input": "goal", "model": None, "labels": None}, model="m", **LABELS)
    assert isinstance(row, ClassifyBody)
    assert (row.model, row.labels) == ("m", LABELS["labels"])


def test_rows_with_the_default_labels_share_one_list() -> None:
    one = reader(**LABELS)
    first, second = one.ask(b'{"input":"a"}'), one.ask(b'{"input":"b"}')
    assert isinstance(first, ClassifyBody)
    assert isinstance(second, ClassifyBody)
    assert first.labels is second.labels


def test_a_head_needs_no_labels_and_takes_none() -> None:
    row = classify({"input": "goal", "model": "head:desk"}, **LABELS)
    assert isinstance(row, ClassifyBody)
    assert row.labels is None
    assert classify({"input": "goal", "model": "head:desk", **LABELS}) == "invalid_field:labels"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"input":"a"} trailing', "invalid_json"),
        (b"3", "not_an_object"),
        (b"null", "not_an_object"),
        (b"[" * 200_000, "not_an_object"),
        (b'{"labels":' + b"[" * 200_000, "invalid_field:labels"),
        (b'{"deep":' + b"[" * 200_000, "unknown_field"),
        (b'{"input":"\xff"}', "invalid_utf8"),
        (b'{"input":"\xed\xa0\x80"}', "invalid_utf8"),
        (b'{"input":"a\x00b"}', "nul_character"),
        (b'{"input":"a\\u0000b"}', "nul_character:input"),
        (b'{"input":"\\ud800x"}', "lone_surrogate"),
        (b'{"input":"\\udc00x"}', "lone_surrogate"),
        (b'{"input":NaN}', "non_finite_number"),
        (b'{"input": -Infinity }', "non_finite_number"),
        (b"{}", "missing_input"),
        (b'{"input":""}', "empty_input:input"),
        ('{"input":"\u200b\u2060\ufeff \u00ad"}'.encode(), "empty_input:input"),
        ('{"input":"\u3164\u115f"}'.encode(), "empty_input:input"),
        ('{"input":"\ufe0f\u200d\u2800"}'.encode(), "empty_input:input"),
        (b'{"input":" \\n\\t"}', "empty_input:input"),
        (b'{"input":7}', "invalid_field:input"),
        (b'{"input":["a"]}', "invalid_field:input"),
        (b'{"input":"a","on_long":"explode"}', "invalid_field:on_long"),
        (b'{"input":"a","on_long":"chunk","pool":"median"}', "invalid_field:pool"),
        (b'{"input":"a","on_long":"chunk","stride":-1}', "invalid_field:stride"),
        (b'{"input":"a","templates":[]}', "invalid_field:templates"),
        (b'{"input":"a","templates":["no slot"]}', "invalid_field:templates"),
        (b'{"input":"a","labels":["a","b"],"label_set":"c"}', "invalid_field:label_set"),
        (b'{"input":"a","labels":["a","b",3]}', "invalid_field:labels"),
        (b'{"input":"a","labels":[]}', "too_few_labels"),
        (b'{"input":"a","labels":["a"]}', "too_few_labels"),
        (b'{"input":"a","labels":["a","a"]}', "duplicate_label"),
        (b'{"input":"a","labels":["sport","sport "]}', "duplicate_label"),
        ('{"input":"a","labels":["sport","sp\u200bort"]}'.encode(), "duplicate_label"),
        ('{"input":"a","labels":["caf\u00e9","cafe\u0301"]}'.encode(), "duplicate_label"),
        (b'{"input":"a","labels":["a  b","a b"]}', "duplicate_label"),
        ('{"input":"a","labels":["a","\u200b"]}'.encode(), "empty_label"),
        (b'{"input":"a","labels":["a",""]}', "empty_label"),
        (b'{"input":"a","labels":["a","  "]}', "empty_label"),
        (b'{"input":"a","labels":["a","b\\u0000"]}', "nul_character:label"),
    ],
)
def test_a_bad_body_gets_its_code(body: bytes, code: str) -> None:
    stored = classify(body, **LABELS)
    assert isinstance(stored, str)
    assert named(stored) == code
    assert code.partition(":")[0] in FAILURES


def test_no_labels_anywhere_is_a_missing_label_list() -> None:
    assert classify({"input": "a"}) == "missing_labels"


def test_five_thousand_labels_pass_and_one_more_does_not() -> None:
    labels = [f"label {n}" for n in range(5_000)]
    assert check_labels(labels) is None
    assert check_labels([*labels, "one more"]) == "too_many_labels"


@pytest.mark.parametrize("where", ["key", "value", "nested key"])
def test_no_failure_quotes_the_row(where: str) -> None:
    body = {"key": {SECRET: 1}, "value": {"input": "x", "on_long": SECRET}, "nested key": {"messages": [{"role": "user", SECRET: 1}]}}[
        where
    ]
    endpoint = "/v1/chat/completions" if where == "nested key" else "/v1/classifications"
    answer = reader("generate" if where == "nested key" else "classify", endpoint).ask(json.dumps(body).encode())
    assert isinstance(answer, str)
    assert SECRET not in answer


def test_a_field_name_that_imitates_the_decoder_cannot_smuggle_itself_out() -> None:
    assert named(str(classify({f"x` - at `$.{SECRET}": 1}))) == "unknown_field"


def test_a_chat_row_keeps_its_settings() -> None:
    row = chat({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "seed": 5, "stop": "\n"}, temperature=0.5, max_tokens=99)
    assert isinstance(row, GenerateRequest)
    assert (row.max_tokens, row.stop) == (8, ("\n",))
    assert row.sampling == Sampling(temperature=0.5, seed=5)
    assert row.messages[0].content == "hi"


def test_a_plain_text_follows_the_default_messages_as_the_users_turn() -> None:
    row = chat({"input": "a text"}, messages=[{"role": "system", "content": "Summarise."}])
    assert isinstance(row, GenerateRequest)
    assert [(m.role, m.content) for m in row.messages] == [("system", "Summarise."), ("user", "a text")]


def test_a_completion_takes_a_prompt_or_a_plain_text() -> None:
    for body in ({"prompt": "once"}, {"input": "once"}):
        row = chat(body, "/v1/completions")
        assert isinstance(row, GenerateRequest)
        assert (row.prompt, row.messages) == ("once", ())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_input:messages"),
        ({"messages": []}, "missing_input:messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "empty_input:messages"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "invalid_field:messages"),
        ({"messages": [{"role": "user"}]}, "missing_input:messages"),
        ({"messages": [{"role": "user", "content": "x", "extra": 1}]}, "unknown_field:messages"),
        ({"messages": [{"role": "user", "content": "a\0"}]}, "nul_character:messages"),
        ({"prompt": "x"}, "unsupported_field:prompt"),
        ({"messages": [{"role": "user", "content": "x"}], "temperature": 3}, "invalid_field:temperature"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}, "invalid_field:max_tokens"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": True}, "invalid_field:max_tokens"),
        ({"messages": [{"role": "user", "content": "x"}], "n": 0}, "invalid_field:n"),
        ({"messages": [{"role": "user", "content": "x"}], "n": 129}, "invalid_field:n"),
        ({"messages": [{"role": "user", "content": "x"}], "seed": 2**70}, "invalid_field:seed"),
        ({"messages": [{"role": "user", "content": "x"}], "stop": ["a"] * 5}, "invalid_field:stop"),
    ],
)
def test_a_bad_chat_row_gets_its_code(body: Any, code: str) -> None:
    stored = chat(body)
    assert isinstance(stored, str)
    assert named(stored) == code
    assert code.partition(":")[0] in FAILURES


def test_a_fraction_is_told_from_a_whole_number() -> None:
    stored = chat({"messages": [{"role": "user", "content": "x"}], "max_tokens": 4.5})
    assert stored == "invalid_field:max_tokens:a whole number|a fraction"


def test_an_endless_number_is_named_with_its_field() -> None:
    answer = reader("generate", "/v1/chat/completions").ask(b'{"temperature":1e999}')
    assert answer == "non_finite_number:temperature"


def test_an_embedding_row_may_ask_for_base64() -> None:
    row = reader("embed", "/v1/embeddings").ask(b'{"model":"m","input":"x","encoding_format":"base64"}')
    assert row == EmbedBody(model="m", input="x", encoding_format="base64")


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"input": "a", "label": "b"}, TrainBody(input="a", label="b")),
        ({"input": "a"}, "missing_label"),
        ({"input": "a", "label": " sport\u00a0"}, TrainBody(input="a", label="sport")),
        ({"input": "a", "label": " "}, "empty_label"),
        ({"label": "b"}, "missing_input"),
        ({"input": "a", "label": "b" * 1001}, "invalid_field:label"),
    ],
)
def test_a_training_row_needs_a_text_and_a_label(body: Any, answer: Any) -> None:
    assert reader("train", "/v1/heads").ask(json.dumps(body).encode()) == answer


@pytest.mark.parametrize(
    ("task", "defaults", "code"),
    [
        ("classify", {"labels": ["a", "b"]}, None),
        ("classify", {"labels": ["a"]}, "too_few_labels"),
        ("classify", {"lables": ["a", "b"]}, "unknown_field"),
        ("classify", {"labels": "a"}, "invalid_field:labels"),
        ("classify", {"labels": ["a", "\ud800"]}, "lone_surrogate"),
        ("generate", {"temperature": float("nan")}, None),
        ("generate", {"temperature": float("inf")}, None),
        ("generate", {"max_tokens": "many"}, "invalid_field:max_tokens"),
        ("train", {"labels": []}, "unknown_field:labels"),
    ],
)
def test_defaults_are_checked_before_any_row_runs(task: str, defaults: dict[str, Any], code: str | None) -> None:
    endpoint = {"classify": "/v1/classifications", "generate": "/v1/chat/completions", "train": "/v1/heads"}[task]
    found = check_defaults(TASKS[task], endpoint, defaults)
    if "temperature" in defaults:
        assert named(str(found)) in {"invalid_field:temperature", "non_finite_number"}
    else:
        assert found is None if code is None else named(str(found)) == code


def test_bad_defaults_carry_a_code_and_nothing_else() -> None:
    with pytest.raises(InvalidDefaults) as caught:
        reader(**{SECRET: "x"})
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_raise(body: bytes) -> None:
    answer = reader(**LABELS).ask(body)
    assert isinstance(answer, ClassifyBody | str)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["input", "labels", "messages", "stop", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(["classify", "generate", "embed", "train"]), json_values)
def test_every_failure_is_a_code_of_the_table(task: str, value: Any) -> None:
    answer = reader(task, "/v1/chat/completions").ask(json.dumps(value).encode())
    if isinstance(answer, str):
        assert answer.partition(":")[0] in FAILURES


@given(st.text(min_size=1).filter(lambda t: not is_blank(t) and "\0" not in t))
def test_a_text_arrives_as_it_was_sent(text: str) -> None:
    row = reader(**LABELS).ask(msgspec.json.encode({"input": text}))
    assert isinstance(row, ClassifyBody)
    assert row.input == text
