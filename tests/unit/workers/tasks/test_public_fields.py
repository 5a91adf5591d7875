"""What clients of the public API send along: taken where it asks for nothing, named where it asks for something that is not done."""

import json
from typing import Any

import msgspec
import pytest

from db.failures import describe
from workers.tasks import TASKS
from workers.tasks.embed.task import EmbedBody
from workers.tasks.generate.body import GenerateAsk
from workers.tasks.public_fields import ANY, FIELDS, MESSAGE_FIELDS, OWN_NAMES
from workers.tasks.reading import Reader, check_defaults

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
NO_TOOLS = "since no tools are called in a batch"
ONLY_TEXT = "since models here read and write text"
HELLO = [{"role": "user", "content": "Say hi."}]


def chat(fields: dict[str, Any], endpoint: str = CHAT) -> GenerateAsk | str:
    body = {"messages": HELLO} if endpoint == CHAT else {"prompt": "Say hi."}
    read = Reader(TASKS["generate"], endpoint, {}).ask(json.dumps({**body, **fields}).encode())
    assert isinstance(read, GenerateAsk | str)
    return read


def embed(fields: dict[str, Any]) -> EmbedBody | str:
    read = Reader(TASKS["embed"], "/v1/embeddings", {}).ask(json.dumps({"model": "m", "input": "x", **fields}).encode())
    assert isinstance(read, EmbedBody | str)
    return read


def said(messages: list[object]) -> list[tuple[str, str]] | str:
    read = chat({"messages": messages})
    return read if isinstance(read, str) else [(message.role, message.content) for message in read.requests[0].messages]


@pytest.mark.parametrize("user", [5, 1.5, True, "u", "", ["u"], {"id": 5}, None])
@pytest.mark.parametrize("task", ["classify", "embed", "generate"])
def test_a_user_of_whatever_type_is_left_aside(task: str, user: object) -> None:
    body = {"prompt": "Say hi."} if task == "generate" else {"input": "x"}
    endpoint = TASKS[task].endpoints[-1] if task != "generate" else COMPLETIONS
    defaults = {"labels": ["a", "b"]} if task == "classify" else {}
    read = Reader(TASKS[task], endpoint, defaults, model="m").ask(json.dumps({**body, "user": user}).encode())
    assert not isinstance(read, str), read


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": False},
        {"stream": None, "tools": None, "store": None, "audio": None, "prediction": None, "web_search_options": None},
        {"logit_bias": {}},
        {"response_format": {"type": "text"}},
        {"frequency_penalty": 0, "presence_penalty": 0.0},
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True},
        {"logprobs": False, "top_logprobs": 0},
        {"n": 1, "modalities": ["text"], "store": False, "service_tier": "auto", "reasoning_effort": "none"},
        {"metadata": {"team": "news"}, "user": "u1", "safety_identifier": "s", "prompt_cache_key": "k"},
        {"stream_options": {"include_usage": True}},
        {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": False, "skip_special_tokens": True},
        {"best_of": 1, "echo": False, "suffix": None, "use_beam_search": False, "guided_json": None},
        {"n": 1.0, "max_tokens": 6.0, "seed": 7.0},
    ],
)
@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_a_field_that_asks_for_nothing_is_taken(fields: dict[str, Any], endpoint: str) -> None:
    assert isinstance(chat(fields, endpoint), GenerateAsk)


