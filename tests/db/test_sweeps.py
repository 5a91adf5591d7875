"""One item that cannot be moved costs a sweep little, and those behind it nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import recovery
from db.actors import Actor
from db.connect import LOCK_TIMEOUT_MS, Store
from db.jobs import JobRecord, cancel_job, cancel_shards, expire_jobs, get_job, reap_leases
from db.lifecycle import Shard
from db.settings import Role
from db.sweeps import BRIEF_MS, WAIT_MS, WAITED_FOR, Unfinished, sweep
from tests.db.flow import Flow, Stores

CANARY = "canary-7f3a-plaintext"
_ITEMS = text("SELECT gen_random_uuid() AS item FROM generate_series(1, :count)")


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


@contextmanager
def held(store: Store, rows: str, **parameters: object) -> Iterator[None]:
    """Somebody locks these rows and stands still."""
    with store.transaction() as frozen:
        frozen.execute(text(f"{rows} FOR UPDATE"), parameters)
        yield


def overdue(flow: Flow, actor: Actor, seconds: int) -> JobRecord:
    job = flow.job(actor, 10)
    flow.execute(actor, "UPDATE jobs SET deadline = now() - make_interval(secs => :s) WHERE job_id = :job", s=seconds, job=job.job_id)
    return job


def test_a_job_with_a_locked_shard_does_not_keep_others_from_expiring(flow: Flow, tenant: Actor) -> None:
    first, second = overdue(flow, tenant, 2), overdue(flow, tenant, 1)
    with held(flow.worker, "SELECT FROM shards WHERE job_id = :job", job=first.job_id):
        with pytest.raises(Unfinished) as unfinished:
            expire_jobs(flow.dispatcher)
        assert (unfinished.value.done, unfinished.value.left) == (1, 1)
        assert [get_job(flow.api, tenant, job.job_id).state for job in (first, second)] == ["in_progress", "expired"]
    assert expire_jobs(flow.dispatcher) == 1


def test_a_locked_new_job_does_not_keep_others_from_starting(flow: Flow, tenant: Actor) -> None:
    first, second = (flow.submit(tenant, flow.upload(tenant, 10)) for _ in range(2))
    with flow.api.transaction(tenant=tenant.tenant_id) as frozen:
        frozen.execute(text("SELECT FROM jobs WHERE job_id = :job FOR UPDATE"), {"job": first.job_id})
        with pytest.raises(Unfinished):
            flow.cut()
        assert get_job(flow.api, tenant, second.job_id).state == "in_progress"
    assert flow.cut() == 1


def test_a_shard_that_cannot_be_freed_does_not_keep_others_from_it_and_is_named_without_content(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = flow.job(tenant, 20)
    (first, second), after_crash = [flow.claim(), flow.claim()], recovery.after_crash

    def fail_once(shard: Shard, *args: object, **more: object) -> object:
        if shard.first_idx == first.first_idx:
            raise ValueError(CANARY)
        return after_crash(shard, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(recovery, "after_crash", fail_once)
    flow.end_leases()
    with pytest.raises(Unfinished) as unfinished:
        reap_leases(flow.dispatcher)
    assert unfinished.value.done == 1
    states = {row[0]: row[2] for row in flow.shards(job)}
    assert (states[first.first_idx], states[second.first_idx]) == ("leased", "ready")
    assert f"{first.shard_id} could not be moved now (ValueError)" in caplog.text
    assert CANARY not in caplog.text


def test_a_locked_shard_does_not_keep_others_from_being_cancelled(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    cancel_job(flow.api, tenant, job.job_id)
    with held(flow.worker, "SELECT FROM shards WHERE first_idx = 0"):
        assert cancel_shards(flow.dispatcher) == 1
    assert cancel_shards(flow.dispatcher) == 1


def test_a_sweep_ends_where_its_connection_is_lost(flow: Flow) -> None:
    tried: list[object] = []

    def lose(store: Store, item: object) -> int:
        tried.append(item)
        with store.transaction() as conn:
            conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return 1

    with pytest.raises(DBAPIError):
        over(flow, 3, lose)
    assert len(tried) == 1


def test_a_table_that_is_locked_as_a_whole_is_waited_for_at_a_few_items(flow: Flow) -> None:
    waits: list[str] = []

    def refuse(store: Store, _item: object) -> int:
        with store.transaction() as conn:
            waits.append(conn.execute(text("SELECT current_setting('lock_timeout')")).scalar_one())
        raise RuntimeError

    with pytest.raises(Unfinished) as unfinished:
        over(flow, WAITED_FOR + 2, refuse)
    assert unfinished.value.left == WAITED_FOR + 2
    assert waits == [f"{WAIT_MS}ms"] * WAITED_FOR + [f"{BRIEF_MS}ms"] * 2
    with flow.dispatcher.transaction() as conn:
        assert conn.execute(text("SELECT current_setting('lock_timeout')")).scalar_one() == f"{LOCK_TIMEOUT_MS // 1000}s"


def over(flow: Flow, count: int, move: Callable[[Store, object], int]) -> int:
    with flow.stores(Role.DISPATCHER).transaction() as conn:
        items = list(conn.execute(_ITEMS, {"count": count}))
    return sweep(flow.dispatcher, items, move, lambda row: row.item)
