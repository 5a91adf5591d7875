"""The real queries under every order of their statements: two workers, a reconciler, a dispatcher and the job's owner, one statement at a
time, as hypothesis likes. What a call may not see half done, another one stands in the middle of."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import make_url

from db import shards, sweeps
from db.actors import Actor
from db.errors import Conflict, LeaseLost
from db.jobs import cancel_job, cancel_shards, expire_jobs, finalize_jobs, pick_dispatchable, reap_leases
from db.lifecycle import LIVE_JOBS, MAX_CRASHES
from db.settings import Role, StoreSettings
from db.shards import Lease
from db.steering import delete_job, set_priority
from tests.conftest import Server
from tests.db.flow import Flow, Stores
from tests.db.turnstile import Call, Place, Turnstile

ROWS = 20
PEOPLE = ("one worker", "another worker", "reconciler", "dispatcher", "owner")
WORKERS = PEOPLE[:2]
JUMPS = (12.0, 100.0)  # a lease is 30 s, and a takeover waits 10 s more


class Seen(NamedTuple):
    """A shard, as everybody may see it. ``live``: leased, and for some seconds to come."""

    first_idx: int
    end_idx: int
    state: str
    epoch: int
    crashes: int
    counted: int
    live: bool


@dataclass
class Hold:
    """A lease that a worker believes to have, and what it has read and written under it."""

    lease: Lease
    rows: list[int] | None = None
    written: list[int] | None = None


class Interleaved(RuleBasedStateMachine):
    flow: Flow
    actor: Actor
    turnstile: Turnstile
    watch: "psycopg.Connection[Any]"

    def __init__(self) -> None:
        super().__init__()
        self.turnstile.close()
        self.job = self.flow.job(self.actor, ROWS)
        self.names = {worker: uuid.uuid4().hex for worker in WORKERS}
        self.calls: dict[str, Call] = {}
        self.then: dict[str, Callable[[Any], None]] = {}
        self.holds: dict[str, list[Hold]] = {worker: [] for worker in WORKERS}
        self.shards: dict[uuid.UUID, Seen] = {}
        self.results: dict[int, tuple[int, int]] = {}
        self.state = ""
        self._look()

    # What each may do next.

    @rule(who=st.sampled_from(PEOPLE), choice=st.integers(0, 7), at=st.integers(0, 7))
    def go(self, who: str, choice: int, at: int) -> None:
        """One statement of the call that ``who`` is in; else the beginning of the next."""
        call = self.calls.get(who)
        if call is None:
            act, then = self._next_of_worker(who, choice, at) if who in WORKERS else self._next(who, choice)
            self.calls[who] = call = self.turnstile.start(who, act)
            self.then[who] = then
        else:
            self.turnstile.step(call)
        for name, one in list(self.calls.items()):
            if one.over:
                del self.calls[name]
                self._over(name, one)

    @rule(seconds=st.sampled_from(JUMPS))
    def pass_time(self, seconds: float) -> None:
        """For shards that nobody is at: of one that is locked, what its lease was is known to whoever has locked it."""
        self.flow.change_shards(
            "lease_expires_at = lease_expires_at - make_interval(secs => :seconds),"
            " not_before = not_before - make_interval(secs => :seconds)"
            " WHERE shard_id IN (SELECT shard_id FROM shards WHERE job_id = :job FOR UPDATE SKIP LOCKED)",
            seconds=seconds,
            job=self.job.job_id,
        )

    def _next(self, who: str, choice: int) -> tuple[Callable[[], object], Callable[[Any], None]]:
        flow = self.flow
        acts: dict[str, list[Callable[[], object]]] = {
            "reconciler": [lambda: reap_leases(flow.dispatcher)],
            "dispatcher": [
                lambda: finalize_jobs(flow.dispatcher),
                lambda: cancel_shards(flow.dispatcher),
                lambda: pick_dispatchable(flow.dispatcher, 2, redispatch_seconds=0),
                lambda: expire_jobs(flow.dispatcher),
            ],
            "owner": [self._cancel if choice == 7 else self._end_time if choice == 6 else lambda: None],
        }
        return acts[who][choice % len(acts[who])], lambda _: None

    def _cancel(self) -> None:
        try:
            cancel_job(self.flow.api, self.actor, self.job.job_id)
        except Conflict:  # it has ended
            return

    def _end_time(self) -> None:
        self.flow.execute(self.actor, "UPDATE jobs SET deadline = now() WHERE job_id = :job", job=self.job.job_id)

    def _next_of_worker(self, who: str, choice: int, at: int) -> tuple[Callable[[], object], Callable[[Any], None]]:
        flow, holds, name = self.flow, self.holds[who], self.names[who]
        if not holds or (choice == 0 and len(holds) < 3):
            if at % 2 or not self.shards:
                return lambda: shards.claim_any(flow.worker, name, limit=1), lambda claimed: holds.extend(map(Hold, claimed))
            shard_id, seen = list(self.shards.items())[at % len(self.shards)]
            return (
                lambda: shards.claim(flow.worker, shard_id, seen.epoch, name),
                lambda claimed: holds.extend([] if claimed is None else [Hold(claimed)]),
            )
        hold = holds[at % len(holds)]
        lease = hold.lease
        if choice == 1:
            return lambda: shards.renew(flow.worker, [lease]), lambda verdicts: self._renewed(who, hold, verdicts[lease.shard_id])
        if choice == 2:
            kind: Any = "drain" if at % 2 else "error"
            return lambda: shards.release(flow.worker, lease, code="engine_error", kind=kind), lambda _: self._drop(who, hold)
        if choice == 3 and at == 0:  # the process dies; its lease stays behind, and another process comes in its place
            self.holds[who], self.names[who] = [], uuid.uuid4().hex
            return lambda: None, lambda _: None
        if hold.rows is None:
            return lambda: shards.open_shard(flow.worker, lease), lambda work: setattr(hold, "rows", [row.idx for row in work.rows])
        return self._write(who, hold, hold.rows, choice, at)

    def _write(self, who: str, hold: Hold, rows: list[int], choice: int, at: int) -> tuple[Callable[[], object], Callable[[Any], None]]:
        """All that is left, or a part of it; or once more what was written last, as after a commit in doubt."""
        if choice == 4 and hold.written is not None:
            again = hold.written
            return lambda: self.flow.answer(hold.lease, again, finish=False), lambda _: None
        part = rows[: 1 + at] if choice == 5 else rows
        finish = len(part) == len(rows)

        def written(_: object) -> None:
            hold.rows, hold.written = rows[len(part) :], part
            if finish:
                self._drop(who, hold)

        return lambda: self.flow.answer(hold.lease, part, finish=finish), written

    def _over(self, who: str, call: Call) -> None:
        then = self.then.pop(who)
        if call.error is None:
            then(call.result)
        elif not isinstance(call.error, LeaseLost):
            raise AssertionError(f"{who} failed") from call.error
        elif who in WORKERS:
            # Which one it was is known to the call alone; a worker that lost one lets go of all, which loses nothing.
            self.holds[who].clear()

    def _drop(self, who: str, hold: Hold) -> None:
        if hold in self.holds[who]:
            self.holds[who].remove(hold)

    def _renewed(self, who: str, hold: Hold, verdict: str) -> None:
        if verdict == "lost":
            self._drop(who, hold)
            return
        seen = self._shards()[hold.lease.shard_id]
        assert (seen.state, seen.epoch, seen.live) == ("leased", hold.lease.epoch, True), "who is told that it holds a lease does"

    # What everybody may see, and how it may change from one step to the next: by one commit.

    def _shards(self) -> dict[uuid.UUID, Seen]:
        found = self.watch.execute(
            "SELECT shard_id, first_idx, end_idx, state, epoch, crash_attempts, completed_count + failed_count,"
            " coalesce(lease_expires_at > clock_timestamp() + interval '5 seconds', false)"
            " FROM shards WHERE job_id = %s ORDER BY first_idx",
            [self.job.job_id],
        )
        return {row[0]: Seen(*row[1:]) for row in found}

    def _job(self) -> tuple[Any, ...]:
        """(state, completed, failed)"""
        asked = "SELECT state, completed_count, failed_count FROM jobs WHERE job_id = %s"
        return self.watch.execute(asked, [self.job.job_id]).fetchall()[0]

    def _look(self) -> tuple[dict[uuid.UUID, Seen], dict[int, tuple[int, int]]]:
        """Takes in how it is; returns how it was."""
        was = self.shards, self.results
        self.shards = self._shards()
        found = self.watch.execute("SELECT idx, epoch, outcome FROM results WHERE job_id = %s", [self.job.job_id]).fetchall()
        assert len(found) == len({idx for idx, _, _ in found}), "a row has two results"
        self.results = {idx: (epoch, outcome) for idx, epoch, outcome in found}
        return was

    @invariant()
    def every_change_was_allowed(self) -> None:
        shards_before, results_before = self._look()
        had_ended = self.state not in {"", *LIVE_JOBS}
        self.state, *counts = self._job()
        assert results_before.items() <= self.results.items(), "a result is for ever"
        for shard_id, before in shards_before.items():
            self._allowed(before, self.shards[shard_id])
        for idx in self.results.keys() - results_before.keys():
            holder = next(shard for shard in shards_before.values() if shard.first_idx <= idx < shard.end_idx)
            assert holder.state == "leased", "who held nothing stored a result"
            assert holder.epoch == self.results[idx][0], "a stale epoch stored a result"
        if had_ended:
            assert self.results == results_before, "a result of a job that had ended"
        if self.state not in LIVE_JOBS:
            assert sum(counts) == len(self.results)
            assert not [shard for shard in self.shards.values() if shard.state in {"ready", "leased"}]

    def _allowed(self, before: Seen, now: Seen) -> None:
        assert now.epoch >= before.epoch, "an epoch comes once"
        if before.state == "leased" and before.live:
            assert not (now.state == "leased" and now.epoch > before.epoch), "a live lease was given to somebody else"
            assert now.crashes <= before.crashes, "a live lease was taken for dead"
        if before.state in {"done", "cancelled", "expired"}:
            assert (now.state, now.epoch) == (before.state, before.epoch), "what has ended has ended"

    @invariant()
    def rows_and_counts_agree(self) -> None:
        covered = [idx for shard in self.shards.values() for idx in range(shard.first_idx, shard.end_idx)]
        assert sorted(covered) == list(range(ROWS))
        assert sum(shard.counted for shard in self.shards.values()) == len(self.results)
        for shard in self.shards.values():
            if shard.state == "done":
                assert self.results.keys() >= set(range(shard.first_idx, shard.end_idx)), "done, with rows open"

    def teardown(self) -> None:
        """Nothing goes wrong any more: what is under way comes to its end, and so does the job."""
        self.turnstile.open()
        try:
            for call in self.calls.values():
                assert call.error is None or isinstance(call.error, LeaseLost), f"{call.name} failed: {call.error!r}"
            for _ in range(20):
                self.pass_time(100.0)
                reap_leases(self.flow.dispatcher)
                cancel_shards(self.flow.dispatcher)
                for lease in shards.claim_any(self.flow.worker, uuid.uuid4().hex, limit=8):
                    self.flow.answer(lease, [row.idx for row in shards.open_shard(self.flow.worker, lease).rows])
                finalize_jobs(self.flow.dispatcher)
                if self._job()[0] not in LIVE_JOBS:
                    break
            self.shards, self.results = {}, {}
            self._look()
            self.every_change_was_allowed()
            self.rows_and_counts_agree()
            assert self.state not in LIVE_JOBS, "the job ends"
            assert self.state != "completed" or len(self.results) == ROWS
        finally:  # the next example starts with nothing to claim
            self.flow.change_shards("state = 'cancelled' WHERE job_id = :job AND state IN ('ready', 'leased')", job=self.job.job_id)
            self.flow.execute(self.actor, "UPDATE jobs SET state = 'failed' WHERE job_id = :job", job=self.job.job_id)


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
    return settings(max_examples=examples, stateful_step_count=80, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def test_calls_that_run_into_each_other_at_any_statement_harm_nothing(
    stores: Stores, tenant: Actor, watch: "psycopg.Connection[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(stores, tenant, watch, monkeypatch, 25)


@pytest.mark.matrix
def test_and_a_few_hundred_orders_more(
    stores: Stores, tenant: Actor, watch: "psycopg.Connection[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(stores, tenant, watch, monkeypatch, 300)
