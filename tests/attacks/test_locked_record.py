"""Somebody holds the record: nothing is read or changed, and who asks hears so in time, however many transactions a request has. What is
counted are the waits that the server is told of, not seconds."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.exc import OperationalError

from api import request_log
from db.actors import Actor
from db.audit.acts import record_denied
from db.connect import BRIEF_MS, Patience, Store
from db.files import rows
from db.files.files import create_file
from db.jobs import steering
from db.operators.api_keys import create_api_key
from db.queue.endings import finalize_jobs
from db.settings import Role, StoreSettings
from tests.api.conftest import Served
from tests.api.lines import classify_file
from tests.api.routes.test_batches import create, uploaded
from tests.api.routes.test_files import error_of
from tests.conftest import Server
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, plain
from tests.waiting import wait_until

PATIENCE_MS = 400
Locked = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def locked(server: Server, settings: StoreSettings) -> Locked:
    """A table that an administrator holds, as long as the block lasts."""
    database = make_url(str(settings.database_url)).database
    url = server.postgres.superuser_url(str(database)).render_as_string(hide_password=False)

    @contextmanager
    def hold(table: str) -> Iterator[None]:
        with psycopg.connect(url) as admin:
            admin.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
            admin.rollback()

    return hold


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, api: Served) -> Served:
    monkeypatch.setattr(request_log, "WAITED_SECONDS", PATIENCE_MS / 1000)
    return api


def waits_of(store: Store) -> list[int]:
    """How long each lock was waited for that was not got: the milliseconds that its transaction had."""
    waited: list[int] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def told(conn, _cursor, _statement, parameters, *_) -> None:  # type: ignore[no-untyped-def]
        if isinstance(parameters, dict) and "lock_timeout" in parameters:
            conn.info["lock_timeout"] = parameters["lock_timeout"]

    @event.listens_for(store.engine, "handle_error")
    def failed(context) -> None:  # type: ignore[no-untyped-def]
        if getattr(context.original_exception, "sqlstate", None) == "55P03":
            waited.append(int(context.connection.info.get("lock_timeout", "4000ms").removesuffix("ms")))

    return waited


@pytest.mark.parametrize("table", ["audit_events", "audit_unsealed"])
def test_a_request_waits_once_for_a_locked_record(impatient: Served, locked: Locked, table: str) -> None:
    http, file_id = impatient.http(), uploaded(impatient, classify_file(3))
    batch = f"/v1/batches/{create(impatient, file_id).json()['id']}"
    waited = waits_of(impatient.app.state.front.store)
    with locked(table):
        for method, path, body in (
            ("GET", "/v1/files", None),
            ("GET", f"/v1/files/{file_id}/content", None),
            ("GET", "/v1/batches", None),
            ("GET", "/v1/audit/events", None),
            ("POST", f"{batch}/cancel", None),
            ("POST", f"{batch}/retry", None),
            ("DELETE", f"/v1/files/{file_id}", None),
            ("PUT", "/v1/label_sets/colours", {"labels": ["red", "green"]}),
            ("POST", "/v1/batches", {"input_file_id": file_id, "endpoint": "/v1/classifications"}),
        ):
            waited.clear()
            assert error_of(http.request(method, path, json=body))[:2] == (503, "store_unavailable"), path
            assert [wait for wait in waited if wait > PATIENCE_MS] == []
            assert len(waited) == 1, (path, waited)
    assert http.get(batch).json()["status"] == "validating", "nothing was changed"


def test_so_does_the_first_request_of_a_key_which_asks_the_record_twice(
    impatient: Served, locked: Locked, stores: Callable[[Role], Store]
) -> None:
    _, key = create_api_key(stores(Role.API), impatient.actor.tenant_id, impatient.actor.principal_id, "new", ["read"])
    waited = waits_of(impatient.app.state.front.store)
    with locked("audit_events"):
        assert error_of(impatient.http(key).get("/v1/files"))[:2] == (503, "store_unavailable")
    assert len(waited) == 1
    assert waited[0] <= PATIENCE_MS


def test_an_upload_that_meets_a_locked_record_does_not_wait_again_to_remove_what_it_left(
    impatient: Served, locked: Locked, as_superuser: AsSuperuser
) -> None:
    waited = waits_of(impatient.app.state.front.store)
    holding = locked("audit_events")

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + classify_file(3)
        wait_until(lambda: as_superuser("SELECT count(*) FROM files") == [(1,)], "the upload has begun")
        holding.__enter__()
        yield b"\r\n--b--\r\n"

    try:
        answer = impatient.http().post("/v1/files", content=body(), headers={"content-type": "multipart/form-data; boundary=b"})
    finally:
        holding.__exit__(None, None, None)
    assert error_of(answer)[:2] == (503, "store_unavailable")
    assert waited[0] <= PATIENCE_MS
    assert waited[1:] == [BRIEF_MS]


def test_what_one_transaction_of_a_request_has_waited_another_does_not(
    stores: Callable[[Role], Store], tenant: Actor, locked: Locked
) -> None:
    """As when a refusal is to go on record: all that has to do with one request waits together."""
    store = stores(Role.API).within(Patience(PATIENCE_MS / 1000))
    waited = waits_of(store)
    with locked("audit_events"):
        for _ in range(3):
            with pytest.raises(OperationalError):
                record_denied(store, tenant, "test.refused")
    assert waited[0] <= PATIENCE_MS
    assert waited[1:] == [BRIEF_MS, BRIEF_MS]


def test_each_part_of_a_stream_has_patience_of_its_own(stores: Callable[[Role], Store]) -> None:
    now = 0.0
    store = stores(Role.API).within(Patience(4.0, lambda: now))

    def told() -> str:
        with store.transaction() as conn:
            return str(conn.execute(text("SELECT current_setting('lock_timeout')")).scalar_one())

    seen = []
    for at in (0.0, 1.0, 3.99, 60.0):
        now = at
        seen.append(told())
    store.renew_patience()
    assert [*seen, told()] == ["4s", "3s", f"{BRIEF_MS}ms", f"{BRIEF_MS}ms", "4s"]


class Watched(Patience):
    """Of 4 s, by a clock that stands still but when it is told to go on; ``told``: what each transaction had."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[int] = []
        super().__init__(4.0, lambda: self.now)

    def lock_timeout_ms(self) -> int:
        self.told.append(super().lock_timeout_ms())
        return self.told[-1]


