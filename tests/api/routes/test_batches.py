"""`/v1/batches`: what a batch may ask for, how it ends, and what a client that asks twice gets."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import httpx
import psycopg
import pytest

from db.connect import Store
from db.files.files import create_file
from db.operators.api_keys import SCOPES, create_api_key
from db.operators.tenants import create_tenant
from db.queue.wakeups import Listener
from db.settings import Role
from tests.api.conftest import Served
from tests.api.lines import CHAT, CLASSIFY, EMBED, LABELS, ROWS, classify_file, classify_line
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of
from tests.conftest import Server

Stores = Callable[[Role], Store]


def create(served: Served, file_id: str, headers: dict[str, str] | None = None, **changes: object) -> httpx.Response:
    body = {"input_file_id": file_id, "endpoint": CLASSIFY, "completion_window": "24h", **changes}
    return served.http().post("/v1/batches", json=body, headers=headers or {})


def uploaded(served: Served, data: bytes | None = None, **fields: str) -> str:
    response = served.upload(classify_file() if data is None else data, **fields)
    return str(response.raise_for_status().json()["id"])


IMPOSSIBLE: list[tuple[dict[str, object], str, str | None]] = [
    ({"endpoint": "/v1/nothing"}, "invalid_endpoint", "endpoint"),
    ({"endpoint": "/v1/heads"}, "invalid_endpoint", "endpoint"),
    ({"endpoint": 5}, "invalid_field", "endpoint"),
    ({"completion_window": "soon"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "0h"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "31d"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "2020-01-31"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "2999-01-31"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "9999-12-31"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "9999-12-31T23:59:59-23:59"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "0001-01-01"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "0001-01-01T00:00:00+23:59"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "9999-W52-5"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "999999d"}, "invalid_completion_window", "completion_window"),
    ({"completion_window": "2999-01-31T06:00:00"}, "invalid_completion_window", "completion_window"),
    ({"priority": 100}, "invalid_field", "priority"),
    ({"priority": -100}, "invalid_field", "priority"),
    ({"priority": None}, "invalid_field", "priority"),
    ({"priority": True}, "invalid_field", "priority"),
    ({"priority": "high"}, "invalid_field", "priority"),
    ({"metadata": {str(number): "x" for number in range(17)}}, "invalid_metadata", "metadata"),
    ({"metadata": {"k" * 65: "x"}}, "invalid_metadata", "metadata"),
    ({"metadata": {"k": "x" * 513}}, "invalid_metadata", "metadata"),
    ({"metadata": {"k": 1}}, "invalid_field", "metadata"),
    ({"metadata": ["k"]}, "invalid_field", "metadata"),
    ({"surprise": 1}, "unknown_field", None),
    ({"defaults": {"surprise": 1}}, "unknown_field", "defaults"),
    ({"defaults": {"labels": []}}, "too_few_labels", "defaults.labels"),
    ({"defaults": {"labels": ["one"]}}, "too_few_labels", "defaults.labels"),
    ({"defaults": {"labels": ["a", "a"]}}, "duplicate_label", "defaults.labels"),
    ({"defaults": {"labels": ["a", ""]}}, "empty_label", "defaults.labels"),
    ({"defaults": {"labels": ["a", 7]}}, "invalid_field", "defaults.labels[1]"),
    ({"defaults": {"stream": True}}, "unsupported_field", "defaults.stream"),
    ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "invalid_field", "output_expires_after"),
    ({"output_expires_after": {"anchor": "completed_at", "seconds": 3600}}, "invalid_field", "output_expires_after"),
    ({"defaults": {"labels": [str(number) for number in range(5001)]}}, "too_many_labels", "defaults.labels"),
    ({"defaults": {"labels": LABELS, "templates": ["no place"]}}, "invalid_field", "defaults.templates"),
    ({"defaults": {"model": "no-such-model"}}, "unknown_model", "defaults.model"),
    ({"defaults": {"model": "gemma3-270m", "templates": ["{}"]}}, "invalid_field", "defaults.templates"),
    ({"defaults": {"model": "gemma3-270m", "labels": [str(number) for number in range(2048)]}}, "labels_too_long", "defaults.labels"),
    ({"defaults": {"model": "minilm-l6-v2", "rotations": 2}}, "invalid_field", "defaults.rotations"),
    ({"defaults": {"model": "minilm-l6-v2", "descriptions": {}}}, "invalid_field", "defaults.descriptions"),
    ({"defaults": {"model": "minilm-l6-v2", "length_normalised": True}}, "invalid_field", "defaults.length_normalised"),
    ({"defaults": {"model": "minilm-l6-v2", "calibrated": False}}, "invalid_field", "defaults.calibrated"),
    ({"defaults": {"labels": LABELS, "descriptions": {"another": "x"}}}, "invalid_field", "defaults.descriptions"),
    ({"defaults": {"labels": LABELS, "descriptions": {LABELS[0]: "x" * 1001}}}, "invalid_field", "defaults.descriptions[...]"),
    ({"defaults": {"labels": LABELS, "descriptions": {LABELS[0]: " "}}}, "invalid_field", "defaults.descriptions"),
    ({"defaults": {"rotations": 65}}, "invalid_field", "defaults.rotations"),
    ({"defaults": {"model": "head:no-such-head"}}, "unknown_model", "defaults.model"),
    ({"endpoint": EMBED, "defaults": {"model": "head:no-such-head"}}, "model_task_mismatch", "defaults.model"),
    ({"endpoint": EMBED, "defaults": {"model": "gemma3-270m"}}, "model_task_mismatch", "defaults.model"),
    ({"endpoint": CHAT, "defaults": {"model": "minilm-l6-v2"}}, "model_task_mismatch", "defaults.model"),
    ({"endpoint": "/v1/moderations", "defaults": {"model": "minilm-l6-v2"}}, "no_moderation_model", "defaults.model"),
    ({"defaults": {"label_set": "no-such-set"}}, "unknown_label_set", "defaults.label_set"),
]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/batches", {"endpoint": CLASSIFY, "defaults": {"labels": ["a", "b"]}}), ("/v1/heads", {"name": "h"})],
    ids=["batch", "head"],
)
def test_whoever_makes_a_job_wakes_the_dispatcher(api: Served, stores: Stores, path: str, body: dict[str, object]) -> None:
    file_id = api.upload(b'{"text":"a","label":"a"}\n{"text":"b","label":"b"}', purpose="train").json()["id"]
    woken = threading.Event()
    listener = Listener(stores(Role.DISPATCHER), woken)
    try:
        assert listener.ready.wait(10)
        woken.clear()
        name = "training_file" if path == "/v1/heads" else "input_file_id"
        api.http().post(path, json={name: file_id, **body}).raise_for_status()
        assert woken.wait(10)
    finally:
        listener.close()


def test_a_request_that_cannot_be_done_names_its_field(api: Served) -> None:
    file_id = uploaded(api)
    for changes, code, param in IMPOSSIBLE:
        assert error_of(create(api, file_id, **changes)) == (400, code, param), changes
        plan = {"endpoint": CLASSIFY, **changes}
        assert error_of(api.http().post("/v1/batches/check", json=plan)) == (400, code, param), changes


def test_a_plan_is_checked_without_a_file_and_makes_no_job(api: Served) -> None:
    http = api.http()
    told = http.post("/v1/batches/check", json={"endpoint": CLASSIFY, "defaults": {"labels": LABELS}}).raise_for_status().json()
    assert (told["object"], told["endpoint"], told["model"]) == ("batch.check", CLASSIFY, "minilm-l6-v2")
    assert http.get("/v1/batches").json()["data"] == []


@pytest.mark.parametrize(
    ("asked", "priority", "interactive"), [("interactive", 100, True), ("bulk", 0, False), (99, 99, False), (-99, -99, False)]
)
def test_a_priority_is_a_class_of_work_or_a_number(api: Served, asked: object, priority: int, interactive: bool) -> None:
    told = create(api, uploaded(api), priority=asked).raise_for_status().json()["textmill"]
    assert (told["priority"], told["interactive"]) == (priority, interactive)


def test_an_interactive_batch_of_many_rows_is_refused(api: Served) -> None:
    file_id = uploaded(api, classify_file(257))
    assert error_of(create(api, file_id, priority="interactive")) == (400, "too_many_rows", None)
    assert create(api, file_id, priority="bulk").status_code == 200


def test_an_interactive_batch_is_answered_like_any_other(api: Served, mill: Mill) -> None:
    batch = create(api, uploaded(api), priority="interactive").json()
    mill.run_all()
    assert api.http().get(f"/v1/batches/{batch['id']}").json()["request_counts"] == {"total": 3, "completed": 3, "failed": 0}


def test_five_thousand_labels_are_taken(api: Served) -> None:
    response = create(api, uploaded(api), defaults={"labels": [f"label {number}" for number in range(5000)]})
    assert response.status_code == 200


def test_a_body_that_is_no_object_is_refused(api: Served) -> None:
    http = api.http()
    for body in (b"", b"[]", b"null", b"{", b'{"input_file_id": "\xff"}', b'{"input_file_id": NaN}', b"[" * 100_000):
        response = http.post("/v1/batches", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 400
        assert response.json()["error"]["code"] in {"invalid_json", "too_deep"}


def test_a_deep_body_is_refused(api: Served) -> None:
    response = api.http().post(
        "/v1/batches", content=b'{"input_file_id":"x","endpoint":"x","defaults":' + b'{"a":' * 100 + b"1" + b"}" * 101
    )
    assert error_of(response)[:2] == (400, "too_deep")


def test_a_missing_field_is_named(api: Served) -> None:
    assert error_of(api.http().post("/v1/batches", json={"endpoint": CLASSIFY})) == (400, "missing_field", "input_file_id")


def test_a_body_over_the_limit_is_refused(serve: Callable[..., Served]) -> None:
    api = serve(max_json_bytes=2048)
    assert error_of(create(api, "file-" + "0" * 32, metadata={"k": "x" * 3000}))[:2] == (413, "body_too_large")


def test_a_file_that_is_not_there_is_not_found(api: Served) -> None:
    for file_id in ("file-" + "0" * 32, "file-o" + "0" * 32, "nonsense", "", "file-" + "0" * 31 + "'"):
        assert error_of(create(api, file_id)) == (404, "not_found", None)


def test_a_file_that_is_still_uploading_is_a_conflict_that_needs_no_retry(api: Served, stores: Stores) -> None:
    file = create_file(stores(Role.API), api.actor, name="slow", purpose="batch")
    response = create(api, f"file-{file.file_id.hex}")
    assert error_of(response)[:2] == (409, "file_not_processed")
    assert response.headers["x-should-retry"] == "false"


def test_what_is_absent_is_null(api: Served) -> None:
    batch = create(api, uploaded(api)).json()
    assert "" not in batch.values()
    for name in ("errors", "output_file_id", "error_file_id", "in_progress_at", "completed_at", "metadata"):
        assert batch[name] is None


def test_the_window_sets_the_deadline(api: Served) -> None:
    file_id = uploaded(api)
    for window, told, seconds in (
        ("1m", "1m", 60),
        ("90m", "90m", 5400),
        ("24h", "24h", 86400),
        ("168h", "7d", 604800),
        ("2d", "2d", 172800),
    ):
        batch = create(api, file_id, completion_window=window).json()
        assert batch["expires_at"] - batch["created_at"] == seconds
        assert batch["completion_window"] == told


def test_a_date_as_window_is_when_the_job_must_be_done(api: Served) -> None:
    file_id = uploaded(api)
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    for window, end in (
        (at.date().isoformat(), at.replace(hour=0, minute=0, second=0) + timedelta(days=1)),
        (at.isoformat(), at),
        (at.astimezone(timezone(timedelta(hours=5))).isoformat(), at),
        (at.strftime("%Y-%m-%dT%H:%M:%SZ"), at),
    ):
        assert create(api, file_id, completion_window=window).json()["expires_at"] == end.timestamp(), window


def test_a_create_under_one_key_that_names_a_date_is_repeated_and_not_refused(api: Served) -> None:
    file_id, at = uploaded(api), (datetime.now(UTC) + timedelta(days=3)).isoformat()
    key = {"Idempotency-Key": "one"}
    made = [create(api, file_id, headers=key, completion_window=at).json()["id"] for _ in range(2)]
    assert made[0] == made[1]
    assert error_of(create(api, file_id, headers=key, completion_window="24h"))[:2] == (409, "idempotency_key_reused")


def test_a_csv_file_and_defaults_make_a_labelled_csv(api: Served, mill: Mill) -> None:
    file_id = uploaded(api, b"id,headline\n1,a long headline\n2,\n", purpose="rows", format="csv", text_column="headline")
    batch = create(api, file_id, defaults={"model": "fake-encoder", "labels": ["x", "y"]}, metadata={"k": "v"}).json()
    mill.run_all()
    batch = api.http().get(f"/v1/batches/{batch['id']}").json()
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 2, "completed": 1, "failed": 1})
    assert batch["metadata"] == {"k": "v"}
    [line] = api.http().get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
    assert '"custom_id":"1"' in line
    assert '"line":2' in line


def test_rows_without_ids_are_told_by_their_line_and_get_no_id_that_another_row_may_have(api: Served, mill: Mill) -> None:
    data = b'{"id":"line-2","text":"a"}\n{"text":"b"}\n\n{"text":"c","id":null}\n{"id":"","text":"d"}\n{"text":5}\n'
    batch = create(api, uploaded(api, data, purpose="rows"), defaults={"labels": ["x", "y"]}).json()
    mill.run_all()
    batch = api.http().get(f"/v1/batches/{batch['id']}").json()
    files = [api.http().get(f"/v1/files/{batch[name]}/content").text for name in ("output_file_id", "error_file_id")]
    lines = [json.loads(line) for line in "".join(files).splitlines()]
    assert [(line["custom_id"], line["line"]) for line in lines] == [("line-2", 1), (None, 2), (None, 4), (None, 5), (None, 6)]


def test_a_file_of_bad_rows_fails_with_their_lines(api: Served, mill: Mill) -> None:
    secret = "my secret text"
    data = b"\n" + classify_line("a", method="x").replace(b'"POST"', b'"GET"') + f"broken {secret}\n".encode() + b"[]\n"
    batch = create(api, uploaded(api, data)).json()
    mill.run_all()
    response = api.http().get(f"/v1/batches/{batch['id']}")
    batch = response.json()
    assert (batch["status"], batch["output_file_id"], batch["completed_at"]) == ("failed", None, None)
    assert isinstance(batch["failed_at"], int)
    assert [(fault["line"], fault["code"]) for fault in batch["errors"]["data"]] == [
        (2, "wrong_method"),
        (3, "invalid_json"),
        (4, "not_an_object"),
    ]
    assert all(fault["message"] for fault in batch["errors"]["data"])
    assert secret not in response.text


def test_rows_for_another_endpoint_fail_and_the_others_run(api: Served, mill: Mill) -> None:
    data = classify_line("a") + classify_line("b").replace(CLASSIFY.encode(), CHAT.encode())
    batch = create(api, uploaded(api, data)).json()
    mill.run_all()
    batch = api.http().get(f"/v1/batches/{batch['id']}").json()
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    line = api.http().get(f"/v1/files/{batch['error_file_id']}/content").json()
    assert (line["custom_id"], line["response"]["body"]["error"]["code"]) == ("b", "url_mismatch")


def test_a_batch_where_every_row_fails_has_an_error_file_only(api: Served, mill: Mill) -> None:
    batch = create(api, uploaded(api, classify_line("a", "") + classify_line("b", ""))).json()
    mill.run_all()
    batch = api.http().get(f"/v1/batches/{batch['id']}").json()
    assert (batch["status"], batch["output_file_id"], batch["completed_at"]) == ("failed", None, None)
    reasons = [(fault["code"], fault["rows"], fault["line"], fault["message"]) for fault in batch["errors"]["data"]]
    assert reasons == [("empty_input:input", 2, 1, "The text is empty. (field `input`)")]
    lines = api.http().get(f"/v1/files/{batch['error_file_id']}/content").text.splitlines()
    assert [json.loads(line)["custom_id"] for line in lines] == ["a", "b"]
    api.http().post(f"/v1/batches/{batch['id']}/retry").raise_for_status()
    mill.run_all()
    assert api.http().get(f"/v1/batches/{batch['id']}").json()["status"] == "failed", "an empty text is empty the second time too"
    assert api.http().get(f"/v1/files/{batch['id'].replace('batch_', 'file-o')}").status_code == 404


def test_a_batch_past_its_deadline_keeps_what_is_done(api: Served, stores: Stores, mill: Mill, server: Server) -> None:
    batch = create(api, uploaded(api, classify_file(ROWS)), completion_window="1m").json()
    mill.cut(shard_chars=1)
    mill.run_one_shard()
    database = stores(Role.API).engine.url.database
    with psycopg.connect(server.postgres.superuser_url(database).render_as_string(hide_password=False)) as connection:
        connection.execute("UPDATE jobs SET deadline = now() - interval '1 second'")
    mill.settle()
    mill.settle()
    batch = api.http().get(f"/v1/batches/{batch['id']}").json()
    assert batch["status"] == "expired"
    done = api.http().get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
    never = api.http().get(f"/v1/files/{batch['error_file_id']}/content").text.splitlines()
    assert 0 < len(done) < ROWS
    assert len(done) + len(never) == ROWS
    assert all('"response":null' in line and "batch_expired" in line for line in never)


def test_a_create_that_is_sent_again_makes_no_twin(api: Served) -> None:
    file_id = uploaded(api)
    first = create(api, file_id).json()["id"]
    assert create(api, file_id).json()["id"] != first
    other = create(api, file_id, priority=1, headers={"x-stainless-retry-count": "0"}).json()["id"]
    assert create(api, file_id, priority=1, headers={"x-stainless-retry-count": "1"}).json()["id"] == other
    fresh = create(api, file_id, priority=2, headers={"x-stainless-retry-count": "1"}).json()["id"]
    assert create(api, file_id, priority=2, headers={"x-stainless-retry-count": "2"}).json()["id"] == fresh


@pytest.mark.parametrize("of_rows", [False, True])
def test_a_create_whose_names_mean_other_versions_is_sent_again_by_nobody(api: Served, of_rows: bool) -> None:
    """As it was, the second got the first one's job, whose labels are the old ones. Under a key of the caller's it is one request."""

    def store(labels: list[str]) -> None:
        api.http().put("/v1/label_sets/desk", json={"labels": labels}).raise_for_status()

    store(["old", "older"])
    line = {"custom_id": "a", "method": "POST", "url": CLASSIFY, "body": {"input": "a", **({"label_set": "desk"} if of_rows else {})}}
    file_id, asked = uploaded(api, json.dumps(line).encode()), {} if of_rows else {"defaults": {"label_set": "desk"}}
    keyed, again = {"idempotency-key": "once"}, {"x-stainless-retry-count": "1"}

    def made(headers: dict[str, str]) -> str:
        return str(create(api, file_id, headers=headers, **asked).raise_for_status().json()["id"])

    named, first = made(keyed), made({})
    assert (made(keyed), made(again)) == (named, first)
    api.http().put("/v1/label_sets/other", json={"labels": ["x", "y"]}).raise_for_status()
    assert made(again) == first
    store(["new", "newer"])
    second = made(again)
    assert second not in (named, first)
    assert (made(keyed), made({"x-stainless-retry-count": "2"})) == (named, second)


def test_of_a_file_whose_names_nobody_noted_only_what_the_defaults_name_makes_a_create_another(
    api: Served, stores: Stores, server: Server
) -> None:
    """As it was, a label set that the batch has nothing to do with made the client's own second try a second batch."""

    def store(name: str, labels: list[str]) -> None:
        api.http().put(f"/v1/label_sets/{name}", json={"labels": labels}).raise_for_status()

    def made(retry: int) -> str:
        headers = {"x-stainless-retry-count": str(retry)} if retry else {}
        return str(create(api, file_id, headers=headers, defaults={"label_set": "desk"}).raise_for_status().json()["id"])

    file_id = uploaded(api)
    database = stores(Role.API).engine.url.database
    with psycopg.connect(server.postgres.superuser_url(database).render_as_string(hide_password=False)) as connection:
        connection.execute("UPDATE files SET stored_names_sealed = NULL")
    for labels in (["old", "older"], ["now", "then"]):
        store("desk", labels)
    first = made(0)
    store("other", ["x", "y"])
    assert made(1) == first
    api.http().delete("/v1/label_sets/other").raise_for_status()
    assert made(1) == first
    api.http().delete("/v1/label_sets/desk@2").raise_for_status()
    second = made(1)
    assert second != first, "the name means the version before again"
    store("desk", ["new", "newer"])
    assert made(1) not in (first, second)


