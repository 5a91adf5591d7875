"""Transactions: the context is there before anything else and gone with them, whatever happens in between."""

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from db import connect
from db.actors import Actor
from db.connect import LOCK_TIMEOUT_MS, Store, open_store
from db.errors import SettingsError
from db.operators.api_keys import create_api_key
from db.operators.tenants import create_tenant
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.db.conftest import AsSuperuser
from tests.looking import on_record

Stores = Callable[[Role], Store]
CANARY = "canary-7f3a-plaintext"
CONTEXT = ("tenant", "shard", "epoch", "key_hash")


def context(conn: Connection) -> list[str]:
    found = conn.execute(text("SELECT " + ", ".join(f"coalesce(current_setting('textmill.{name}', true), '')" for name in CONTEXT)))
    return list(found.one())


@pytest.fixture
def narrow(settings: StoreSettings, tenant: Actor) -> Iterator[Store]:
    """One connection: whoever comes next gets the one that was just used."""
    with closing(open_store(settings, Role.API, pool_size=1)) as store:
        yield store


def test_a_transaction_says_for_whom_it_acts(narrow: Store) -> None:
    tenant, shard = uuid.uuid4(), uuid.uuid4()
    with narrow.transaction(tenant=tenant, shard=shard, epoch=0, key_hash=b"\x01\xff") as conn:
        assert context(conn) == [str(tenant), str(shard), "0", "01ff"]


def test_the_context_ends_with_the_transaction(narrow: Store, tenant: Actor) -> None:
    full: dict[str, Any] = {"tenant": tenant.tenant_id, "shard": uuid.uuid4(), "epoch": 3, "key_hash": b"x"}
    with narrow.transaction(**full) as conn:
        backend = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
    for attempt in ("python", "database"):
        with pytest.raises((RuntimeError, DBAPIError)), narrow.transaction(**full) as conn:
            fail(conn, attempt)
    with narrow.engine.begin() as conn:
        assert context(conn) == ["", "", "", ""]
        assert conn.execute(text("SELECT pg_backend_pid()")).scalar_one() == backend
        assert conn.execute(text("SELECT count(*) FROM tenants")).scalar_one() == 0


def fail(conn: Connection, how: object) -> None:
    if how == "database":
        conn.execute(text("SELECT 1/0"))
    raise RuntimeError


def test_a_transaction_commits_whole_or_not_at_all(narrow: Store, tenant: Actor) -> None:
    insert = text("INSERT INTO audit_unsealed (tenant_id, event_id) VALUES (:tenant, :event)")
    count = text("SELECT count(*) FROM audit_unsealed WHERE event_id = :event")
    kept, lost = uuid.uuid4(), uuid.uuid4()
    with narrow.transaction(tenant=tenant.tenant_id) as conn:
        conn.execute(insert, {"tenant": tenant.tenant_id, "event": kept})
    with pytest.raises(RuntimeError), narrow.transaction(tenant=tenant.tenant_id) as conn:
        fail(conn, conn.execute(insert, {"tenant": tenant.tenant_id, "event": lost}))
    with narrow.transaction(tenant=tenant.tenant_id) as conn:
        assert conn.execute(count, {"event": kept}).scalar_one() == 1
        assert conn.execute(count, {"event": lost}).scalar_one() == 0


def test_many_threads_of_two_tenants_over_few_connections_never_see_each_other(settings: StoreSettings, tenant: Actor) -> None:
    with closing(open_store(settings, Role.API, pool_size=3)) as store:
        hammer(store, tenant)


def hammer(store: Store, tenant: Actor) -> None:
    tenants = [tenant.tenant_id, create_tenant(store, "another")]
    wrong: list[object] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            own = chance.choice([*tenants, None])
            try:
                with store.transaction(tenant=own) if own is None else on_record(store, own) as conn:
                    seen = conn.execute(text("SELECT tenant_id FROM data_keys")).scalars().all()
                    if set(seen) != ({own} if own else set()):
                        wrong.append((own, seen))
                    match chance.randrange(4):
                        case 0:
                            raise RuntimeError
                        case 1:
                            conn.execute(text("SELECT 1/0"))
            except RuntimeError:
                pass
            except DBAPIError as error:
                if "division by zero" not in str(error):
                    wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_store_outlives_the_servers_end_of_its_connections(narrow: Store, tenant: Actor, as_superuser: AsSuperuser) -> None:
    """What a restart or a failover of the database looks like from here."""
    with narrow.transaction(tenant=tenant.tenant_id) as conn:
        backend = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
    assert as_superuser("SELECT pg_terminate_backend(%s, 5000)", [backend]) == [(True,)]
    with on_record(narrow, tenant.tenant_id) as conn:
        assert conn.execute(text("SELECT pg_backend_pid()")).scalar_one() != backend
        assert conn.execute(text("SELECT count(*) FROM tenants")).scalar_one() == 1


def test_a_connection_that_dies_within_a_transaction_costs_that_one_alone(narrow: Store, tenant: Actor, as_superuser: AsSuperuser) -> None:
    with pytest.raises(OperationalError), narrow.transaction(tenant=tenant.tenant_id) as conn:
        end_backend(conn, as_superuser)
    with narrow.transaction(tenant=tenant.tenant_id) as conn:
        assert context(conn)[0] == str(tenant.tenant_id)


def end_backend(conn: Connection, as_superuser: AsSuperuser) -> None:
    as_superuser("SELECT pg_terminate_backend(%s, 5000)", [conn.execute(text("SELECT pg_backend_pid()")).scalar_one()])
    conn.execute(text("SELECT 1"))


