"""The rules of jobs and shards, alone: a few by example, and all together under faults, as hypothesis likes."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from db.lifecycle import (
    COMPANY_SECONDS,
    LEASE_SECONDS,
    LIVE_SHARDS,
    MAX_BACKOFF_SECONDS,
    MAX_CRASHES,
    MAX_CRASHES_IN_COMPANY,
    MAX_ERRORS,
    MAX_SHARD_ROWS,
    MIN_SHARD_ROWS,
    PART_ROWS,
    STAGGERED,
    Failing,
    JobState,
    Shard,
    ShardState,
    Split,
    after_away,
    after_crash,
    after_drain,
    after_end,
    after_error,
    after_finish,
    after_retry,
    backoff_seconds,
    budget_spent,
    cancelled_job,
    claim,
    cut_points,
    holds,
    next_job_state,
    pausable,
    renew,
    retried_job,
    rows_per_shard,
)

ROWS = 24


def test_a_deadline_ends_what_runs_or_waits_and_nothing_else() -> None:
    moves = {state: next_job_state(state, live_shards=True, deadline_passed=True) for state in JobState}
    ending = {JobState.VALIDATING, JobState.IN_PROGRESS, JobState.EXPIRED}
    assert {state for state, following in moves.items() if following is JobState.EXPIRED} == ending


def test_a_cancelled_job_waits_for_its_holders_whatever_its_deadline() -> None:
    for passed in (False, True):
        assert next_job_state(JobState.CANCELLING, live_shards=True, deadline_passed=passed) is JobState.CANCELLING


@given(st.integers(0, 2**60), st.integers(1, 2**60))
def test_a_budget_is_used_up_once_so_much_is_stored_and_not_before(stored: int, most: int) -> None:
    assert budget_spent(stored, most, run_over=False) == (stored >= most)
    assert budget_spent(stored, most, run_over=True)
    assert not budget_spent(stored, None, run_over=False), "no limit"


@given(st.sampled_from(JobState), st.booleans(), st.booleans())
def test_a_budget_that_is_used_up_ends_what_is_in_work_and_nothing_else(state: JobState, live: bool, passed: bool) -> None:
    as_ever = next_job_state(state, live_shards=live, deadline_passed=passed)
    expected = JobState.EXPIRED if state is JobState.IN_PROGRESS and live else as_ever
    assert next_job_state(state, live_shards=live, deadline_passed=passed, over_budget=True) is expected


def test_a_job_without_live_shards_goes_to_its_end_and_stays_there() -> None:
    for state, path in {
        JobState.IN_PROGRESS: [JobState.FINALIZING, JobState.COMPLETED],
        JobState.CANCELLING: [JobState.CANCELLED],
        JobState.VALIDATING: [JobState.VALIDATING],
    }.items():
        for expected in path:
            state = next_job_state(state, live_shards=False, deadline_passed=False)
            assert state is expected
        ended = state is not JobState.VALIDATING
        assert (next_job_state(state, live_shards=False, deadline_passed=True) is state) is ended


@pytest.mark.parametrize("state", list(JobState))
def test_cancelling_is_for_what_has_not_ended(state: JobState) -> None:
    asked = cancelled_job(state)
    if state in {JobState.VALIDATING, JobState.IN_PROGRESS, JobState.CANCELLING}:
        assert asked is JobState.CANCELLING
    else:
        assert asked is (JobState.CANCELLED if state is JobState.CANCELLED else None)


@given(st.integers(1, 10**7), st.integers(0, 10**12), st.integers(1, 2**40))
def test_shards_hold_a_number_of_rows_within_bounds(row_count: int, size_chars: int, target_chars: int) -> None:
    assert MIN_SHARD_ROWS <= rows_per_shard(row_count, size_chars, target_chars) <= MAX_SHARD_ROWS


@pytest.mark.parametrize(("row_count", "rows"), [(100, 256), (2_000, 256), (8_000, 1_000), (1_000_000, 4_096)])
def test_a_job_of_a_fast_model_still_has_several_shards(row_count: int, rows: int) -> None:
    assert rows_per_shard(row_count, 100 * row_count, 1 << 40) == rows


@given(st.integers(1, 10**6), st.integers(MIN_SHARD_ROWS, MAX_SHARD_ROWS))
def test_shards_cover_every_row_once_and_grow_smaller_at_the_end(row_count: int, step: int) -> None:
    points = cut_points(row_count, step)
    sizes = [end - first for first, end in itertools.pairwise(points)]
    assert (points[0], points[-1]) == (0, row_count)
    assert 0 < min(sizes) <= max(sizes) <= step
    largest = sizes.index(max(sizes))
    assert all(later <= earlier for earlier, later in itertools.pairwise(sizes[largest:]))
    assert sizes[-1] < 2 * PART_ROWS or len(sizes) == 1
    assert len(sizes) <= math.ceil(row_count / step) + STAGGERED / 2 + math.log2(MAX_SHARD_ROWS / PART_ROWS)


def test_the_first_shards_of_a_large_job_do_not_end_together() -> None:
    points = cut_points(100_000, 1_000)
    assert points[:6] == [0, 250, 750, 1_500, 2_500, 3_500]
    assert cut_points(100, 10)[:3] == [0, 10, 20], "small shards are not made smaller"
    assert cut_points(7_000, 1_000)[:3] == [0, 1_000, 2_000], "nor are those of a job that has few"


def test_a_job_of_which_every_row_failed_has_failed() -> None:
    assert next_job_state(JobState.FINALIZING, live_shards=False, deadline_passed=False, all_failed=True) is JobState.FAILED
    for state in set(JobState) - {JobState.FINALIZING}:
        as_ever = next_job_state(state, live_shards=False, deadline_passed=False)
        assert next_job_state(state, live_shards=False, deadline_passed=False, all_failed=True) is as_ever


@pytest.mark.parametrize("state", list(JobState))
def test_a_job_is_run_again_once_it_has_ended_unless_it_never_had_a_row_to_run(state: JobState) -> None:
    ended = {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
    assert retried_job(state, has_shards=True) is (JobState.IN_PROGRESS if state in ended else None)
    assert retried_job(state, has_shards=False) is (JobState.VALIDATING if state in ended - {JobState.FAILED} else None)
    assert pausable(state) == (state in {JobState.VALIDATING, JobState.IN_PROGRESS})


def test_a_paused_job_gives_nobody_a_shard_and_tells_who_holds_one() -> None:
    assert claim(Shard(0, 10), 0, 0.0, "w", paused=True) is None
    leased = claim(Shard(0, 10), 0, 0.0, "w")
    assert leased is not None
    renewed, verdict = renew(leased, 1, 10.0, paused=True)
    assert verdict == "paused"
    assert holds(renewed, 1, 10.0 + LEASE_SECONDS - 0.1), "what it has begun is still its to write"
    assert renew(leased, 1, 10.0, paused=True, job_state=JobState.CANCELLING)[1] == "cancelled"


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_a_backoff_grows_to_a_minute_and_is_never_nothing(attempts: int, jitter: float) -> None:
    assert 0.5 <= backoff_seconds(attempts, jitter) <= MAX_BACKOFF_SECONDS
    assert backoff_seconds(attempts + 1, jitter) >= backoff_seconds(attempts, jitter)


def test_a_backoff_doubles_until_its_limit() -> None:
    waits = [backoff_seconds(attempts, 0.0) for attempts in range(1, 12)]
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == MAX_BACKOFF_SECONDS / 2


def test_an_expired_lease_is_lost_though_nobody_took_it() -> None:
    leased = claim(Shard(0, 10), 0, 100.0, "w")
    assert leased is not None
    assert holds(leased, 1, 100.0 + LEASE_SECONDS - 0.1)
    assert not holds(leased, 1, 100.0 + LEASE_SECONDS)
    assert not holds(leased, 0, 100.0)
    assert renew(leased, 1, 100.0 + LEASE_SECONDS) == (leased, "lost")
    assert renew(leased, 1, 110.0, job_state=JobState.CANCELLING)[1] == "cancelled"


def test_a_drain_costs_nothing_and_an_error_is_counted() -> None:
    leased = replace(Shard(0, 10), state=ShardState.LEASED, epoch=3, worker="w", lease_expires_at=1.0, crash_attempts=1, error_attempts=1)
    drained = after_drain(leased)
    assert (drained.state, drained.crash_attempts, drained.error_attempts, drained.not_before) == (ShardState.READY, 1, 1, None)
    failed = after_error(leased, "out_of_memory", 50.0, open_rows=4, jitter=0.0)
    assert isinstance(failed, Shard)
    assert (failed.state, failed.error_attempts, failed.last_error, failed.not_before) == (ShardState.READY, 2, "out_of_memory", 51.0)
    last = after_error(replace(leased, error_attempts=MAX_ERRORS), "out_of_memory", 50.0, open_rows=4, jitter=0.0)
    assert isinstance(last, Failing)
    assert (last.shard.state, last.code) == (ShardState.DONE, "out_of_memory")


def test_what_runs_its_model_being_away_puts_a_shard_off_and_costs_nothing() -> None:
    leased = replace(Shard(0, 10), state=ShardState.LEASED, epoch=3, worker="w", lease_expires_at=1.0, crash_attempts=1, error_attempts=1)
    put_off = after_away(leased, 50.0, 7.0)
    assert (put_off.state, put_off.crash_attempts, put_off.error_attempts, put_off.not_before) == (ShardState.READY, 1, 1, 57.0)
    assert claim(put_off, 3, 56.0, "w") is None
    assert claim(put_off, 3, 57.0, "w") is not None
    assert after_away(leased, 50.0, 7.0, job_state=JobState.CANCELLING).state is ShardState.CANCELLED


def test_an_ended_shard_has_a_new_epoch() -> None:
    ended = after_end(replace(Shard(0, 10), state=ShardState.LEASED, epoch=3, worker="w", lease_expires_at=1.0), ShardState.EXPIRED)
    assert (ended.state, ended.epoch, ended.worker, ended.lease_expires_at) == (ShardState.EXPIRED, 4, None, None)


def test_a_holder_that_stores_nothing_and_leaves_rows_open_does_not_go_on_for_ever() -> None:
    shard = replace(Shard(0, 10), state=ShardState.LEASED)
    for _ in range(MAX_ERRORS):
        following = after_finish(shard, 0.0, open_rows=3, stored=0, jitter=0.5)
        assert isinstance(following, Shard)
        shard = replace(following, state=ShardState.LEASED)
    assert isinstance(after_finish(shard, 0.0, open_rows=3, stored=0, jitter=0.5), Failing)
    assert after_finish(shard, 0.0, open_rows=3, stored=1, jitter=0.5) == replace(shard, state=ShardState.READY)
    assert after_finish(shard, 0.0, open_rows=0, stored=0, jitter=0.5) == replace(shard, state=ShardState.DONE)


@given(st.integers(1, 4096), st.data())
def test_halving_finds_a_row_that_kills_its_workers_in_few_deaths(rows: int, data: st.DataObject) -> None:
    poison = data.draw(st.integers(0, rows - 1))
    shards, answered, failed, deaths = [Shard(0, rows)], set[int](), set[int](), 0
    while shards:
        leased = replace(shards.pop(), state=ShardState.LEASED)
        open_idx = [idx for idx in range(leased.first_idx, leased.end_idx) if idx not in answered]
        if poison not in open_idx:
            answered.update(open_idx)
            continue
        deaths += 1
        match after_crash(leased, 0.0, open_idx=open_idx):
            case Split(first, second):
                shards += [first, second]
            case Failing():
                failed.update(open_idx)
            case again:
                shards.append(again)
    assert failed == {poison}
    assert answered == set(range(rows)) - {poison}
    assert deaths <= MAX_CRASHES + 1 + math.ceil(math.log2(rows))


class Life(RuleBasedStateMachine):
    """One job of 24 rows, three workers that may be zombies, a clock that jumps. Row 5 kills every worker that runs it.

    The store is modelled as it is: results by row with the epoch that wrote them, refused to whoever does not hold the lease.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.job = JobState.IN_PROGRESS
        self.shards = [Shard(first, min(first + 10, ROWS)) for first in range(0, ROWS, 10)]
        self.results: dict[int, int] = {}  # row → how often it was stored
        self.failed: set[int] = set()
        self.paused = False
        self.retries = 0
        self.beliefs: list[
            tuple[str, int, int]
        ] = []  # (worker, first row of the shard, epoch) that somebody thinks to hold, rightly or not
        self.faulty = True

    # What the store does.

    def _at(self, first_idx: int) -> int:
        return next(at for at, shard in enumerate(self.shards) if shard.first_idx == first_idx)

    def _open(self, shard: Shard) -> list[int]:
        return [idx for idx in range(shard.first_idx, shard.end_idx) if idx not in self.results]

    def _put(self, at: int, following: Shard | Split | Failing) -> None:
        match following:
            case Split(first, second):
                self.shards[at : at + 1] = [first, second]
            case Failing(shard, _):
                self.failed.update(self._open(self.shards[at]))
                self._store(self._open(self.shards[at]))
                self.shards[at] = shard
            case Shard():
                self.shards[at] = following

    def _store(self, idxs: list[int]) -> None:
        for idx in idxs:
            self.results[idx] = self.results.get(idx, 0) + 1

    def _claim(self, worker: str, at: int) -> None:
        shard = self.shards[at]
        held = [other for other in self.shards if other.state is ShardState.LEASED and other.worker == worker]
        leased = claim(shard, shard.epoch, self.now, worker, job_state=self.job, paused=self.paused, held=held)
        if leased is not None:
            self.shards[at] = leased
            self.beliefs.append((worker, leased.first_idx, leased.epoch))

    def _write(self, belief: tuple[str, int, int], count: int, finish: bool) -> None:
        """A holder, or a zombie, writes up to ``count`` rows; a holder that comes to row 5 dies instead."""
        _, first_idx, epoch = belief
        at = self._at(first_idx)
        shard = self.shards[at]
        if not holds(shard, epoch, self.now):
            self.beliefs.remove(belief)
            return
        rows = self._open(shard)[:count]
        if 5 in rows and self.faulty:
            self.beliefs.remove(belief)
            return
        self._store(rows)
        if finish:
            self._put(at, after_finish(shard, self.now, open_rows=len(self._open(shard)), stored=len(rows), jitter=0.5))
            self.beliefs.remove(belief)

    # What may happen.

    @rule(worker=st.sampled_from("abc"), at=st.integers(0, 30))
    def claim(self, worker: str, at: int) -> None:
        self._claim(worker, at % len(self.shards))

    @precondition(lambda self: self.beliefs)
    @rule(at=st.integers(0, 30), count=st.integers(0, 10), finish=st.booleans())
    def write(self, at: int, count: int, finish: bool) -> None:
        self._write(self.beliefs[at % len(self.beliefs)], count, finish)

    @precondition(lambda self: self.beliefs)
    @rule(at=st.integers(0, 30))
    def renew(self, at: int) -> None:
        _, first_idx, epoch = self.beliefs[at % len(self.beliefs)]
        where = self._at(first_idx)
        self.shards[where], verdict = renew(self.shards[where], epoch, self.now, job_state=self.job, paused=self.paused)
        assert (verdict == "lost") == (not holds(self.shards[where], epoch, self.now))

    @precondition(lambda self: self.beliefs)
    @rule(at=st.integers(0, 30), kind=st.sampled_from(["drain", "away", "error"]))
    def release(self, at: int, kind: str) -> None:
        belief = self.beliefs.pop(at % len(self.beliefs))
        where = self._at(belief[1])
        shard = self.shards[where]
        if holds(shard, belief[2], self.now):
            error = after_error(shard, "engine_error", self.now, open_rows=len(self._open(shard)), jitter=0.0, job_state=self.job)
            away = after_away(shard, self.now, 5.0, job_state=self.job)
            self._put(where, {"drain": after_drain(shard, job_state=self.job), "away": away, "error": error}[kind])

    @rule()
    def reap(self) -> None:
        expired = [shard for shard in self.shards if shard.state is ShardState.LEASED and not holds(shard, shard.epoch, self.now)]
        for shard in expired:
            following = after_crash(shard, self.now, open_idx=self._open(shard), job_state=self.job)
            self._put(self._at(shard.first_idx), following)

    @rule(seconds=st.sampled_from([0.5, 5.0, LEASE_SECONDS, 70.0, COMPANY_SECONDS]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def cancel(self) -> None:
        self.job = cancelled_job(self.job) or self.job

    @precondition(lambda self: pausable(self.job))
    @rule()
    def pause_or_go_on(self) -> None:
        self.paused = not self.paused

    @precondition(lambda self: self.retries < 2)
    @rule()
    def retry(self) -> None:
        following = retried_job(self.job, has_shards=True)
        if following is None or not (self.failed or len(self.results) < ROWS):
            return
        self.retries += 1
        for idx in self.failed:
            del self.results[idx]
        self.failed.clear()
        self.shards = [after_retry(shard, open_rows=len(self._open(shard))) for shard in self.shards]
        self.job, self.paused = following, False

    @rule()
    def take_cancelled_shards_out(self) -> None:
        if self.job is JobState.CANCELLING:
            for at, shard in enumerate(self.shards):
                if shard.state is ShardState.READY:
                    self.shards[at] = after_end(shard, ShardState.CANCELLED)

    @precondition(lambda self: self.now > 300)
    @rule()
    def expire(self) -> None:
        live = any(shard.state in LIVE_SHARDS for shard in self.shards)
        following = next_job_state(self.job, live_shards=live, deadline_passed=True)
        if following is JobState.EXPIRED and self.job is not following:
            self.shards = [after_end(shard, ShardState.EXPIRED) if shard.state in LIVE_SHARDS else shard for shard in self.shards]
            self.job = following

    @rule()
    def finalize(self) -> None:
        live = any(shard.state in LIVE_SHARDS for shard in self.shards)
        self.job = next_job_state(self.job, live_shards=live, deadline_passed=False, all_failed=len(self.failed) == len(self.results))

    # What always holds.

    @invariant()
    def the_shards_cover_every_row_once(self) -> None:
        covered = [idx for shard in self.shards for idx in range(shard.first_idx, shard.end_idx)]
        assert sorted(covered) == list(range(ROWS))

    @invariant()
    def no_row_is_stored_twice(self) -> None:
        assert set(self.results.values()) <= {1}

    @invariant()
    def a_shard_is_done_only_with_all_its_results(self) -> None:
        assert not any(self._open(shard) for shard in self.shards if shard.state is ShardState.DONE)

    @invariant()
    def at_most_one_believer_is_right(self) -> None:
        for shard in self.shards:
            right = [belief for belief in self.beliefs if belief[1] == shard.first_idx and holds(shard, belief[2], self.now)]
            assert len(right) <= 1

    @invariant()
    def a_job_that_ended_has_no_live_shard(self) -> None:
        if self.job in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}:
            assert not any(shard.state in LIVE_SHARDS for shard in self.shards)
        if self.job in {JobState.COMPLETED, JobState.FAILED}:
            assert not self.failed - self.results.keys()
            assert len(self.results) == ROWS

    @invariant()
    def nobody_is_counted_beyond_bounds(self) -> None:
        assert all(shard.error_attempts <= MAX_ERRORS + 1 and shard.crash_attempts <= MAX_CRASHES_IN_COMPANY + 1 for shard in self.shards)

    def teardown(self) -> None:
        """Faults stop: one good worker, the clock goes on, and everything comes to its end."""
        self.faulty = self.paused = False
        self.beliefs.clear()
        for _ in range(60):
            self.now += MAX_BACKOFF_SECONDS + LEASE_SECONDS
            self.reap()
            self.take_cancelled_shards_out()
            for at in range(len(self.shards)):
                self._claim("good", at)
            for belief in list(self.beliefs):
                self._write(belief, ROWS, True)
            self.finalize()
        assert self.job in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
        assert not any(shard.state in LIVE_SHARDS for shard in self.shards)


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
