"""Every documented field of the stock client's types is done, taken at the value that asks for nothing, or refused by its name.

The client's own TypedDicts say which there are: a new client's field fails here until somebody decides about it.
"""

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import ChatCompletionAssistantMessageParam, ChatCompletionUserMessageParam
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import EasyInputMessageParam, response_create_params
from typing_extensions import is_typeddict

from db.failures import describe, parts_of
from workers.tasks import TASKS
from workers.tasks.public_fields import ANY, FIELDS, MESSAGE_FIELDS, MESSAGE_NAMES
from workers.tasks.reading import Reader

CHAT, COMPLETIONS, RESPONSES, EMBED = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"
STOCK: dict[str, tuple[Any, ...]] = {
    CHAT: (chat_params.CompletionCreateParamsNonStreaming, chat_params.CompletionCreateParamsStreaming),
    COMPLETIONS: (completion_create_params.CompletionCreateParamsNonStreaming, completion_create_params.CompletionCreateParamsStreaming),
    RESPONSES: (response_create_params.ResponseCreateParamsNonStreaming, response_create_params.ResponseCreateParamsStreaming),
    EMBED: (embedding_create_params.EmbeddingCreateParams,),
}
LEAST: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    COMPLETIONS: {"prompt": "Hi"},
    RESPONSES: {"input": "Hi"},
    EMBED: {"input": "Hi", "model": "m"},
}
ODD: tuple[Any, ...] = ({"odd": 1}, "odd", 7.5, ["odd"], True, -3)  # of each kind of JSON, what no field's no-effect value is


def task_of(endpoint: str) -> Any:
    return next(task for task in TASKS.values() if endpoint in task.endpoints)


def stock_fields() -> Iterator[tuple[str, str]]:
    for endpoint, kinds in STOCK.items():
        for name in sorted({name for kind in kinds for name in get_type_hints(kind)}):
            yield endpoint, name


@pytest.mark.parametrize(("endpoint", "name"), list(stock_fields()))
def test_a_field_of_the_stock_client_is_done_or_taken_or_refused_by_name(endpoint: str, name: str) -> None:
    task = task_of(endpoint)
    assert name in task.body_of(endpoint).__struct_fields__ or name in FIELDS, "a new field: decide about it"
    reader = Reader(task, endpoint, {})
    for value in ODD:
        read = reader.ask(json.dumps({**LEAST[endpoint], name: value}).encode())
        if isinstance(read, str):
            code, field, _ = parts_of(read)
            assert field.partition("[")[0].partition(".")[0] == name, f"{name} = {value}: {read}"
            assert code in {"invalid_field", "unsupported_field", "empty_input", "invalid_grammar"}
            assert f"`{name}" in describe(read).message
    assert not isinstance(
        reader.ask(json.dumps({**LEAST[endpoint], **({name: None} if name not in LEAST[endpoint] else {})}).encode()), str
    )


def aside() -> Iterator[tuple[str, str]]:
    """Those that no body reads."""
    return (one for one in stock_fields() if one[1] not in task_of(one[0]).body_of(one[0]).__struct_fields__)


@pytest.mark.parametrize(("endpoint", "name"), list(aside()))
def test_a_field_that_is_not_done_takes_what_asks_for_nothing(endpoint: str, name: str) -> None:
    for value in FIELDS[name].nothing:
        read = Reader(task_of(endpoint), endpoint, {}).ask(
            json.dumps({**LEAST[endpoint], name: {"a": "b"} if value is ANY else value}).encode()
        )
        assert not isinstance(read, str), read


@pytest.mark.parametrize("kind", [ChatCompletionUserMessageParam, ChatCompletionAssistantMessageParam, EasyInputMessageParam])
def test_a_field_of_the_stock_clients_messages_is_known(kind: Any) -> None:
    assert set(get_type_hints(kind)) <= MESSAGE_NAMES | set(MESSAGE_FIELDS)


def typed_dicts(hint: object) -> Iterator[Any]:
    if is_typeddict(hint):
        yield hint
    elif get_origin(hint) in (Union, types.UnionType, Annotated):
        for part in get_args(hint):
            yield from typed_dicts(part)


def test_every_response_format_of_the_stock_client_is_done() -> None:
    formats = get_type_hints(chat_params.CompletionCreateParamsNonStreaming)["response_format"]
    kinds = {get_args(part)[0] for each in typed_dicts(formats) for part in [get_type_hints(each)["type"]]}
    assert kinds == {"text", "json_object", "json_schema"}
    named = {"json_schema": {"json_schema": {"name": "a", "schema": {"type": "object"}}}}
    for kind in kinds:
        read = Reader(TASKS["generate"], CHAT, {}).ask(
            json.dumps({**LEAST[CHAT], "response_format": {"type": kind, **named.get(kind, {})}}).encode()
        )
        assert not isinstance(read, str)
