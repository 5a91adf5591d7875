"""The stock `openai` client, unmodified: upload, batch, poll, page, cancel, both files, delete."""

import json
from collections.abc import Callable

import httpx
import openai
import pytest
from sqlalchemy import text

from db.connect import Store
from db.settings import Role
from tests.api.conftest import Served
from tests.api.lines import CHAT, CLASSIFY, ROWS, classify_file, classify_line
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
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


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
