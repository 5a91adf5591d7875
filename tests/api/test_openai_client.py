"""The stock `openai` client, unmodified: upload, batch, poll, page, cancel, both files, delete."""

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai.lib._parsing import type_to_response_format_param
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel
from sqlalchemy import text

from db.connect import Store
from db.settings import Role
from tests.api.conftest import Served
from tests.api.lines import CHAT, CLASSIFY, EMBED, ROWS, classify_file, classify_line
from tests.api.mill import Mill

Stores = Callable[[Role], Store]


def test_a_batch_of_classifications_from_upload_to_delete(api: Served, mill: Mill) -> None:
    client = api.openai()
    file = client.files.create(file=("texts.jsonl", classify_file(4) + classify_line("bad", "")), purpose="batch")
    assert (file.object, file.filename, file.purpose) == ("file", "texts.jsonl", "batch")
    assert client.files.wait_for_processing(file.id, poll_interval=0.05, max_wait_seconds=10).status == "processed"
    assert client.files.retrieve(file.id).bytes == file.bytes
    assert [found.id for found in client.files.list(purpose="batch")] == [file.id]

    batch = client.batches.create(
        input_file_id=file.id,
        endpoint=CLASSIFY,  # type: ignore[arg-type]
        completion_window="1h",  # type: ignore[arg-type]
        metadata={"team": "news"},
        extra_body={"priority": 3, "defaults": {"model": "fake-encoder"}},
    )
    assert (batch.object, batch.status, batch.endpoint, batch.completion_window) == ("batch", "validating", CLASSIFY, "1h")
    assert batch.metadata == {"team": "news"}
    assert (batch.output_file_id, batch.error_file_id, batch.errors) == (None, None, None)
    assert batch.expires_at == batch.created_at + 3600

    mill.run_all()
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (5, 4, 1)
    assert batch.usage is not None
    assert batch.usage.total_tokens == batch.usage.input_tokens > 0
    for moment in (batch.in_progress_at, batch.finalizing_at, batch.completed_at):
        assert isinstance(moment, int)
    assert (batch.failed_at, batch.expired_at, batch.cancelling_at, batch.cancelled_at) == (None, None, None, None)

    assert batch.output_file_id is not None
    lines = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in lines] == ["row-0", "row-1", "row-2", "row-3"]
    assert all(line["response"]["status_code"] == 200 and line["error"] is None for line in lines)
    assert all(line["response"]["body"]["object"] == "classification" for line in lines)
    assert len({line["id"] for line in lines}) == 4
    assert lines[0]["id"].startswith("batch_req_")

    assert batch.error_file_id is not None
    [failure] = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    assert (failure["custom_id"], failure["response"]["status_code"]) == ("bad", 400)
    assert failure["response"]["body"]["error"]["code"] == "empty_input"

    for result in (batch.output_file_id, batch.error_file_id):
        shown = client.files.retrieve(result)
        assert (shown.purpose, shown.status) == ("batch_output", "processed")
        assert client.files.delete(result).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.content(result)
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_batch_of_chat_completions(api: Served, mill: Mill) -> None:
    client = api.openai()
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"messages": [{"role": "user", "content": "Hello"}]}}
    file = client.files.create(file=("chat.jsonl", json.dumps(line).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    mill.run_all()
    batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id is not None
    [answer] = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert answer["response"]["body"]["choices"][0]["message"]["content"]


def run_lines(api: Served, mill: Mill, endpoint: str, bodies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """By custom id, what was answered, or the error."""
    client = api.openai()
    lines = [{"custom_id": name, "method": "POST", "url": endpoint, "body": body} for name, body in bodies.items()]
    file = client.files.create(file=("a.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint=endpoint,  # type: ignore[arg-type]
        completion_window="24h",
        output_expires_after={"anchor": "created_at", "seconds": 3_600},
    )
    mill.run_all()
    batch = client.batches.retrieve(batch.id)
    files = [name for name in (batch.output_file_id, batch.error_file_id) if name is not None]
    read = [json.loads(line) for name in files for line in client.files.content(name).text.splitlines()]
    return {line["custom_id"]: line["response"]["body"].get("error") or line["response"]["body"] for line in read}


def test_what_chat_clients_send_along_is_taken_where_it_asks_for_nothing_and_named_where_it_does(api: Served, mill: Mill) -> None:
    hello = {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 6}
    dumped = {"role": "assistant", "content": "Hello", "refusal": None, "annotations": [], "audio": None, "function_call": None}
    taken = {
        "stream_false": {**hello, "stream": False},
        "logit_bias_empty": {**hello, "logit_bias": {}},
        "rf_text": {**hello, "response_format": {"type": "text"}},
        "parts_text": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Say hi."}]}]},
        "assistant_dump": {"messages": [{"role": "user", "content": "Hi"}, {**dumped, "tool_calls": None}, *hello["messages"]]},
        "a_clients_own": {**hello, "n": 1, "user": "u", "metadata": {"a": "b"}, "store": False, "top_logprobs": None},
    }
    refused = {
        "stream": {**hello, "stream": True},
        "moderation": {**hello, "moderation": {"model": "m"}},
        "tools": {**hello, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        "min_tokens": {**hello, "min_tokens": 10},
    }
    read = run_lines(api, mill, CHAT, {**taken, **refused})
    assert {name for name, body in read.items() if body.get("object") == "chat.completion"} == set(taken)
    for name in refused:
        assert (read[name]["code"], read[name]["param"]) == ("unsupported_field", name)
        assert f"`{name}`" in read[name]["message"]


def test_a_list_of_texts_is_embedded_in_its_order_in_either_encoding(api: Served, mill: Mill) -> None:
    one = run_lines(api, mill, EMBED, {"one": {"input": "first text"}})["one"]["data"][0]["embedding"]
    read = run_lines(
        api,
        mill,
        EMBED,
        {
            "list": {"input": ["first text", "second text"], "dimensions": len(one), "encoding_format": "float"},
            "base64": {"input": ["second text", "first text"], "encoding_format": "base64"},
            "other": {"input": "first text", "dimensions": len(one) + 1},
            "tokens": {"input": [*b"first text"]},
            "others": {"input": [100_000, 5]},
        },
    )
    answer = CreateEmbeddingResponse.model_validate(read["list"])
    assert [part.index for part in answer.data] == [0, 1]
    assert answer.data[0].embedding == one != answer.data[1].embedding
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    spelled = [base64.b64decode(part["embedding"]) for part in read["base64"]["data"]]
    assert struct.unpack(f"<{len(one)}f", spelled[1]) == pytest.approx(one)
    assert (read["other"]["code"], read["other"]["param"]) == ("invalid_field", "dimensions")
    assert str(len(one)) in read["other"]["message"]
    assert read["tokens"]["data"][0]["embedding"] == one
    assert "the model's own tokenizer" in read["others"]["message"]


class Ticket(BaseModel):
    subject: str
    urgent: bool
    score: float


def test_every_endpoint_is_batched_and_its_answers_are_the_clients_own_types(api: Served, mill: Mill) -> None:
    hello = {"model": "fake-decoder", "messages": [{"role": "user", "content": "Say hi."}]}
    form = type_to_response_format_param(Ticket)
    chats = {
        "two": {**hello, "n": 2, "logprobs": True, "top_logprobs": 1, "max_completion_tokens": 4, "seed": 1},
        "form": {**hello, "response_format": form},
        "cut": {**hello, "response_format": form, "max_tokens": 3},
        "never": {**hello, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": []}}}},
    }
    read = run_lines(api, mill, CHAT, chats)
    two = ChatCompletion.model_validate(read["two"])
    assert [len(choice.logprobs.content or ()) for choice in two.choices if choice.logprobs] == [4, 4]
    assert two.usage is not None
    assert (two.usage.completion_tokens, two.usage.total_tokens) == (8, two.usage.prompt_tokens + 8)
    assert two.system_fingerprint
    content = ChatCompletion.model_validate(read["form"]).choices[0].message.content
    assert Ticket.model_validate_json(content or "")
    assert (read["cut"]["code"], read["never"]["code"]) == ("unfinished_answer", "invalid_grammar")
    assert read["never"]["param"] == "response_format"

    bodies: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
        "/v1/completions": (Completion, {"prompt": ["once", "twice"], "logprobs": 1}),
        "/v1/responses": (Response, {"input": "Say hi.", "text": {"format": {"type": "json_object"}}}),
        EMBED: (CreateEmbeddingResponse, {"input": ["first", "second"]}),
    }
    for endpoint, (kind, body) in bodies.items():
        kind.model_validate(run_lines(api, mill, endpoint, {"a": body})["a"])
    moderated = run_lines(api, mill, "/v1/moderations", {"a": {"input": "text"}, "b": {"input": "text", "model": "omni-moderation-latest"}})
    assert (moderated["a"]["code"], moderated["b"]["code"]) == ("no_moderation_model", "unknown_model")


def test_usage_of_a_batch_is_the_sum_of_its_answers(api: Served, mill: Mill) -> None:
    client = api.openai()
    bodies = [{"messages": [{"role": "user", "content": "Hi"}], "n": n, "max_tokens": 3} for n in (1, 2, 3)]
    lines = [{"custom_id": str(n), "method": "POST", "url": CHAT, "body": body} for n, body in enumerate(bodies)]
    file = client.files.create(file=("a.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    mill.run_all()
    batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id is not None
    answers = [json.loads(line)["response"]["body"]["usage"] for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert batch.usage is not None
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in answers)
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in answers) == 18
    assert batch.usage.input_tokens_details.cached_tokens == 0


def test_defaults_that_no_answer_can_be_held_to_are_refused_when_the_job_is_made(api: Served) -> None:
    client = api.openai()
    file = client.files.create(file=("a.jsonl", classify_file()), purpose="batch")
    endless = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}}}
    for form, words in (
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": endless}}, "nothing can meet it"),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string", "pattern": "^(a{1000}){1000}$"}}},
            "too much work",
        ),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["a" * 70_000]}}}, "too large"),
    ):
        with pytest.raises(openai.BadRequestError) as refusal:
            client.batches.create(
                input_file_id=file.id, endpoint=CHAT, completion_window="24h", extra_body={"defaults": {"response_format": form}}
            )
        assert (refusal.value.code, refusal.value.param) == ("invalid_grammar", "defaults.response_format")
        assert words in refusal.value.message