def test_an_idempotency_key_is_honoured(api: Served) -> None:
    file_id = uploaded(api)
    key = {"idempotency-key": "once"}
    first = create(api, file_id, headers=key)
    assert create(api, file_id, headers=key).json()["id"] == first.json()["id"]
    assert error_of(create(api, file_id, priority=5, headers=key))[:2] == (409, "idempotency_key_reused")
    assert create(api, file_id, headers={"idempotency-key": "twice"}).json()["id"] != first.json()["id"]
    assert error_of(create(api, file_id, headers={"idempotency-key": "x" * 300}))[0] == 400


def test_what_became_of_a_job_does_not_make_its_repeated_request_another(api: Served, mill: Mill) -> None:
    """A priority that was changed, a retry that began the window anew: the request is still the same."""
    file_id = uploaded(api)
    key = {"idempotency-key": "once"}
    at = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    made = create(api, file_id, completion_window=at, headers=key).json()["id"]
    assert api.http().post(f"/v1/batches/{made}/priority", json={"priority": 7}).status_code == 200
    assert create(api, file_id, completion_window=at, headers=key).json()["id"] == made
    assert api.http().post(f"/v1/batches/{made}/cancel").status_code == 200
    mill.settle()
    assert api.http().post(f"/v1/batches/{made}/retry").status_code == 200
    assert create(api, file_id, completion_window=at, headers=key).json()["id"] == made


