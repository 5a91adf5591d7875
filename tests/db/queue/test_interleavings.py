"""Calls that run into each other at any statement: as hypothesis likes (`tests.db.interleaved`), and in orders that once went wrong."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import make_url

from db import sweeps
from db.actors import Actor
from db.jobs.steering import delete_job, set_priority
from db.lifecycle import MAX_CRASHES
from db.queue.endings import expire_jobs
from db.queue.recovery import reap_leases
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.db.flow import Flow, Stores
from tests.db.interleaved import Interleaved
from tests.db.turnstile import Place, Turnstile


@pytest.fixture(autouse=True)
def stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a lock does so until the test moves who holds it."""
    monkeypatch.setattr(sweeps, "WAIT_MS", 30_000)


@pytest.fixture
def watch(server: Server, settings: StoreSettings) -> Iterator["psycopg.Connection[Any]"]:
    database = make_url(str(settings.database_url)).database
    assert database is not None
    with psycopg.connect(server.postgres.superuser_url(database).render_as_string(hide_password=False), autocommit=True) as connection:
        yield connection


def test_a_call_that_waits_for_a_lock_is_left_waiting_and_goes_on_by_itself(
    stores: Stores, tenant: Actor, watch: "psycopg.Connection[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, gate = Flow(stores), Turnstile(watch)
    flow.job(tenant, 10)
    gate.stand_before([flow.dispatcher.engine], monkeypatch.setattr)
    first, second = (gate.start(name, lambda: flow.change_shards("epoch = epoch + 1")) for name in ("first", "second"))
    for call in (first, first, second, second):  # each names its tenant, and changes
        gate.step(call)
    assert (first.place, second.place) == (Place.STOPPED, Place.GOING)
    gate.step(first)  # commits
    assert (first.place, first.result) == (Place.OVER, 1)
    assert second.place is Place.STOPPED
    gate.open()
    assert (second.result, second.error) == (1, None)
    assert flow.execute(tenant, "SELECT epoch FROM shards") == [(2,)]


def test_a_shard_that_is_halved_while_its_jobs_deadline_passes_locks_nobody_out(
    stores: Stores, tenant: Actor, watch: "psycopg.Connection[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reconciler has the shard and needs the job for the new half; the end of the job has the job and needs its shards."""
    flow, gate = Flow(stores), Turnstile(watch)
    job = flow.job(tenant, 10)
    flow.claim()
    flow.change_shards("crash_attempts = :crashes", crashes=MAX_CRASHES)
    flow.end_leases()
    flow.execute(tenant, "UPDATE jobs SET deadline = now()")
    gate.stand_before([flow.dispatcher.engine], monkeypatch.setattr)
    halving = gate.start("halving", lambda: reap_leases(flow.dispatcher))
    gate.run_to(halving, "INSERT INTO shards")
    ending = gate.start("ending", lambda: expire_jobs(flow.dispatcher))
    gate.run_to(ending, "ORDER BY shard_id FOR UPDATE")
    gate.step(ending)
    gate.step(halving)
    gate.open()
    assert (halving.error, ending.error) == (None, None)
    assert (len(halving.result), ending.result) == (1, 1)
    assert [shard[:3] for shard in flow.shards(job)] == [(0, 5, "expired"), (5, 10, "expired")]


@pytest.mark.parametrize("act", ["priority", "delete"])
def test_a_shard_that_is_halved_while_its_owner_steers_the_job_locks_nobody_out(
    stores: Stores, tenant: Actor, watch: "psycopg.Connection[Any]", monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """As above; and the new half, which was not there when the owner's call looked, gets what the call does to the others."""
    flow, gate = Flow(stores), Turnstile(watch)
    job = flow.job(tenant, 10)
    flow.claim()
    flow.change_shards("crash_attempts = :crashes", crashes=MAX_CRASHES)
    flow.end_leases()
    gate.stand_before([flow.dispatcher.engine, flow.api.engine], monkeypatch.setattr)
    halving = gate.start("halving", lambda: reap_leases(flow.dispatcher))
    gate.run_to(halving, "INSERT INTO shards")
    acts: dict[str, Callable[[], object]] = {
        "priority": lambda: set_priority(flow.api, tenant, job.job_id, 7),
        "delete": lambda: delete_job(flow.api, tenant, job.job_id),
    }
    steering = gate.start("steering", acts[act])
    gate.run_to(steering, "ORDER BY shard_id FOR UPDATE")
    gate.step(steering)
    gate.step(halving)
    gate.open()
    assert (halving.error, steering.error) == (None, None)
    left = [("priority", 7)] * 2 if act == "priority" else []
    assert [("priority", priority) for (priority,) in flow.execute(tenant, "SELECT priority FROM shards")] == left


def _run(stores: Stores, tenant: Actor, watch: "psycopg.Connection[Any]", monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    gate = Turnstile(watch)
    gate.stand_before([stores(role).engine for role in (Role.API, Role.WORKER, Role.DISPATCHER)], monkeypatch.setattr)

    class This(Interleaved):
        flow = Flow(stores)
        actor = tenant
        turnstile = gate

    This.watch = watch
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        This,
        settings=settings_of(examples),
    )


def settings_of(examples: int) -> settings:
    return settings(max_examples=examples, stateful_step_count=120, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def test_calls_that_run_into_each_other_at_any_statement_harm_nothing(
    stores: Stores, tenant: Actor, watch: "psycopg.Connection[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(stores, tenant, watch, monkeypatch, 25)


@pytest.mark.matrix
def test_and_a_few_hundred_orders_more(
    stores: Stores, tenant: Actor, watch: "psycopg.Connection[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(stores, tenant, watch, monkeypatch, 300)
