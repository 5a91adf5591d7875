"""F39: a job cancelled or deleted, and whatever that may run into: claims, reads, writes, drains, deaths, takeovers."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from db.actors import Actor, Lease
from db.connect import Store
from db.errors import Conflict, LeaseLost
from db.jobs.creating import create_job
from db.jobs.jobs import get_job
from db.jobs.results import iter_results
from db.jobs.steering import cancel_job, delete_job
from db.lifecycle import LIVE_JOBS
from db.queue.dispatch import cut_validating_jobs
from db.queue.endings import cancel_shards, finalize_jobs
from db.queue.recovery import reap_leases
from db.queue.shards import claim_any, open_shard, release, renew
from db.settings import Role
from tests.db.flow import Flow, new_job
from tests.faults.conftest import Verdict
from tests.faults.counters import NEVER_RAN, Counters
from tests.waiting import wait_until

Stores = Callable[[Role], Store]
ROWS = 16  # of a job: two shards
AT_ONCE = 5
ANSWER = b'{"label":"a"}'  # what tests.db.flow answers
SEED = 20_251


@dataclass
class Arena:
    """Jobs over one file, and who works on them. ``opened``: (job, row) that a worker has held in plain text."""

    flow: Flow
    owner: Actor
    file_id: UUID
    opened: Counter[tuple[UUID, int]] = field(default_factory=Counter)
    errors: list[BaseException] = field(default_factory=list)
    abandoned: dict[UUID, int] = field(default_factory=dict)  # shards whose holder died once, and at which epoch
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> list[UUID]:
        made = [create_job(self.flow.api, self.owner, new_job(self.file_id)).job_id for _ in range(AT_ONCE)]
        self.flow.cut(80)
        return made

    def round(self, dice: random.Random, end: Callable[[Store, Actor, UUID], object] = cancel_job) -> list[UUID]:
        """Five jobs, each of which meets ``end`` at some moment of its life."""
        made, over = self.start(), threading.Event()
        acts: list[Callable[[random.Random], object]] = [
            *(lambda own, job=job: self.end(own, end, job) for job in made),  # type: ignore[misc]
            lambda own: self.until(over, lambda: self.work(own, f"w:{own.random()}")),
            lambda own: self.until(over, lambda: self.work(own, f"w:{own.random()}")),
            lambda own: self.until(over, lambda: (cancel_shards(self.flow.dispatcher), finalize_jobs(self.flow.dispatcher))),
            lambda own: self.until(over, lambda: self.recover(own)),
        ]
        threads = [threading.Thread(target=self.guarded, args=(act, random.Random(dice.random()))) for act in acts]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: self.errors or not self.live(made), "every job ends", 20)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        return made

    def live(self, made: Iterable[UUID]) -> bool:
        found = self.flow.execute(
            self.owner,
            "SELECT count(*) FROM jobs WHERE job_id = ANY(:jobs) AND state = ANY(:live)",
            jobs=list(made),
            live=[state.value for state in LIVE_JOBS],
        )
        return found != [(0,)]

    def guarded(self, act: Callable[[random.Random], object], own: random.Random) -> None:
        try:
            act(own)
        except BaseException as error:
            self.errors.append(error)

    @staticmethod
    def until(over: threading.Event, act: Callable[[], object]) -> None:
        while not over.is_set():
            act()

    # What may happen.

    def end(self, own: random.Random, end: Callable[[Store, Actor, UUID], object], job_id: UUID) -> None:
        time.sleep(own.random() * 0.15)
        try:
            end(self.flow.api, self.owner, job_id)
        except Conflict:  # it was faster
            return

    def work(self, own: random.Random, name: str) -> None:
        """The life of a shard or two, which may end at any point."""
        for lease in claim_any(self.flow.worker, name, limit=own.choice((1, 2))):
            try:
                self.shard(own, lease)
            except LeaseLost:
                continue

    def shard(self, own: random.Random, lease: Lease) -> None:
        rows = [row.idx for row in open_shard(self.flow.worker, lease)[1]]
        with self.lock:
            self.opened.update((lease.job_id, idx) for idx in rows)
        time.sleep(own.random() * 0.004)  # the model
        verdict = renew(self.flow.worker, [lease])[lease.shard_id] if own.random() < 0.5 else "held"
        if verdict == "lost":
            raise LeaseLost
        fate = own.random()
        if fate < 0.15 and lease.shard_id not in self.abandoned:
            self.abandoned[lease.shard_id] = lease.epoch  # the process dies
            return
        part = rows[: own.randint(0, len(rows))] if fate < 0.5 or verdict == "cancelled" else rows
        if part:
            self.flow.answer(lease, part, finish=len(part) == len(rows))
        if len(part) < len(rows):  # a drain, a cancel that was heard of, or an error
            release(self.flow.worker, lease, code="engine_error", kind="drain" if fate < 0.45 or verdict == "cancelled" else "error")

    def recover(self, own: random.Random) -> None:
        """Leases of the dead run out, and once in a while one of the living: its holder is a zombie from then on."""
        time.sleep(0.01)
        alive = "OR crash_attempts = 0" if own.random() < 0.1 else ""
        dead = dict(self.abandoned)
        self.flow.change_shards(
            "lease_expires_at = now() - interval '1 minute' WHERE shard_id IN (SELECT shard_id FROM shards WHERE state = 'leased' AND"
            " ((shard_id, epoch) IN (SELECT * FROM unnest(CAST(:dead AS uuid[]), CAST(:epochs AS integer[])))"
            f" {alive}) FOR UPDATE SKIP LOCKED)",
            dead=list(dead),
            epochs=list(dead.values()),
        )
        self.flow.change_shards(
            "not_before = NULL WHERE shard_id IN (SELECT shard_id FROM shards WHERE not_before > now() FOR UPDATE SKIP LOCKED)"
        )
        reap_leases(self.flow.dispatcher)

    # What is left.

    def count(self, made: list[UUID]) -> tuple[Counters, Counter[str]]:
        lost = doubled = wrong = miscounted = 0
        states: Counter[str] = Counter()
        for job_id in made:
            job = get_job(self.flow.api, self.owner, job_id)
            states[job.state] += 1
            output = list(iter_results(self.flow.api, self.owner, job_id, which="output"))
            errors = list(iter_results(self.flow.api, self.owner, job_id, which="errors"))
            outcomes = Counter(line.idx for line in (*output, *errors))
            lost += sum(idx not in outcomes for idx in range(ROWS)) if job.ended else ROWS
            doubled += sum(seen - 1 for seen in outcomes.values())
            wrong += sum(line.payload != ANSWER for line in output)
            wrong += sum(not (job.state == "cancelled" and line.code in NEVER_RAN) for line in errors)
            miscounted += abs(job.completed_count - len(output)) + abs(job.input_tokens - 3 * len(output)) + job.failed_count
            states["partly done"] += job.state == "cancelled" and 0 < len(output) < ROWS
        recorded = self.recorded()
        unaudited = sum(seen not in recorded for seen in self.opened)
        recomputed = self.opened.total() - len(self.opened)
        return Counters(lost, doubled, wrong, unaudited, miscounted, None, recomputed), states

    def recorded(self) -> set[tuple[Any, int]]:
        found = self.flow.execute(self.owner, "SELECT job_id, first_idx, end_idx FROM audit_events WHERE action = 'rows.read'")
        return {(job_id, idx) for job_id, first, end in found for idx in range(int(first), int(end))}  # type: ignore[call-overload]


@pytest.mark.fault("F39", "cancel racing with claim, model, write, drain")
@pytest.mark.parametrize("cancels", [60, pytest.param(1000, marks=pytest.mark.matrix)])
def test_a_cancel_at_any_moment_leaves_a_job_that_has_ended_and_counts_right(
    stores: Stores, tenant: Actor, verdict: Verdict, cancels: int
) -> None:
    flow = Flow(stores)
    arena, dice = Arena(flow, tenant, flow.upload(tenant, ROWS).file_id), random.Random(SEED)
    made = [job_id for _ in range(cancels // AT_ONCE) for job_id in arena.round(dice)]
    assert arena.errors == []
    counters, states = arena.count(made)
    assert set(states) <= {"cancelled", "completed", "partly done"}
    assert states["cancelled"] > 0
    assert states["partly done"] > 0, "no cancel met a job half-way: nothing was shown"
    live = flow.execute(tenant, "SELECT count(*) FROM shards WHERE state IN ('ready', 'leased')")
    assert live == [(0,)]
    verdict(counters, seed=SEED, **{name.replace(" ", "_"): count for name, count in sorted(states.items())})


@pytest.mark.fault("F39", "delete racing with claim, model, write, drain")
@pytest.mark.parametrize("deletes", [60, pytest.param(1000, marks=pytest.mark.matrix)])
def test_a_delete_at_any_moment_leaves_no_result_and_no_key(stores: Stores, tenant: Actor, verdict: Verdict, deletes: int) -> None:
    flow = Flow(stores)
    arena, dice = Arena(flow, tenant, flow.upload(tenant, ROWS).file_id), random.Random(SEED)
    states: Counter[str] = Counter()

    def delete(store: Store, owner: Actor, job_id: UUID) -> None:
        states[get_job(store, owner, job_id).state] += 1
        delete_job(store, owner, job_id)

    made = [job_id for _ in range(deletes // AT_ONCE) for job_id in arena.round(dice, delete)]
    assert arena.errors == []
    assert len(made) == states.total() == deletes
    assert states["in_progress"] > 0, "no delete met a job half-way: nothing was shown"
    left = {table: flow.execute(tenant, f"SELECT count(*) FROM {table}")[0][0] for table in ("jobs", "job_specs", "shards", "results")}
    left["job keys"] = flow.execute(tenant, "SELECT count(*) FROM data_keys WHERE owner_kind = 'job'")[0][0]
    assert not any(left.values()), left
    recorded = arena.recorded()
    unaudited = sum(seen not in recorded for seen in arena.opened)
    recomputed = arena.opened.total() - len(arena.opened)
    verdict(Counters(unaudited=unaudited, recomputed=recomputed), seed=SEED, **dict(sorted(states.items())))


@pytest.mark.fault("F39", "jobs cancelled while they start")
@pytest.mark.parametrize("cancels", [60, pytest.param(1000, marks=pytest.mark.matrix)])
def test_jobs_that_are_cancelled_while_they_start_leave_no_work_behind(
    stores: Stores, tenant: Actor, verdict: Verdict, cancels: int
) -> None:
    flow = Flow(stores)
    arena, dice = Arena(flow, tenant, flow.upload(tenant, ROWS).file_id), random.Random(SEED)
    made: list[UUID] = []
    over = threading.Event()

    def start_and_cancel(own: random.Random) -> None:
        for _ in range(cancels // 4):
            job_id = create_job(flow.api, tenant, new_job(arena.file_id)).job_id
            made.append(job_id)
            time.sleep(own.random() * 0.01)
            assert cancel_job(flow.api, tenant, job_id).state in {"cancelling", "cancelled"}

    def give_back(own: random.Random) -> None:
        """A worker that is told to stop whenever it has begun something: so nothing of any job is done."""
        for lease in claim_any(flow.worker, f"w:{own.random()}", limit=4):
            release(flow.worker, lease, code=None, kind="drain")

    starting = [threading.Thread(target=arena.guarded, args=(start_and_cancel, random.Random(dice.random()))) for _ in range(4)]

    def cut(own: random.Random) -> None:
        """Not all the time: some jobs must be cancelled before."""
        time.sleep(own.random() * 0.03)
        cut_validating_jobs(flow.dispatcher, lambda _model, _task: 1)

    acts: list[Callable[[random.Random], object]] = [
        *[cut] * 2,
        *[lambda _: (cancel_shards(flow.dispatcher), finalize_jobs(flow.dispatcher))] * 2,
        give_back,
    ]
    others = [
        threading.Thread(
            target=arena.guarded, args=(lambda own, act=act: arena.until(over, lambda: act(own)), random.Random(dice.random()))
        )  # type: ignore[misc]
        for act in acts
    ]
    for thread in (*starting, *others):
        thread.start()
    for thread in starting:
        thread.join()
    try:
        wait_until(lambda: arena.errors or not arena.live(made), "every job ends", 20)
    finally:
        over.set()
        for thread in others:
            thread.join()
    assert arena.errors == []
    assert flow.execute(tenant, "SELECT state, count(*) FROM jobs GROUP BY state") == [("cancelled", cancels)]
    states = dict(flow.execute(tenant, "SELECT state, count(*) FROM shards GROUP BY state"))
    assert states.keys() == {"cancelled"}, "no job was cut before it was cancelled, or a shard is left for somebody"
    started = flow.execute(tenant, "SELECT count(DISTINCT job_id) FROM shards")[0][0]
    counted = flow.execute(tenant, "SELECT coalesce(sum(completed_count + failed_count), 0)::int FROM jobs")[0][0]
    stored = flow.execute(tenant, "SELECT count(*) FROM results")[0][0]
    assert isinstance(started, int)
    assert 0 < started < cancels, "all of them were cancelled before they were cut, or all after: nothing was shown"
    verdict(Counters(wrong=int(str(stored)), miscounted=int(str(counted))), seed=SEED, started=started, never_started=cancels - started)
