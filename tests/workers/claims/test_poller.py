"""On a real store; what runs a shard is pretended."""

import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from sqlalchemy import text

from db.actors import Actor, Lease
from db.connect import Store
from db.lifecycle import INTERACTIVE_PRIORITY
from db.operators.api_keys import SCOPES
from db.operators.tenants import create_tenant
from db.queue import dispatch
from db.queue.shards import Kept
from db.settings import Role
from tests.workers.submitting import row, submit
from workers.claims.poller import Poller
from workers.claims.slots import Slots

Stores = Callable[[Role], Store]
WAIT_SECONDS = 20


class Running:
    """Holds every shard until it is let go."""

    def __init__(self) -> None:
        self.jobs: list[UUID] = []
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Event()

    def __call__(self, lease: Lease, _claimed_at: float) -> None:
        self.jobs.append(lease.job_id)
        self.entered.release()
        assert self.let_go.wait(WAIT_SECONDS)


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.let_go.set()


def job(stores: Stores, tenant: Actor, *, priority: int = 0, rows: int = 1) -> UUID:
    job_id = submit(stores(Role.API), tenant, [row(at, {"input": "a text"}) for at in range(rows)], priority=priority)
    dispatch.cut_validating_jobs(stores(Role.DISPATCHER), lambda _model, _task: 10**9)
    return job_id


def poller(stores: Stores, slots: Slots, run: Running, *, poll_seconds: float = 60) -> Poller:
    return Poller(stores(Role.WORKER), slots, run, worker="test:1", poll_seconds=poll_seconds, lease_seconds=30)


def test_as_many_shards_are_claimed_as_slots_are_idle(stores: Stores, tenant: Actor, running: Running) -> None:
    for _ in range(3):
        job(stores, tenant)
    slots = Slots(2, {Kept.INTERACTIVE: 1})
    made = poller(stores, slots, running)
    assert (made.poll(), made.poll()) == (2, 0)
    running.let_go.set()
    assert slots.wait_all_free(WAIT_SECONDS)
    assert made.poll() == 1
    made.stop()


def test_a_kept_slot_takes_an_interactive_shard_while_bulk_holds_the_others(stores: Stores, tenant: Actor, running: Running) -> None:
    job(stores, tenant), job(stores, tenant)
    slots = Slots(1, {Kept.INTERACTIVE: 1})
    made = poller(stores, slots, running)
    assert made.poll() == 1
    assert made.poll_kept(Kept.INTERACTIVE) == 0, "the second bulk shard is none of its business"
    urgent = job(stores, tenant, priority=INTERACTIVE_PRIORITY)
    assert made.poll() == 0
    assert made.poll_kept(Kept.INTERACTIVE) == 1
    assert running.entered.acquire(timeout=WAIT_SECONDS)
    assert running.entered.acquire(timeout=WAIT_SECONDS)
    assert running.jobs[-1] == urgent or running.jobs[0] == urgent
    job(stores, tenant, priority=INTERACTIVE_PRIORITY)
    assert made.poll_kept(Kept.INTERACTIVE) == 0, "there is one such slot"
    running.let_go.set()
    assert slots.wait_all_free(WAIT_SECONDS)
    made.stop()


def test_a_kept_slot_takes_a_newcomers_shard_while_another_tenant_holds_the_others(stores: Stores, tenant: Actor, running: Running) -> None:
    job(stores, tenant), job(stores, tenant)
    slots = Slots(1, {Kept.NEWCOMER: 1})
    made = poller(stores, slots, running)
    assert made.poll() == 1
    assert made.poll_kept(Kept.NEWCOMER) == 0, "of that tenant something is in work"
    other = Actor(create_tenant(stores(Role.API), "newcomer"), tenant.principal_id, None, SCOPES)
    newcomers = job(stores, other)
    assert made.poll_kept(Kept.NEWCOMER) == 1
    assert running.entered.acquire(timeout=WAIT_SECONDS)
    assert running.entered.acquire(timeout=WAIT_SECONDS)
    assert newcomers in running.jobs
    running.let_go.set()
    assert slots.wait_all_free(WAIT_SECONDS)
    made.stop()