def test_one_key_with_other_defaults_is_refused(api: Served) -> None:
    file_id = uploaded(api)
    key = {"idempotency-key": "once"}
    create(api, file_id, defaults={"labels": ["a", "b"]}, headers=key)
    assert error_of(create(api, file_id, defaults={"labels": ["a", "c"]}, headers=key))[:2] == (409, "idempotency_key_reused")


def test_a_file_deleted_after_its_job_ended_takes_no_results_with_it(api: Served, mill: Mill) -> None:
    file_id = uploaded(api)
    batch = create(api, file_id).json()
    mill.run_all()
    http = api.http()
    assert http.delete(f"/v1/files/{file_id}").status_code == 200
    batch = http.get(f"/v1/batches/{batch['id']}").json()
    lines = http.get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
    assert [line.partition('"custom_id":')[2][:7] for line in lines] == ['"row-0"', '"row-1"', '"row-2"']


def test_a_batch_tells_how_far_it_is(api: Served, mill: Mill) -> None:
    batch = create(api, uploaded(api, classify_file(ROWS))).json()
    mill.cut(shard_chars=1)
    mill.run_one_shard()
    extra = api.http().get(f"/v1/batches/{batch['id']}").json()["textmill"]
    assert extra["task"] == "classify"
    assert extra["shards"]["done"] == 1
    assert extra["shards"]["ready"] >= 1
    assert extra["rows_per_second"] > 0
    mill.run_all()
    batch = api.http().get(f"/v1/batches/{batch['id']}").json()
    assert batch["status"] == "completed"
    assert batch["textmill"]["metrics"]["batches"] >= 1
    assert batch["textmill"]["metrics"]["tokens"] > 0