def test_what_took_long_leaves_enough_for_a_lock_of_a_moment() -> None:
    patience = Watched()
    patience.now = 60.0
    assert patience.lock_timeout_ms() >= 200


def test_what_a_retry_took_is_not_taken_from_the_look_at_its_job(
    stores: Callable[[Role], Store], tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was, who had a large job run again was told that the store was away, though it was done."""
    flow, patience = Flow(stores), Watched()
    job = flow.job(tenant, 4)
    flow.answer(flow.claim(), fail=True)
    finalize_jobs(flow.dispatcher)
    finalize_jobs(flow.dispatcher)
    retry = steering._retry

    def slow(*arguments: Any) -> None:
        retry(*arguments)
        patience.now += 60.0

    monkeypatch.setattr(steering, "_retry", slow)
    assert steering.retry_job(flow.api.within(patience), tenant, job.job_id).retry_count == 1
    assert patience.told[-1] == 4000


def test_each_page_of_marking_doubles_has_patience_of_its_own(
    stores: Callable[[Role], Store], tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, patience = Flow(stores), Watched()
    monkeypatch.setattr(rows, "MARKED_AT_ONCE", 1)
    mark = rows.RowWriter._act

    def slow(*arguments: Any) -> Any:
        patience.now += 3.0
        return mark(*arguments)

    store = flow.api.within(patience)
    writer = rows.RowWriter(store, tenant, create_file(store, tenant, name="n", purpose="batch"))
    writer.append([plain(at, custom_id="a") for at in range(6)])
    patience.renew()
    patience.told.clear()
    monkeypatch.setattr(rows.RowWriter, "_act", slow)
    assert writer.finish(1).defect_count == 5
    assert set(patience.told) == {1000}, "each waits as long as the first of them"
