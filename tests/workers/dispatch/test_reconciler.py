import threading
from collections.abc import Callable

import pytest
from sqlalchemy import select, text

from db.actors import Actor
from db.connect import Store
from db.files.purge import FilePurge
from db.purging import Purged
from db.queue import dispatch, recovery, shards
from db.queue.leader import Leadership
from db.schema import shards as shards_table
from db.settings import Role
from db.sweeps import Place, Unfinished
from tests.looking import on_record
from tests.workers.submitting import row, submit
from workers.dispatch.metrics import REGISTRY
from workers.dispatch.reconciler import Reconciler
from workers.settings import DispatcherSettings

Stores = Callable[[Role], Store]


def test_a_lease_that_ran_out_is_offered_again(stores: Stores, tenant: Actor) -> None:
    job_id = submit(stores(Role.API), tenant, [row(0, {"input": "x"})])
    dispatch.cut_validating_jobs(stores(Role.DISPATCHER), lambda _model, _task: 1000)
    (lease,) = shards.claim_any(stores(Role.WORKER), "test:1", limit=1, lease_seconds=0)
    assert Reconciler(stores(Role.DISPATCHER), DispatcherSettings()).reap() == 1
    with stores(Role.DISPATCHER).transaction() as connection:
        shard = connection.execute(select(shards_table).where(shards_table.c.job_id == job_id)).one()
    assert (shard.state, shard.crash_attempts, shard.epoch) == ("ready", 1, lease.epoch)


def test_a_lease_that_is_live_is_left_alone(stores: Stores, tenant: Actor) -> None:
    submit(stores(Role.API), tenant, [row(0, {"input": "x"})])
    dispatch.cut_validating_jobs(stores(Role.DISPATCHER), lambda _model, _task: 1000)
    assert len(shards.claim_any(stores(Role.WORKER), "test:1", limit=1)) == 1
    assert Reconciler(stores(Role.DISPATCHER), DispatcherSettings()).reap() == 0


def test_no_duty_is_done_where_another_dispatcher_leads_and_that_is_no_failure(
    stores: Stores, tenant: Actor, caplog: pytest.LogCaptureFixture
) -> None:
    submit(stores(Role.API), tenant, [row(0, {"input": "x"})])
    dispatch.cut_validating_jobs(stores(Role.DISPATCHER), lambda _model, _task: 1000)
    shards.claim_any(stores(Role.WORKER), "test:1", limit=1, lease_seconds=0)
    leadership = Leadership(stores(Role.DISPATCHER), "host:1:one")
    reconciler = Reconciler(leadership.guarded(), DispatcherSettings())
    reconciler.run_due(1000.0)
    assert states(stores(Role.DISPATCHER)) == ["leased"]
    assert "failed" not in caplog.text
    assert leadership.held()
    reconciler.run_due(2000.0)
    assert states(stores(Role.DISPATCHER)) == ["ready"]


def states(store: Store) -> list[str]:
    with store.transaction() as connection:
        return list(connection.execute(select(shards_table.c.state)).scalars())