@pytest.mark.parametrize(
    ("fields", "code", "sentence"),
    [
        (
            {"stream": True},
            "unsupported_field",
            "What the field `stream` asks for is not done here, since answers are read from the output file of the batch:"
            " leave it out, or send false.",
        ),
        ({"tools": [{"type": "function"}]}, "unsupported_field", "What the field `tools` asks for is not done here, since no tools"),
        (
            {"audio": {}},
            "unsupported_field",
            "What the field `audio` asks for is not done here, since models here read",
        ),
        ({"response_format": {"type": "grammar"}}, "unsupported_field", "What the field `response_format.type` asks for is not done here"),
        (
            {"response_format": {"type": "json_schema"}},
            "invalid_field",
            "The field `response_format.json_schema.schema` must be",
        ),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "invalid_field", "The field `guided_regex` must be left out"),
        ({"guided_choice": ["a", 3]}, "invalid_field", "The field `guided_choice[1]` must be text, and is a number."),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "unsupported_field", "What the field `structured_outputs` asks for is not"),
        ({"structured_outputs": {"choice": ["a", 3]}}, "invalid_field", "The field `structured_outputs.choice` must be a list of texts."),
        ({"top_logprobs": 3}, "invalid_field", "The field `top_logprobs` must be sent beside `logprobs`: true."),
        ({"logprobs": True, "top_logprobs": 21}, "invalid_field", "The field `top_logprobs` must be a whole number of at most 20."),
        ({"logit_bias": {"50256": -101}}, "invalid_field", "The field `logit_bias[...]` must be a number of at least -100."),
        ({"logit_bias": {"the": 5}}, "invalid_field", "The field `logit_bias` must be an object whose keys are numbers of tokens."),
        ({"frequency_penalty": 2.1}, "invalid_field", "The field `frequency_penalty` must be a number of at most 2."),
        ({"presence_penalty": False}, "invalid_field", "The field `presence_penalty` must be a number, and is true or false."),
        ({"repetition_penalty": 0}, "invalid_field", "The field `repetition_penalty` must be a number of more than 0"),
        ({"min_p": 1.5}, "invalid_field", "The field `min_p` must be a number of at most 1."),
        ({"top_k": -2}, "invalid_field", "The field `top_k` must be a whole number of at least -1."),
        ({"labels": ["a", "b"]}, "unknown_field", "The field `labels` is not known here; known are model, input"),
        ({"max_token": 6}, "unknown_field", "A field is not known here; known are model, input"),
        ({"n": 129}, "invalid_field", "The field `n` must be a whole number of at most 128."),
        ({"temperature": "hot"}, "invalid_field", "The field `temperature` must be a number, and is text."),
        ({"temperature": 3}, "invalid_field", "The field `temperature` must be a number of at most 2."),
        ({"max_tokens": 0}, "invalid_field", "The field `max_tokens` must be a whole number of at least 1."),
        ({"max_tokens": True}, "invalid_field", "The field `max_tokens` must be a whole number, and is true or false."),
        ({"max_tokens": 6.5}, "invalid_field", "The field `max_tokens` must be a whole number, and is a fraction."),
        ({"stop": ["a"] * 5}, "invalid_field", "The field `stop` must be a list of at most 4 entries."),
        ({"stop": [7]}, "invalid_field", "The field `stop[0]` must be text, and is a number."),
    ],
)
def test_a_field_that_asks_for_something_else_is_named(fields: dict[str, Any], code: str, sentence: str) -> None:
    stored = chat(fields)
    assert isinstance(stored, str)
    assert describe(stored).code == code
    assert describe(stored).message.startswith(sentence)


def test_an_unknown_name_is_never_repeated() -> None:
    secret = "zebra_quartz_canary"
    for body in (
        {secret: 1},
        {"messages": [{**HELLO[0], secret: 1}]},
        {"stream": True, secret: 1},
        {"metadata": {secret: 1}, "echo": True},
        {"logit_bias": {secret: 1}},
        {"structured_outputs": {secret: 1}},
        {"response_format": {"type": secret}},
    ):
        stored = chat(body)
        assert isinstance(stored, str)
        assert secret not in stored