def test_a_body_that_is_not_json_is_told_under_its_own_id(api: Served, mill: Mill) -> None:
    client = api.openai()
    head = b'{"custom_id":"%s","method":"POST","url":"/v1/embeddings","body":%s}'
    bad = {
        b"lone": rb'{"input":"cut \ud83d off"}',
        b"nan": b'{"input":NaN}',
        b"nul": rb'{"input":"a\u0000b"}',
        b"utf8": b'{"input":"caf\xe9"}',
        b"trailcomma": b'{"input":"x",}',
        b"number": b'{"input":42}',
    }
    good = {b"dupkey": b'{"input":"one","input":"two"}', b"ok": b'{"input":"fine"}'}
    data = b"\n".join(head % (name, body) for name, body in {**bad, **good}.items())
    file = client.files.create(file=("a.jsonl", data), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=EMBED, completion_window="24h")
    mill.run_all()
    batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    done = [json.loads(line)["custom_id"] for line in client.files.content(batch.output_file_id).text.splitlines()]
    failed = {line["custom_id"]: line for line in map(json.loads, client.files.content(batch.error_file_id).text.splitlines())}
    assert done == ["dupkey", "ok"]
    assert {name.encode() for name in failed} == set(bad)
    assert failed["number"]["response"]["body"]["error"]["message"] == "The field `input` must be text or a list, and is a number."