def test_a_duty_that_fails_is_told_once_and_does_not_stop_the_others(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    purged: list[int] = []

    def fail(_: Store, _place: Place) -> list[object]:
        raise RuntimeError("something with content in it")

    monkeypatch.setattr(recovery, "reap_leases", fail)
    monkeypatch.setattr(FilePurge, "run", lambda _self: purged.append(1) or Purged(0, more=False))
    reconciler = Reconciler(stores(Role.DISPATCHER), DispatcherSettings())
    for now in (1000.0, 1001.5, 1003.0):
        reconciler.run_due(now)
    assert purged == [1]
    assert caplog.text.count("duty reap failed: RuntimeError") == 1
    assert "content" not in caplog.text


def test_how_the_work_goes_is_measured_while_this_process_leads(stores: Stores, tenant: Actor) -> None:
    submit(stores(Role.API), tenant, [row(0, {"input": "x"})])
    dispatch.cut_validating_jobs(stores(Role.DISPATCHER), lambda _model, _task: 1000)
    reconciler = Reconciler(stores(Role.DISPATCHER), DispatcherSettings(reap_seconds=60))
    passes = sample("textmill_reconciler_duty_seconds_count", duty="measure") or 0
    reconciler.resume()
    try:
        reconciler.run_due(1000.0)
        assert sample("textmill_queue_shards", state="ready") == 1
        assert sample("textmill_live_jobs", state="in_progress") == 1
        assert (sample("textmill_reconciler_duty_seconds_count", duty="measure") or 0) == passes + 1
        reconciler.pause()
        assert sample("textmill_queue_shards", state="ready") is None, "another one leads, and knows"
    finally:
        reconciler.stop()


def test_leases_are_looked_after_while_a_purge_takes_its_time(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    purging, reaped, over = threading.Event(), threading.Event(), threading.Event()

    def purge(_self: FilePurge) -> Purged:
        purging.set()
        over.wait(10)
        return Purged(1, more=False)

    def reap(_: Store, _place: Place) -> list[object]:
        if purging.is_set():
            reaped.set()
        return []

    monkeypatch.setattr(FilePurge, "run", purge)
    monkeypatch.setattr(recovery, "reap_leases", reap)
    reconciler = Reconciler(stores(Role.DISPATCHER), DispatcherSettings(reap_seconds=0.5))
    reconciler.resume()
    try:
        assert reaped.wait(8)
        assert not over.is_set()
    finally:
        over.set()
        reconciler.stop()
    assert not [thread.name for thread in threading.enumerate() if thread.name in {"reconciler", "upkeep"}]


def test_a_purge_that_ended_at_its_limit_goes_on_at_once(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = iter([Purged(0, more=True), Purged(1, more=False)])
    monkeypatch.setattr(FilePurge, "run", lambda _self: next(passes))
    failures = sample("textmill_reconciler_duty_failures_total", duty="purge_files") or 0
    reconciler = Reconciler(stores(Role.DISPATCHER), DispatcherSettings())
    for now in (1000.0, 1000.1, 1000.2):
        reconciler.run_due(now)
    assert next(passes, None) is None
    assert (sample("textmill_reconciler_duty_failures_total", duty="purge_files") or 0) == failures


def test_nothing_is_purged_by_a_process_that_does_not_lead(stores: Stores, tenant: Actor) -> None:
    submit(stores(Role.API), tenant, [row(0, {"input": "x"})])
    with on_record(stores(Role.API), tenant.tenant_id) as connection:
        connection.execute(text("UPDATE jobs SET state = 'failed'"))
        connection.execute(text("UPDATE files SET expires_at = now()"))
    reconciler = Reconciler(stores(Role.DISPATCHER), DispatcherSettings(reap_seconds=60))
    reconciler.purge_files()
    assert file_states(stores(Role.DISPATCHER)) == ["processed"]
    reconciler.resume()
    try:
        reconciler.purge_files()
        assert file_states(stores(Role.DISPATCHER)) == ["deleted"]
    finally:
        reconciler.stop()


def file_states(store: Store) -> list[str]:
    with store.transaction() as connection:
        return list(connection.execute(text("SELECT state FROM files")).scalars())


def test_a_duty_that_fails_is_counted(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Store, _place: Place) -> list[object]:
        raise RuntimeError

    monkeypatch.setattr(recovery, "reap_leases", fail)
    before = sample("textmill_reconciler_duty_failures_total", duty="reap") or 0
    Reconciler(stores(Role.DISPATCHER), DispatcherSettings()).run_due(1000.0)
    assert sample("textmill_reconciler_duty_failures_total", duty="reap") == before + 1


def test_leases_that_were_reaped_beside_one_that_could_not_be_are_counted_and_so_is_the_failure(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reap_all_but_one(_: Store, _place: Place) -> list[object]:
        raise Unfinished(3, 1)

    monkeypatch.setattr(recovery, "reap_leases", reap_all_but_one)
    reaped, failures = (
        sample("textmill_leases_reaped_total") or 0,
        sample("textmill_reconciler_duty_failures_total", duty="reap") or 0,
    )
    Reconciler(stores(Role.DISPATCHER), DispatcherSettings()).run_due(1000.0)
    assert sample("textmill_leases_reaped_total") == reaped + 3
    assert sample("textmill_reconciler_duty_failures_total", duty="reap") == failures + 1


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)