@pytest.mark.parametrize("role", list(Role))
def test_a_component_logs_in_as_itself_with_limits_that_hold(stores: Stores, role: Role) -> None:
    with stores(role).transaction() as conn:
        found = conn.execute(
            text(
                "SELECT session_user, current_setting('lock_timeout'), current_setting('statement_timeout'),"
                " current_setting('idle_in_transaction_session_timeout'), current_setting('timezone'),"
                " current_setting('application_name'), current_setting('log_error_verbosity'), current_setting('log_min_error_statement')"
            )
        ).one()
    longest = "30s" if role is Role.WORKER else "5min"
    assert tuple(found) == (role.login, f"{LOCK_TIMEOUT_MS // 1000}s", longest, "10s", "UTC", f"textmill-{role.value}", "terse", "panic")


def test_who_stops_within_a_transaction_keeps_no_lock(settings: StoreSettings, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process is not a dead one: its connections live on, and what they have locked nobody else can touch."""
    monkeypatch.setattr(connect, "IDLE_IN_TRANSACTION_MS", 200)
    lock = text("SELECT FROM api_keys WHERE tenant_id = :tenant FOR UPDATE")
    with closing(open_store(settings, Role.API)) as store:
        create_api_key(store, tenant.tenant_id, tenant.principal_id, "a key", ["read"])
    with closing(open_store(settings, Role.API)) as stopped, closing(open_store(settings, Role.API)) as other:
        with stopped.engine.connect() as conn:
            conn.execute(text("SELECT set_config('textmill.tenant', :tenant, true)"), {"tenant": str(tenant.tenant_id)})
            assert conn.execute(lock, {"tenant": tenant.tenant_id}).rowcount == 1
            with other.transaction(tenant=tenant.tenant_id) as waiting:
                assert waiting.execute(lock, {"tenant": tenant.tenant_id}).rowcount == 1
            with pytest.raises(DBAPIError):
                conn.execute(text("SELECT 1"))
        with stopped.transaction(tenant=tenant.tenant_id) as conn:
            assert conn.execute(lock, {"tenant": tenant.tenant_id}).rowcount == 1


@pytest.mark.parametrize("role", [Role.API, Role.WORKER, Role.OWNER])
def test_a_store_that_opens_content_needs_the_key_file(settings: StoreSettings, role: Role) -> None:
    settings.kek_path.unlink()
    with pytest.raises(SettingsError, match="No key file"):
        open_store(settings, role)


@pytest.mark.parametrize("role", [Role.DISPATCHER, Role.AUDITOR])
def test_a_store_that_opens_nothing_does_without_the_key_file(settings: StoreSettings, role: Role) -> None:
    settings.kek_path.unlink()
    open_store(settings, role).close()


# Content in the errors of the driver and in the server's log


def test_a_store_that_does_not_seal_says_so_loudly(settings: StoreSettings, caplog: pytest.LogCaptureFixture) -> None:
    open_store(settings, Role.API).close()
    assert caplog.records == []
    open_store(settings.model_copy(update={"unsafe_sealing_off": True}), Role.API).close()
    (said,) = caplog.records
    assert said.levelname == "WARNING"
    assert "SEALING IS OFF" in said.message


def test_a_failed_statement_shows_no_values_to_us(narrow: Store, tenant: Actor) -> None:
    for error in failures(narrow, tenant):
        assert CANARY not in str(error)
        assert CANARY not in repr(error)


def test_a_failed_statement_is_not_in_the_servers_log(narrow: Store, tenant: Actor, server: Server) -> None:
    before = server.postgres.log.stat().st_size
    failures(narrow, tenant)
    url = server.postgres.superuser_url("postgres").render_as_string(hide_password=False)
    with psycopg.connect(url) as admin, pytest.raises(psycopg.errors.DivisionByZero):
        admin.execute("SELECT 1 / 0")
    with server.postgres.log.open("rb") as log:
        log.seek(before)
        written = log.read()
    assert b"division by zero" in written  # the log is on, and this is the one
    assert b"violates" not in written
    assert CANARY.encode() not in written
    assert b"DETAIL" not in written


def failures(store: Store, tenant: Actor) -> list[DBAPIError]:
    """A value with a canary in each of the ways in which Postgres likes to quote rows: unique, CHECK, NOT NULL, row-level security."""
    key, own = uuid.uuid4(), tenant.tenant_id
    insert = "INSERT INTO files (tenant_id, file_id, purpose, state, name_sealed) VALUES (:own, :key, :canary, :state, :name)"
    good = {"own": own, "key": key, "canary": CANARY, "state": "uploading", "name": CANARY.encode()}
    with store.transaction(tenant=own) as conn:
        conn.execute(text(insert), good)
        conn.execute(
            text("INSERT INTO label_sets (tenant_id, label_set_id, name_hmac, body_sealed) VALUES (:own, :key, :canary, :canary)"),
            {"own": own, "key": key, "canary": CANARY.encode()},
        )
    attempts: list[tuple[str, dict[str, object], type[DBAPIError]]] = [
        (insert, good, IntegrityError),
        (insert, {**good, "key": uuid.uuid4(), "state": CANARY}, IntegrityError),
        (insert, {**good, "key": uuid.uuid4(), "name": None}, IntegrityError),
        (insert, {**good, "key": uuid.uuid4(), "own": uuid.uuid4()}, ProgrammingError),
        (
            "INSERT INTO label_sets (tenant_id, label_set_id, name_hmac, body_sealed) VALUES (:own, gen_random_uuid(), :canary, :canary)",
            {"own": own, "canary": CANARY.encode()},
            IntegrityError,
        ),
    ]
    caught: list[DBAPIError] = []
    for statement, values, kind in attempts:
        with pytest.raises(kind) as error, store.transaction(tenant=own) as conn:
            conn.execute(text(statement), values)
        caught.append(error.value)
    return caught