def test_batches_and_files_are_found_by_the_beginning_of_their_ids(api: Served, mill: Mill) -> None:
    file_id = uploaded(api)
    batch_id = str(create(api, file_id).json()["id"])
    mill.run_all()
    http, digits = api.http(), batch_id.removeprefix("batch_")

    def found(path: str, prefix: str) -> list[str]:
        return [each["id"] for each in http.get(path, params={"prefix": prefix}).raise_for_status().json()["data"]]

    for prefix in (digits[:6], f"batch_{digits[:4]}", digits, batch_id):
        assert found("/v1/batches", prefix) == [batch_id]
    for prefix in (file_id, file_id[:13], file_id[5:13]):
        assert found("/v1/files", prefix) == [file_id]
    assert found("/v1/files", f"file-o{digits[:8]}") == [f"file-o{digits}"]
    assert found("/v1/batches", f"{'0' if digits[0] != '0' else '1'}{digits[1:6]}") == []
    for path in ("/v1/batches", "/v1/files"):
        for wrong in ("", "abc", "xyz12", "batch_", f"0{digits}", "abcd%", "ABCD"):
            assert error_of(http.get(path, params={"prefix": wrong}))[:2] == (400, "invalid_prefix")


def test_a_list_of_batches_has_the_names_of_their_files_as_long_as_they_are_there(api: Served, mill: Mill) -> None:
    file_id = uploaded(api)
    create(api, file_id)
    mill.run_all()

    def names() -> list[object]:
        return [batch["textmill"]["input_filename"] for batch in api.http().get("/v1/batches").json()["data"]]

    assert names() == ["rows.jsonl"]
    api.http().delete(f"/v1/files/{file_id}").raise_for_status()
    assert names() == [None]


def test_another_tenants_batch_is_not_found_by_its_beginning(api: Served, mill: Mill, stores: Stores) -> None:
    batch_id = str(create(api, uploaded(api)).json()["id"])
    tenant_id = create_tenant(stores(Role.API), "other")
    _, key = create_api_key(stores(Role.API), tenant_id, uuid4(), "theirs", SCOPES)
    assert api.http(key).get("/v1/batches", params={"prefix": batch_id[:12]}).json()["data"] == []
