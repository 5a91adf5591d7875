"""The real queries under every order of their statements: two workers, a reconciler, two dispatchers and the owner of a job, one statement
at a time, as hypothesis likes. What a call may not see half done, another one stands in the middle of."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from db.actors import Actor, Lease
from db.errors import Conflict, LeaseLost, NotFound
from db.jobs.steering import cancel_job, delete_job, pause_job, resume_job, retry_job, set_priority
from db.lifecycle import FAILED, LIVE_JOBS, MAX_CRASHES
from db.queue import shards
from db.queue.dispatch import pick_dispatchable
from db.queue.endings import cancel_shards, expire_jobs, finalize_jobs
from db.queue.recovery import reap_leases
from db.queue.results import write_results
from db.queue.row import WorkRow
from tests.db.flow import Flow, answers
from tests.db.turnstile import Call, Place, Turnstile

ROWS = 20
PEOPLE = ("one worker", "another worker", "reconciler", "dispatcher", "second dispatcher", "owner")
WORKERS = PEOPLE[:2]
STEPS = (1, 1, 1, 2, 4, 20)  # mostly one after the other, and sometimes a whole call: or nothing would come to an end
JUMPS = (1.0, 4.0, 12.0, 100.0)  # a lease is 30 s, and a takeover waits 10 s more


class Seen(NamedTuple):
    """A shard, as everybody may see it. ``live``: leased, and for some seconds to come."""

    first_idx: int
    end_idx: int
    state: str
    epoch: int
    crashes: int
    counted: int
    live: bool
    priority: int


class SeenJob(NamedTuple):
    state: str
    completed: int
    failed: int
    retries: int
    paused_at: datetime | None
    priority: int

    @property
    def ended(self) -> bool:
        return self.state not in LIVE_JOBS


@dataclass
class Hold:
    """A lease that a worker believes to have, and what it has read and written under it."""

    lease: Lease
    rows: list[int] | None = None
    written: list[WorkRow] | None = None


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
        self.seen = self._job()
        self._look()

    # What each may do next.

    @initialize(suspect=st.booleans())
    def begin(self, suspect: bool) -> None:
        if suspect:  # two holders of the first shard have died already: it is halved when the next one does
            self.flow.change_shards(
                "crash_attempts = :crashes WHERE job_id = :job AND first_idx = 0", crashes=MAX_CRASHES, job=self.job.job_id
            )

    @rule(who=st.sampled_from(PEOPLE), choice=st.integers(0, 7), at=st.integers(0, 7), steps=st.sampled_from(STEPS))
    def go(self, who: str, choice: int, at: int, steps: int) -> None:
        """Some statements of the call that ``who`` is in, or of the next; as far as it comes where it must wait for a lock."""
        for _ in range(steps):
            self._step(who, choice, at)
            self.every_change_was_allowed()
            self.rows_and_counts_agree()
            if who not in self.calls or self.calls[who].place is Place.GOING:
                break

    def _step(self, who: str, choice: int, at: int) -> None:
        """One statement; or the beginning of the next call."""
        call = self.calls.get(who)
        if call is None:
            act, then = self._next_of_worker(who, choice, at) if who in WORKERS else self._next(who, choice, at)
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

    def _next(self, who: str, choice: int, at: int) -> tuple[Callable[[], object], Callable[[Any], None]]:
        flow, job = self.flow, (self.flow.api, self.actor, self.job.job_id)
        acts: dict[str, list[Callable[[], object]]] = {
            "reconciler": [lambda: reap_leases(flow.dispatcher)],
            "dispatcher": [
                lambda: finalize_jobs(flow.dispatcher),
                lambda: cancel_shards(flow.dispatcher),
                lambda: pick_dispatchable(flow.dispatcher, 2, redispatch_seconds=0),
                lambda: expire_jobs(flow.dispatcher),
            ],
            "second dispatcher": [  # one that was slow to notice that it does not lead any more
                lambda: finalize_jobs(flow.dispatcher),
                lambda: cancel_shards(flow.dispatcher),
                lambda: expire_jobs(flow.dispatcher),
            ],
            "owner": [
                lambda: retry_job(*job),
                lambda: delete_job(*job) if at == 0 else pause_job(*job),
                lambda: retry_job(*job),
                lambda: set_priority(*job, priority=at - 4),
                lambda: resume_job(*job),
                lambda: pause_job(*job),
                self._end_time,
                lambda: cancel_job(*job),
            ],
        }
        return acts[who][choice % len(acts[who])], lambda _: None

    def _end_time(self) -> None:
        self.flow.execute(self.actor, "UPDATE jobs SET deadline = now() WHERE job_id = :job", job=self.job.job_id)

    def _next_of_worker(self, who: str, choice: int, at: int) -> tuple[Callable[[], object], Callable[[Any], None]]:
        flow, holds, name = self.flow, self.holds[who], self.names[who]
        if not holds or (choice == 0 and len(holds) < 3):
            return lambda: shards.claim_any(flow.worker, name, limit=1 + at % 2), self._claimed(who)
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
            return lambda: shards.open_shard(flow.worker, lease), lambda opened: setattr(hold, "rows", [row.idx for row in opened[1]])
        return self._write(who, hold, hold.rows, choice, at)

    def _claimed(self, who: str) -> Callable[[list[Lease]], None]:
        paused_at = None if self.seen is None else self.seen.paused_at

        def claimed(leases: list[Lease]) -> None:
            now = self._job()
            if paused_at is not None and now is not None and now.paused_at == paused_at:
                assert leases == [], "a job was paused all the while, and something of it was begun"
            self.holds[who].extend(map(Hold, leases))

        return claimed

    def _write(self, who: str, hold: Hold, rows: list[int], choice: int, at: int) -> tuple[Callable[[], object], Callable[[Any], None]]:
        """All that is left, or the first of it, or failures of the last; or once more what was written last, as after a commit in doubt."""
        if choice == 4 and hold.written is not None:
            again = hold.written
            return lambda: self._store(hold.lease, again, finish=False), lambda _: None
        part = rows[: 1 + at] if choice == 5 else rows[-1 - at :] if choice == 6 else rows
        finish = len(part) == len(rows)
        made = [WorkRow(idx, code="engine_error", input_tokens=3) for idx in part] if choice == 6 else list(answers(part))

        def written(_: object) -> None:
            hold.rows, hold.written = [idx for idx in rows if idx not in part], made
            if finish:
                self._drop(who, hold)

        return lambda: self._store(hold.lease, made, finish=finish), written

    def _store(self, lease: Lease, made: list[WorkRow], *, finish: bool) -> None:
        write_results(self.flow.worker, lease, made, finish=finish, model_version="model-1", metrics=None)

    def _over(self, who: str, call: Call) -> None:
        then = self.then.pop(who)
        if call.error is None:
            then(call.result)
        elif not self._may_fail(call):
            raise AssertionError(f"{who} failed") from call.error
        elif who in WORKERS:
            # Which one it was is known to the call alone; a worker that lost one lets go of all, which loses nothing.
            self.holds[who].clear()

    @staticmethod
    def _may_fail(call: Call) -> bool:
        """A lease may be lost; and the owner may come too late, or after the job is gone."""
        return isinstance(call.error, (Conflict, NotFound) if call.name == "owner" else LeaseLost)

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
            " coalesce(lease_expires_at > clock_timestamp() + interval '5 seconds', false), priority"
            " FROM shards WHERE job_id = %s ORDER BY first_idx",
            [self.job.job_id],
        )
        return {row[0]: Seen(*row[1:]) for row in found}

    def _job(self) -> SeenJob | None:
        """None once it was deleted."""
        asked = "SELECT state, completed_count, failed_count, retry_count, paused_at, priority FROM jobs WHERE job_id = %s"
        found = self.watch.execute(asked, [self.job.job_id]).fetchone()
        return None if found is None else SeenJob(*found)

    def _look(self) -> tuple[dict[uuid.UUID, Seen], dict[int, tuple[int, int]], SeenJob | None]:
        """Takes in how it is; returns how it was."""
        was = self.shards, self.results, self.seen
        self.shards, self.seen = self._shards(), self._job()
        found = self.watch.execute("SELECT idx, epoch, outcome FROM results WHERE job_id = %s", [self.job.job_id]).fetchall()
        assert len(found) == len({idx for idx, _, _ in found}), "a row has two results"
        self.results = {idx: (epoch, outcome) for idx, epoch, outcome in found}
        return was

    @invariant()
    def every_change_was_allowed(self) -> None:
        shards_before, results_before, before = self._look()
        now = self.seen
        if before is None or now is None:
            self._is_gone()
            return
        retried = now.retries > before.retries
        gone = dict(results_before.items() - self.results.items())
        if retried:
            assert before.ended
            assert (now.state, now.paused_at) == ("in_progress", None)
            assert gone == {idx: result for idx, result in results_before.items() if result[1] == FAILED}, "the failures go, and no answer"
        else:
            assert not gone, "a result is for ever"
        for shard_id, shard in shards_before.items():
            self._allowed(shard, self.shards[shard_id], retried=retried)
        for idx in self.results.keys() - results_before.keys():
            holder = next(shard for shard in shards_before.values() if shard.first_idx <= idx < shard.end_idx)
            assert holder.state == "leased", "who held nothing stored a result"
            assert holder.epoch == self.results[idx][0], "a stale epoch stored a result"
        if before.ended and not retried:
            assert (now.state, now.completed, now.failed) == (before.state, before.completed, before.failed), "what has ended has ended"
            assert self.results == results_before, "a result of a job that had ended"
        live = [shard for shard in self.shards.values() if shard.state in {"ready", "leased"}]
        assert all(shard.priority == now.priority for shard in live), "a shard goes before or behind the others of its job"
        if now.ended:
            assert now.completed + now.failed == len(self.results)
            assert not live

    def _allowed(self, before: Seen, now: Seen, *, retried: bool) -> None:
        assert now.epoch >= before.epoch, "an epoch comes once"
        if before.state == "leased" and before.live:
            assert not (now.state == "leased" and now.epoch > before.epoch), "a live lease was given to somebody else"
            assert now.crashes <= before.crashes, "a live lease was taken for dead"
        if before.state in {"done", "cancelled", "expired"}:
            runs_again = retried and now.counted < now.end_idx - now.first_idx
            following = ("ready", before.epoch + 1) if runs_again else (before.state, before.epoch)
            assert (now.state, now.epoch) == following, "what has ended has ended, and runs again where rows of it are open"

    def _is_gone(self) -> None:
        assert self.seen is None, "a job that was deleted is back"
        assert (self.shards, self.results) == ({}, {}), "a deleted job left something"
        key = "SELECT count(*) FROM data_keys WHERE owner_kind = 'job' AND owner_id = %s"
        assert self.watch.execute(key, [self.job.job_id]).fetchone() == (0,), "a deleted job left its key"

    @invariant()
    def rows_and_counts_agree(self) -> None:
        if self.seen is None:
            return
        covered = [idx for shard in self.shards.values() for idx in range(shard.first_idx, shard.end_idx)]
        assert sorted(covered) == list(range(ROWS))
        for shard in self.shards.values():
            stored = self.results.keys() & set(range(shard.first_idx, shard.end_idx))
            assert shard.counted == len(stored), "a shard counts the results of its own rows"
            assert shard.state != "done" or shard.counted == shard.end_idx - shard.first_idx, "done, with rows open"

    def teardown(self) -> None:
        """Nothing goes wrong any more: what is under way comes to its end, and so does the job."""
        self.turnstile.open()
        try:
            for call in self.calls.values():
                assert call.error is None or self._may_fail(call), f"{call.name} failed: {call.error!r}"
            with suppress(Conflict, NotFound):
                resume_job(self.flow.api, self.actor, self.job.job_id)
            for _ in range(20):
                self.pass_time(100.0)
                reap_leases(self.flow.dispatcher)
                cancel_shards(self.flow.dispatcher)
                expire_jobs(self.flow.dispatcher)  # one past its deadline is begun no further
                for lease in shards.claim_any(self.flow.worker, uuid.uuid4().hex, limit=8):
                    self.flow.answer(lease, [row.idx for row in shards.open_shard(self.flow.worker, lease)[1]])
                finalize_jobs(self.flow.dispatcher)
                if (job := self._job()) is None or job.ended:
                    break
            self._look()
            self.every_change_was_allowed()
            self.rows_and_counts_agree()
            assert self.seen is None or self.seen.ended, "the job ends"
            assert self.seen is None or self.seen.state != "completed" or len(self.results) == ROWS
        finally:  # the next example starts with nothing to claim
            self.flow.change_shards("state = 'cancelled' WHERE job_id = :job AND state IN ('ready', 'leased')", job=self.job.job_id)
            self.flow.execute(self.actor, "UPDATE jobs SET state = 'failed' WHERE job_id = :job", job=self.job.job_id)