def test_who_asks_for_an_answer_directly_is_told_how_to_batch_it(api: Served) -> None:
    client = api.openai()
    for ask in (
        lambda: client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}]),
        lambda: client.completions.create(model="m", prompt="Hi"),
        lambda: client.embeddings.create(model="m", input="Hi"),
        lambda: client.moderations.create(input="Hi"),
        lambda: client.responses.create(model="m", input="Hi"),
    ):
        with pytest.raises(openai.NotFoundError) as refusal:
            ask()
        assert refusal.value.code == "batches_only"
        assert "POST /v1/batches" in refusal.value.message
    with pytest.raises(openai.NotFoundError, match="No response is kept"):
        client.responses.retrieve("resp_1")
    with pytest.raises(openai.NotFoundError, match="base address"):
        openai.OpenAI(base_url=api.url, api_key=api.key).models.list()


def test_five_batches_two_a_page_take_three_requests(api: Served) -> None:
    client = api.openai()
    file = client.files.create(file=("a.jsonl", classify_file()), purpose="batch")
    made = [client.batches.create(input_file_id=file.id, endpoint=CLASSIFY, completion_window="24h").id for _ in range(5)]  # type: ignore[arg-type]

    pages = [[batch.id for batch in page.data] for page in client.batches.list(limit=2).iter_pages()]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]