def test_no_effect_means_no_effect_in_type_too() -> None:
    for fields in ({"logprobs": 0}, {"frequency_penalty": False}, {"best_of": True}, {"min_tokens": False}):
        assert isinstance(chat(fields), str)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Say hi.", "Say hi."),
        ([{"type": "text", "text": "Say hi."}], "Say hi."),
        ([{"type": "text", "text": "Say"}, {"type": "text", "text": "hi."}], "Say\nhi."),
        ([{"type": "text", "text": "Say hi.", "cache_control": {"type": "ephemeral"}}], "Say hi."),
        ([{"type": "input_text", "text": "Say hi."}], "Say hi."),
        (["Say", "hi."], "Say\nhi."),
    ],
)
def test_the_parts_of_a_text_are_joined(content: object, text: str) -> None:
    assert said([{"role": "user", "content": content}]) == [("user", text)]


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (
            [{"type": "image_url", "image_url": {"url": "data:"}}],
            'unsupported_field:messages[0].content[0].type:"text"|since models here read and write text',
        ),
        (
            [{"type": "text", "text": "a"}, {"type": "input_audio"}],
            'unsupported_field:messages[0].content[1].type:"text"|since models here read and write text',
        ),
        ([{"type": "text", "text": 3}], "invalid_field:messages[0].content[0].text:text|a number"),
        ([{"type": "text"}], "invalid_field:messages[0].content[0].text:text|null"),
        ([], "empty_input:messages"),
        (7, "invalid_field:messages[0].content:text|a number"),
        ({"text": "a"}, "invalid_field:messages[0].content:text|an object"),
    ],
)
def test_a_part_that_is_no_text_is_named(content: object, stored: str) -> None:
    assert said([{"role": "user", "content": content}]) == stored


def test_an_answer_may_come_back_as_a_client_got_it() -> None:
    dumped = {
        "role": "assistant",
        "content": "Hello",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "reasoning_content": None,
        "provider_specific_fields": {},
        "name": None,
    }
    assert said([{"role": "user", "content": "Hi"}, dumped, *HELLO]) == [("user", "Hi"), ("assistant", "Hello"), ("user", "Say hi.")]


def test_a_message_without_a_text_says_nothing() -> None:
    assert said([*HELLO, {"role": "assistant", "content": None, "tool_calls": []}, *HELLO]) == [("user", "Say hi.")] * 2
    assert said([{"role": "user", "content": None}]) == "missing_input:messages"


@pytest.mark.parametrize(
    ("message", "stored"),
    [
        (
            {"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]},
            f"unsupported_field:messages[0].tool_calls:[]|{NO_TOOLS}",
        ),
        (
            {"role": "tool", "content": "a", "tool_call_id": "1"},
            f"unsupported_field:messages[0].tool_call_id:|{NO_TOOLS}",
        ),
        ({"role": "tool", "content": "a"}, 'invalid_field:messages[0].role:"system" or "developer" or "user" or "assistant"'),
        ({"role": "user", "content": "a", "zz": 1}, "unknown_field:messages[0]:content, name, role"),
        ({"content": "a"}, 'invalid_field:messages[0].role:"system" or "developer" or "user" or "assistant"'),
        ("hello", "invalid_field:messages[0]:an object|text"),
    ],
)
def test_what_a_message_asks_for_is_named(message: object, stored: str) -> None:
    assert said([message]) == stored


@pytest.mark.parametrize(
    "fields",
    [
        {"dimensions": 384},
        {"encoding_format": "float"},
        {"encoding_format": "base64", "user": "u"},
        {"encoding_format": None, "dimensions": None, "user": None, "stream": False, "metadata": {}},
        {"input": ["a", "b"]},
        {"input": ["a"], "dimensions": 384.0},
        {"input": [[1, 2], [3]]},
    ],
)
def test_an_embedding_takes_what_clients_send(fields: dict[str, Any]) -> None:
    read = embed(fields)
    assert isinstance(read, EmbedBody)
    assert list(read.texts) == ([fields["input"]] if isinstance(fields.get("input"), str) else fields.get("input", ["x"]))


def test_a_list_of_numbers_is_one_text_in_its_tokens() -> None:
    read = embed({"input": [1, 2]})
    assert isinstance(read, EmbedBody)
    assert read.texts == [[1, 2]]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (42, "invalid_field:input:text or a list|a number"),
        ([1, "a"], "invalid_field:input:texts, or tokens, and not both in one list"),
        (["a", [1]], "invalid_field:input:texts, or tokens, and not both in one list"),
        ([[1, 2], []], "empty_input:input[1]"),
        ([-1], "invalid_field:input[0]:a whole number of at least 0"),
        (["a", ""], "empty_input:input[1]"),
        (["a", "\u200b"], "empty_input:input[1]"),
        ([], "invalid_field:input:text, or a list of 1 to 2,048 texts"),
        (["a"] * 2_049, "invalid_field:input:text, or a list of 1 to 2,048 texts"),
        ({"text": "a"}, "invalid_field:input:text or a list|an object"),
    ],
)
def test_an_input_that_is_no_text_is_told_what_was_expected(value: object, stored: str) -> None:
    assert embed({"input": value}) == stored