def test_a_tenant_alone_does_not_get_the_slot_that_is_kept_for_newcomers(stores: Stores, tenant: Actor, running: Running) -> None:
    for _ in range(4):
        job(stores, tenant)
    slots = Slots(2, {Kept.NEWCOMER: 1})
    made = poller(stores, slots, running)
    made.start()
    try:
        for _ in range(2):
            assert running.entered.acquire(timeout=WAIT_SECONDS)
        other = Actor(create_tenant(stores(Role.API), "newcomer"), tenant.principal_id, None, SCOPES)
        newcomers = job(stores, other)
        assert running.entered.acquire(timeout=WAIT_SECONDS)
        assert running.jobs[-1] == newcomers
    finally:
        running.let_go.set()
        made.stop()


def test_interactive_shards_are_looked_for_much_oftener_than_bulk(stores: Stores, tenant: Actor, running: Running) -> None:
    made = poller(stores, Slots(1, {Kept.INTERACTIVE: 1}), running, poll_seconds=3600)
    made.start()
    try:
        bulk = [job(stores, tenant)]
        urgent = job(stores, tenant, priority=INTERACTIVE_PRIORITY)
        assert running.entered.acquire(timeout=WAIT_SECONDS)
        while urgent not in running.jobs:
            assert running.entered.acquire(timeout=WAIT_SECONDS)
        assert set(running.jobs) <= {urgent, *bulk}
    finally:
        running.let_go.set()
        made.stop()


def test_a_store_that_does_not_answer_gives_the_slots_back(stores: Stores, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_args: object, **_named: object) -> list[Lease]:
        raise OSError

    monkeypatch.setattr("db.queue.shards.claim_any", away)
    slots = Slots(2, {Kept.INTERACTIVE: 1})
    made = poller(stores, slots, running)
    assert (made.poll(), made.poll_kept(Kept.INTERACTIVE)) == (0, 0)
    assert slots.wait_all_free(0)


def test_a_shard_whose_thread_cannot_be_started_is_given_back_with_its_slot(
    stores: Stores, tenant: Actor, running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = job(stores, tenant)
    slots = Slots(1)
    made = poller(stores, slots, running)
    with monkeypatch.context() as exhausted:
        exhausted.setattr(made._shards, "_adjust_thread_count", no_thread)
        assert made.poll() == 0
    assert slots.wait_all_free(0)
    assert "could not start a shard: RuntimeError" in caplog.text
    with stores(Role.DISPATCHER).transaction() as connection:
        found = connection.execute(text("SELECT state, error_attempts, crash_attempts FROM shards")).one()
    assert tuple(found) == ("ready", 0, 0)
    assert made.poll() == 1
    running.let_go.set()
    assert slots.wait_all_free(WAIT_SECONDS)
    made.stop()
    assert running.jobs == [first], "what was queued before has been taken back"
    assert slots.take_idle() == 1


def test_a_round_that_fails_does_not_end_the_poller(
    stores: Stores, tenant: Actor, running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds: list[int] = []
    made = poller(stores, Slots(1), running, poll_seconds=0.01)
    poll = made.poll

    def fail_first() -> int:
        rounds.append(1)
        if len(rounds) == 1:
            raise RuntimeError("canary-7f3a-plaintext")
        return poll()

    monkeypatch.setattr(made, "poll", fail_first)
    job(stores, tenant)
    made.start()
    try:
        assert running.entered.acquire(timeout=WAIT_SECONDS)
    finally:
        running.let_go.set()
        made.stop()
    assert "the poller failed: RuntimeError" in caplog.text
    assert "canary" not in caplog.text


def no_thread() -> None:
    raise RuntimeError("can't start new thread")
