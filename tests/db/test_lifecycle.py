"""The queries do what the rules say: the store and the pure state machine go the same way, step by step, under hypothesis' orders."""

import random
import uuid

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from db import lifecycle
from db.actors import Actor, Lease
from db.errors import Conflict, LeaseLost
from db.files.files import delete_file
from db.jobs.jobs import get_job
from db.jobs.steering import cancel_job, pause_job, resume_job, retry_job
from db.lifecycle import LIVE_SHARDS, Failing, JobState, Shard, ShardState, Split
from db.queue import shards
from db.queue.endings import cancel_shards, expire_jobs, finalize_jobs
from db.queue.recovery import reap_leases
from tests.db.flow import Flow, Stores

ROWS = 24


class Twin(RuleBasedStateMachine):
    """A job in Postgres and the same job as pure values. Rows 10 and up are enough for a shard to be halved twice."""

    flow: Flow
    actor: Actor

    def __init__(self) -> None:
        super().__init__()
        self.prefix = uuid.uuid4().hex
        self.job = self.flow.job(self.actor, ROWS)
        self.state = JobState.IN_PROGRESS
        self.paused = False
        self.retries = 0
        self.now = 0.0
        self.shards = [Shard(first, min(first + 10, ROWS)) for first in range(0, ROWS, 10)]
        self.stored: dict[int, int] = {}
        self.leases: list[tuple[str, Lease]] = []

    # The model's side.

    def _at(self, first_idx: int) -> int:
        return next(at for at, shard in enumerate(self.shards) if shard.first_idx == first_idx)

    def _open(self, shard: Shard) -> list[int]:
        return [idx for idx in range(shard.first_idx, shard.end_idx) if idx not in self.stored]

    def _outcomes(self, shard: Shard) -> tuple[int, int]:
        """(answers, failures) of its rows."""
        stored = [self.stored[idx] for idx in range(shard.first_idx, shard.end_idx) if idx in self.stored]
        return stored.count(1), stored.count(2)

    def _put(self, at: int, following: Shard | Split | Failing) -> None:
        match following:
            case Split(first, second):
                self.shards[at : at + 1] = [first, second]
            case Failing(shard, _):
                self.stored.update(dict.fromkeys(self._open(self.shards[at]), 2))
                self.shards[at] = shard
            case Shard():
                self.shards[at] = following

    # Both sides take the same step, and must give the same answer.

    @rule(worker=st.sampled_from("ab"))
    def claim(self, worker: str) -> None:
        """Which of those that the rules allow is a matter of turns; and a lease that ran out is left to the reconciler for a while."""
        held = [other for other in self.shards if other.state is ShardState.LEASED and other.worker == worker]
        allowed = {
            shard.first_idx: following
            for shard in self.shards
            if (following := lifecycle.claim(shard, shard.epoch, self.now, worker, job_state=self.state, paused=self.paused, held=held))
        }
        leases = shards.claim_any(self.flow.worker, f"{self.prefix}:{worker}")
        for lease in leases:
            self._put(self._at(lease.first_idx), allowed[lease.first_idx])
            self.leases.append((worker, lease))
        if not leases:
            left = [self.shards[self._at(first)] for first in allowed]
            assert all((shard.lease_expires_at or self.now) > self.now - shards.TAKEOVER_SECONDS for shard in left)
            assert not [shard for shard in left if shard.state is ShardState.READY]

    @precondition(lambda self: self.leases)
    @rule(at=st.integers(0, 30), count=st.integers(0, 10), finish=st.booleans(), from_the_end=st.booleans(), fail=st.booleans())
    def write(self, at: int, count: int, finish: bool, from_the_end: bool, fail: bool) -> None:
        _, lease = self.leases[at % len(self.leases)]
        where = self._at(lease.first_idx)
        shard = self.shards[where]
        rows = [idx for idx in self._open(shard) if idx < lease.end_idx]
        rows = rows[::-1][:count] if from_the_end else rows[:count]
        if not lifecycle.holds(shard, lease.epoch, self.now):
            # A zombie; but one that repeats what ended its own hold is told that all is well.
            if not (shard.state is ShardState.DONE and shard.epoch == lease.epoch):
                with pytest.raises(LeaseLost):
                    self.flow.answer(lease, rows, finish=finish)
            return
        self.flow.answer(lease, rows, finish=finish, fail=fail)
        self.stored.update(dict.fromkeys(rows, 2 if fail else 1))
        if finish:
            following = lifecycle.after_finish(shard, self.now, open_rows=len(self._open(shard)), stored=len(rows), jitter=0.5)
            self._put(where, following)

    @precondition(lambda self: self.leases)
    @rule()
    def renew(self) -> None:
        asked = {lease.shard_id: (lease, self._at(lease.first_idx)) for _, lease in self.leases}
        verdicts = shards.renew(self.flow.worker, [lease for lease, _ in asked.values()])
        for lease, where in asked.values():
            self.shards[where], expected = lifecycle.renew(
                self.shards[where], lease.epoch, self.now, job_state=self.state, paused=self.paused
            )
            assert verdicts[lease.shard_id] == expected

    @precondition(lambda self: self.leases)
    @rule(at=st.integers(0, 30), drain=st.booleans())
    def release(self, at: int, drain: bool) -> None:
        _, lease = self.leases.pop(at % len(self.leases))
        where = self._at(lease.first_idx)
        shard = self.shards[where]
        if not lifecycle.holds(shard, lease.epoch, self.now):
            with pytest.raises(LeaseLost):
                shards.release(self.flow.worker, lease, code="engine_error", kind="drain" if drain else "error")
            return
        shards.release(self.flow.worker, lease, code="engine_error", kind="drain" if drain else "error")
        if drain:
            self._put(where, lifecycle.after_drain(shard, job_state=self.state))
        else:
            open_rows = len(self._open(shard))
            self._put(where, lifecycle.after_error(shard, "engine_error", self.now, open_rows=open_rows, jitter=0.5, job_state=self.state))

    @rule()
    def reap(self) -> None:
        expired = [shard for shard in self.shards if shard.state is ShardState.LEASED and not lifecycle.holds(shard, shard.epoch, self.now)]
        assert len(reap_leases(self.flow.dispatcher)) == len(expired)
        for shard in expired:
            following = lifecycle.after_crash(shard, self.now, open_idx=self._open(shard), job_state=self.state)
            self._put(self._at(shard.first_idx), following)

    @rule(seconds=st.sampled_from([8.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        """Steps between which no limit lies closer than some seconds, so that the time the test takes does not matter."""
        self.now += seconds
        self.flow.change_shards(
            "lease_expires_at = lease_expires_at - make_interval(secs => :seconds),"
            " not_before = not_before - make_interval(secs => :seconds) WHERE job_id = :job",
            seconds=seconds,
            job=self.job.job_id,
        )

    @precondition(lambda self: self.now > 300 and self.state is JobState.IN_PROGRESS)
    @rule(sweep=st.booleans())
    def cancel(self, sweep: bool) -> None:
        cancel_job(self.flow.api, self.actor, self.job.job_id)
        self.state = JobState.CANCELLING
        if sweep:
            ready = [at for at, shard in enumerate(self.shards) if shard.state is ShardState.READY]
            assert cancel_shards(self.flow.dispatcher) == len(ready)
            for at in ready:
                self.shards[at] = lifecycle.after_end(self.shards[at], ShardState.CANCELLED)

    @precondition(lambda self: self.now > 500 and self.state is JobState.IN_PROGRESS)
    @rule()
    def expire(self) -> None:
        self.flow.execute(self.actor, "UPDATE jobs SET deadline = now() WHERE job_id = :job", job=self.job.job_id)
        expire_jobs(self.flow.dispatcher)
        live = any(shard.state in LIVE_SHARDS for shard in self.shards)
        if lifecycle.next_job_state(self.state, live_shards=live, deadline_passed=True) is JobState.EXPIRED:
            self.shards = [lifecycle.after_end(s, ShardState.EXPIRED) if s.state in LIVE_SHARDS else s for s in self.shards]
            self.state = JobState.EXPIRED

    @rule()
    def finalize(self) -> None:
        finalize_jobs(self.flow.dispatcher)
        live = any(shard.state in LIVE_SHARDS for shard in self.shards)
        for _ in range(2):
            self.state = lifecycle.next_job_state(self.state, live_shards=live, deadline_passed=False)

    @precondition(lambda self: lifecycle.pausable(self.state))
    @rule()
    def pause_or_go_on(self) -> None:
        (resume_job if self.paused else pause_job)(self.flow.api, self.actor, self.job.job_id)
        self.paused = not self.paused

    @precondition(lambda self: self.retries < 2)
    @rule()
    def retry(self) -> None:
        following = lifecycle.retried_job(self.state, has_shards=True)
        failed = [idx for idx, outcome in self.stored.items() if outcome == 2]
        if following is None or not (failed or len(self.stored) < ROWS):
            with pytest.raises(Conflict) as refused:
                retry_job(self.flow.api, self.actor, self.job.job_id)
            assert refused.value.code == ("cannot_retry" if following is None else "nothing_to_retry")
            return
        retry_job(self.flow.api, self.actor, self.job.job_id)
        self.retries += 1
        for idx in failed:
            del self.stored[idx]
        self.shards = [lifecycle.after_retry(shard, open_rows=len(self._open(shard))) for shard in self.shards]
        self.state, self.paused = following, False

    # After each step.

    @invariant()
    def both_are_the_same(self) -> None:
        expected = [(s.first_idx, s.end_idx, s.state, s.epoch, *self._outcomes(s), s.crash_attempts, s.error_attempts) for s in self.shards]
        assert self.flow.shards(self.job) == expected
        assert dict(self.flow.execute(self.actor, "SELECT idx, outcome FROM results")) == self.stored
        job = get_job(self.flow.api, self.actor, self.job.job_id)
        outcomes = list(self.stored.values())
        assert (job.state, job.completed_count, job.failed_count) == (self.state, outcomes.count(1), outcomes.count(2))

    def teardown(self) -> None:
        """The next example starts with an empty store."""
        self.flow.change_shards("state = 'cancelled' WHERE job_id = :job", job=self.job.job_id)
        self.flow.execute(self.actor, "DELETE FROM results")
        self.flow.execute(self.actor, "UPDATE jobs SET state = 'failed'")
        delete_file(self.flow.api, self.actor, self.job.file_id)


def test_the_store_goes_the_way_of_the_rules(stores: Stores, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.5)
    monkeypatch.setattr(lifecycle, "BACKOFF_SECONDS", 20.0)

    class ThisTwin(Twin):
        flow = Flow(stores)
        actor = tenant

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        ThisTwin,
        settings=settings(max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), database=None),
    )