def test_a_cancelled_batch_keeps_its_rows_and_names_the_others(api: Served, mill: Mill) -> None:
    client = api.openai()
    file = client.files.create(file=("a.jsonl", classify_file(ROWS)), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CLASSIFY, completion_window="24h")  # type: ignore[arg-type]
    mill.cut(shard_chars=1)
    assert mill.run_one_shard()
    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status in {"cancelling", "cancelled"}
    assert client.batches.cancel(batch.id).status in {"cancelling", "cancelled"}
    mill.settle()
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "cancelled"
    assert batch.cancelled_at is not None
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    done = client.files.content(batch.output_file_id).text.splitlines()
    never = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    assert 0 < len(done) < ROWS
    assert len(done) + len(never) == ROWS
    assert all(line["response"] is None and line["error"]["code"] == "batch_cancelled" for line in never)


def test_cancelling_what_has_ended_is_refused_once(api: Served, mill: Mill) -> None:
    client = api.openai()
    file = client.files.create(file=("a.jsonl", classify_file()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CLASSIFY, completion_window="24h")  # type: ignore[arg-type]
    mill.run_all()
    with pytest.raises(openai.BadRequestError) as refusal:
        client.batches.cancel(batch.id)
    assert refusal.value.code == "cannot_cancel"
    assert refusal.value.request_id is not None


def test_a_batch_that_expires_keeps_its_rows_and_names_the_others(api: Served, stores: Stores, mill: Mill) -> None:
    client = api.openai()
    file = client.files.create(file=("a.jsonl", classify_file(ROWS)), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CLASSIFY, completion_window="15m")  # type: ignore[arg-type]
    assert batch.expires_at == batch.created_at + 15 * 60
    mill.cut(shard_chars=1)
    assert mill.run_one_shard()
    with stores(Role.API).transaction(tenant=api.actor.tenant_id) as connection:
        connection.execute(text("UPDATE jobs SET deadline = now()"))
    mill.settle()
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.completed_at, batch.cancelled_at) == ("expired", None, None)
    assert batch.expired_at is not None
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    done = client.files.content(batch.output_file_id).text.splitlines()
    never = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    assert 0 < len(done) < ROWS
    assert len(done) + len(never) == ROWS
    assert all(line["response"] is None and line["error"]["code"] == "batch_expired" for line in never)


def test_a_batch_over_a_file_of_bad_lines_fails_with_their_numbers(api: Served, mill: Mill) -> None:
    client = api.openai()
    file = client.files.create(file=("a.jsonl", b'{"custom_id": "a"}\nnot json\n'), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CLASSIFY, completion_window="24h")  # type: ignore[arg-type]
    mill.settle()
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.output_file_id) == ("failed", None)
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [fault.line for fault in batch.errors.data] == [1, 2]
    assert all(fault.code and fault.message for fault in batch.errors.data)


class LosesAnswers(httpx.HTTPTransport):
    """Takes the first answer to each request of a method away, after the server has given it: the client sees a timeout."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if request.method == "POST":
            self.sent.append(request.headers.get("x-stainless-retry-count", "0"))
            if len(self.sent) == 1:
                response.read()
                response.close()
                raise httpx.ReadTimeout("lost", request=request)
        return response


def test_a_create_whose_answer_was_lost_is_sent_again_and_makes_no_twin(api: Served) -> None:
    file = api.openai().files.create(file=("a.jsonl", classify_file()), purpose="batch")
    lossy = LosesAnswers()
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key=api.key, http_client=httpx.Client(transport=lossy))
    made = client.batches.create(input_file_id=file.id, endpoint=CLASSIFY, completion_window="24h")  # type: ignore[arg-type]
    assert lossy.sent == ["0", "1"]
    assert [batch.id for batch in api.openai().batches.list()] == [made.id]


def test_models_are_listed_and_shown(api: Served) -> None:
    client = api.openai()
    ids = {model.id for model in client.models.list()}
    assert "minilm-l6-v2" in ids
    assert client.models.retrieve("minilm-l6-v2").object == "model"
    for name in ("no-such-model", "openai/gpt-4o-mini"):
        with pytest.raises(openai.NotFoundError) as refusal:
            client.models.retrieve(name)
        assert refusal.value.code == "model_not_found"


def test_a_wrong_key_is_an_authentication_error(api: Served) -> None:
    with pytest.raises(openai.AuthenticationError):
        api.openai(key="tm_" + "A" * 43).models.list()


def test_a_conflict_is_not_tried_again(api: Served) -> None:
    client = api.openai()
    file = client.files.create(file=("a.jsonl", classify_file()), purpose="batch")
    client.batches.create(input_file_id=file.id, endpoint=CLASSIFY, completion_window="24h")  # type: ignore[arg-type]
    with pytest.raises(openai.ConflictError) as refusal:
        client.files.delete(file.id)
    assert refusal.value.code == "file_in_use"
    assert refusal.value.response.headers["x-should-retry"] == "false"