def test_a_prompt_may_be_a_list_of_one() -> None:
    read = chat({"prompt": ["once"]}, COMPLETIONS)
    assert isinstance(read, GenerateAsk)
    assert [request.prompt for request in read.requests] == ["once"]


def test_defaults_take_what_rows_take() -> None:
    parts = [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}]
    assert check_defaults(TASKS["generate"], CHAT, {"stream": False, "messages": parts, "max_tokens": 6.0}) is None
    assert check_defaults(TASKS["generate"], CHAT, {"stream": True}) == (
        "unsupported_field:stream:false|since answers are read from the output file of the batch"
    )


def test_what_a_plain_row_asks_of_a_generation_is_left_aside_by_other_tasks() -> None:
    row = json.dumps({"input": "goal", "stop": ["a"], "temperature": 9}).encode()
    for task, endpoint in (("embed", "/v1/embeddings"), ("classify", "/v1/classifications")):
        reader = Reader(TASKS[task], endpoint, {"labels": ["a", "b"]} if task == "classify" else {})
        assert reader.ask(row, plain=True).input == "goal"
        assert str(reader.ask(row)).startswith("unknown_field:stop:")
    assert str(Reader(TASKS["generate"], CHAT, {}).ask(row, plain=True)).startswith("invalid_field:temperature:")


def test_a_rows_own_settings_go_before_the_jobs() -> None:
    defaults = {"messages": [{"role": "system", "content": "Be brief."}], "max_tokens": 99, "temperature": 1, "stop": "x"}
    reader = Reader(TASKS["generate"], CHAT, defaults)
    row = reader.ask(json.dumps({"messages": HELLO, "max_tokens": 5, "temperature": 0, "stop": ["five"]}).encode(), plain=True)
    [asked] = row.requests
    assert (asked.max_tokens, asked.sampling.temperature, asked.stop) == (5, 0, ("five",))
    assert [message.role for message in asked.messages] == ["system", "user"]
    row = reader.ask(json.dumps({"messages": [{"role": "system", "content": "Shout."}, *HELLO]}).encode())
    assert [message.content for message in row.requests[0].messages] == ["Shout.", "Say hi."]


def test_every_name_that_a_task_reads_may_be_named() -> None:
    read = {name for task in TASKS.values() for endpoint in task.endpoints for name in task.body_of(endpoint).__struct_fields__}
    assert read <= OWN_NAMES


def test_null_asks_for_nothing_whatever_the_field() -> None:
    assert isinstance(chat(dict.fromkeys([*FIELDS, *OWN_NAMES - {"messages", "input"}])), GenerateAsk)
    assert said([{**HELLO[0], **dict.fromkeys(MESSAGE_FIELDS)}]) == [("user", "Say hi.")]


def test_the_values_of_the_list_are_json() -> None:
    for field in (*FIELDS.values(), *MESSAGE_FIELDS.values()):
        assert msgspec.json.encode([value for value in field.nothing if value is not ANY])


def test_what_is_refused_says_why() -> None:
    """But for what another endpoint takes, where the sentence says what asks for nothing."""
    read = {name for task in TASKS.values() for endpoint in task.endpoints for name in task.body_of(endpoint).__struct_fields__}
    for name, field in FIELDS.items():
        assert field.reason or field.nothing == (ANY,) or name in read, name
        assert "|" not in field.reason
