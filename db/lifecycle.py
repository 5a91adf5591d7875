"""What may happen to a job and to a shard, and what follows: pure, no I/O, the clock is an argument (seconds, any origin).

A shard::

    ready ──claim──▶ leased ──finish──▶ done ───────────────┐
      ▲ ▲              │ │                                  retry (where rows failed or never ran)
      │ └─release, reap┘ └─cancel, deadline─▶ cancelled, expired
      └────────────────────────────────────────────────────┘

Every claim adds 1 to the shard's epoch. What a holder writes names its epoch, so a holder that lost its lease (a zombie) changes nothing.
What is decided for one shard or job at a time is called where it is applied (:mod:`db.queue.results`, :mod:`db.queue.shards`,
:mod:`db.queue.recovery`, :mod:`db.queue.endings`, :mod:`db.queue.dispatch`, :mod:`db.jobs.steering`), by compare-and-set on (state, epoch),
with the database's clock. Six functions are called by no program, because one statement does their work for many shards or jobs at once:
:func:`claim` and :func:`renew` (``db.queue.turns``, ``db.queue.shards``), :func:`holds` (wherever an epoch is compared),
:func:`after_retry` (``db.jobs.steering``), :func:`after_end` (``db.queue.endings``), :func:`may_begin` (``db.queue.dispatch``). They are
the model of those statements: ``tests/db/test_lifecycle.py`` takes both through the same story, and holds the one against the other after
each step.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

COMPLETED: Final = 1  # the outcome of a row
FAILED: Final = 2
LEASE_SECONDS: Final = 30.0
HEARTBEAT_SECONDS: Final = 5.0  # six chances to renew before a lease ends
POLL_SECONDS: Final = 5.0

MAX_CRASHES: Final = 2  # deaths of a holder that may be chance (a restart, an eviction); from then on the shard itself is suspected
MAX_CRASHES_IN_COMPANY: Final = 8  # a row that was never alone in its worker is blamed only after this many
COMPANY_SECONDS: Final = 30.0  # so long a suspect waits for a worker of its own; then it runs beside others

MAX_ERRORS: Final = 5
BACKOFF_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 60.0

INTERACTIVE_PRIORITY: Final = 100  # of a job that somebody waits for; the numbers below it only order a tenant's own bulk jobs
MAX_INTERACTIVE_ROWS: Final = 256  # what goes before everybody's bulk must be small

OVER_BUDGET: Final = "batch_over_budget"  # what is told of rows that had not run when the budget was used up

MIN_SHARD_ROWS: Final = 8
MAX_SHARD_ROWS: Final = 4096
PARTS: Final = 8  # shards that a job has at least, where each gets so many rows:
PART_ROWS: Final = 256
STAGGERED: Final = 4  # the first shards of a large job: as many as a worker has in flight by default


class JobState(StrEnum):
    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class ShardState(StrEnum):
    READY = "ready"
    LEASED = "leased"
    DONE = "done"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


Verdict = Literal["held", "paused", "cancelled", "lost"]

LIVE_JOBS: Final = frozenset({JobState.VALIDATING, JobState.IN_PROGRESS, JobState.FINALIZING, JobState.CANCELLING})
LIVE_SHARDS: Final = frozenset({ShardState.READY, ShardState.LEASED})


# Jobs.


def cancelled_job(state: JobState) -> JobState | None:
    """The state after somebody asked to cancel; the same one where that was asked before, None where it is too late."""
    if state in {JobState.VALIDATING, JobState.IN_PROGRESS, JobState.CANCELLING}:
        return JobState.CANCELLING
    return JobState.CANCELLED if state is JobState.CANCELLED else None


def pausable(state: JobState) -> bool:
    """Whether a job in this state can be paused or put forward; what ends by itself within moments cannot."""
    return state in {JobState.VALIDATING, JobState.IN_PROGRESS}


def retried_job(state: JobState, *, has_shards: bool) -> JobState | None:
    """Where a job goes whose failed rows, and those that never ran, are to run again; None where it has not ended, or no row of its file
    could be run: then it failed before it had shards."""
    if state not in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}:
        return None
    if state is JobState.FAILED and not has_shards:
        return None
    return JobState.IN_PROGRESS if has_shards else JobState.VALIDATING


# Chains: jobs of which each reads what those before it made of its rows. The last is the one that their owner holds.


def may_begin(before: Sequence[JobState]) -> bool:
    """Whether a step is cut, by the states of those before it: not before they have ended, nor while they are run again."""
    return not any(state in LIVE_JOBS for state in before)


def cancelled_chain(states: Sequence[JobState]) -> list[JobState] | None:
    """The states of all steps after somebody asked to cancel: those that have ended, or end by themselves within moments, stay as they
    are. None where it is too late for the last."""
    if cancelled_job(states[-1]) is None:
        return None
    return [cancelled_job(state) or state for state in states]


@dataclass(frozen=True, slots=True)
class EndedStep:
    """``open_rows``: whether a row of it failed, or never ran."""

    state: JobState
    has_shards: bool
    open_rows: bool


def retried_chain(steps: Sequence[EndedStep]) -> list[JobState] | None:
    """Where all steps go when what failed, or never ran, is to run again: the first of which a row is open goes on, and those behind it
    wait for it as they did at first. A step without such a row stays as it is. None where one of them has not ended, or can run nothing."""
    states: list[JobState] = []
    again = False
    for step in steps:
        following = retried_job(step.state, has_shards=step.has_shards)
        if following is None:
            return None
        states.append(step.state if not step.open_rows else JobState.VALIDATING if again else following)
        again |= step.open_rows
    return states


def ended_by(end_code: str | None) -> str | None:
    """What is stored of a job's end, where it can have been written here."""
    return end_code if end_code == OVER_BUDGET else None


def budget_spent(output_tokens: int, max_output_tokens: int | None, *, run_over: bool) -> bool:
    """Whether a job's budget is used up: by what is stored of this run, or by its time."""
    return run_over or (max_output_tokens is not None and output_tokens >= max_output_tokens)


def next_job_state(
    state: JobState, *, live_shards: bool, deadline_passed: bool, all_failed: bool = False, over_budget: bool = False
) -> JobState:
    """Where a job goes by itself. ``state`` where it stays. ``all_failed``: of its rows none has an answer.

    A deadline, or a budget that is used up, ends a job whatever its shards do, and a deadline one that still waits for what it is to read;
    what was asked to be cancelled ends as cancelled all the same.
    """
    if state is JobState.VALIDATING and deadline_passed:
        return JobState.EXPIRED
    if state is JobState.IN_PROGRESS:
        if not live_shards:
            return JobState.FINALIZING
        return JobState.EXPIRED if deadline_passed or over_budget else state
    if state is JobState.FINALIZING:
        return JobState.FAILED if all_failed else JobState.COMPLETED
    if state is JobState.CANCELLING and not live_shards:
        return JobState.CANCELLED
    return state


def cut_points(row_count: int, step: int) -> list[int]:
    """Where each shard begins, and at last where all end: ``step`` rows each, but for the first and the last.

    The last of them is cut smaller and smaller, so that the last worker does not run alone for a whole shard's time. (Guided
    self-scheduling: Polychronopoulos and Kuck, 1987.) The first of a large job grow from a quarter to the whole: shards in flight beside
    each other would otherwise begin and end together, and whose turn it is would wait for all of them instead of for one.
    """
    staggered = row_count > PARTS * step and step // STAGGERED >= MIN_SHARD_ROWS
    points = [0, *itertools.accumulate(step * part // STAGGERED for part in range(1, STAGGERED))] if staggered else [0]
    points += range(points[-1] + step, row_count, step)
    if len(points) > 1:
        first = points[-1]
        while (row_count - first) // 2 >= PART_ROWS:
            first += -(-(row_count - first) // 2)
            points.append(first)
    return [*points, row_count]


def rows_per_shard(row_count: int, size_chars: int, target_chars: int) -> int:
    """Rows of a shard that holds about ``target_chars`` characters of a file with ``row_count`` rows and ``size_chars`` characters.

    A job of some hundreds of rows has several shards, however fast its model: one is opened or written while others run.
    """
    mean_chars = max(1.0, size_chars / max(1, row_count))
    part = max(PART_ROWS, -(-row_count // PARTS))
    return max(MIN_SHARD_ROWS, min(MAX_SHARD_ROWS, part, round(target_chars / mean_chars)))


# Shards.


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows ``first_idx`` to ``end_idx`` (exclusive) of a job, and who works on them. ``in_company``: the last holder had others too.
    ``whole``: its task needs all of its rows at once."""

    first_idx: int
    end_idx: int
    state: ShardState = ShardState.READY
    epoch: int = 0
    lease_expires_at: float | None = None
    worker: str | None = None
    not_before: float | None = None
    crash_attempts: int = 0
    error_attempts: int = 0
    last_error: str | None = None
    in_company: bool = False
    whole: bool = False

    @property
    def suspect(self) -> bool:
        """Its holders keep dying: it gets a worker of its own, so that nobody else is blamed with it."""
        return self.crash_attempts >= MAX_CRASHES


@dataclass(frozen=True, slots=True)
class Failing:
    """The shard is over because its open rows cannot be done: each gets the failure ``code``."""

    shard: Shard
    code: str


@dataclass(frozen=True, slots=True)
class Split:
    """The shard in two, cut at an open row: the first keeps the shard's id, the second is new."""

    first: Shard
    second: Shard


def holds(shard: Shard, epoch: int, now: float) -> bool:
    """The fence: whether the holder of ``epoch`` may still write."""
    return shard.state is ShardState.LEASED and shard.epoch == epoch and shard.lease_expires_at is not None and shard.lease_expires_at > now


def claim(
    shard: Shard,
    epoch: int,
    now: float,
    worker: str,
    *,
    lease_seconds: float = LEASE_SECONDS,
    job_state: JobState = JobState.IN_PROGRESS,
    paused: bool = False,
    held: Sequence[Shard] = (),
) -> Shard | None:
    """The shard leased to ``worker``, or None. ``paused``: its job is. ``held``: what the worker holds already.

    A lease that ran out may be taken over without the reconciler, which counts as a crash; a suspect's may not, for it is to be split.
    """
    overdue = shard.state is ShardState.LEASED and not holds(shard, shard.epoch, now) and not shard.suspect
    if shard.epoch != epoch or paused or job_state is not JobState.IN_PROGRESS or not (shard.state is ShardState.READY or overdue):
        return None
    if shard.not_before is not None and shard.not_before > now:
        return None
    if any(other.suspect for other in held):
        return None
    if shard.suspect and held and (shard.not_before is None or shard.not_before > now - COMPANY_SECONDS):
        return None
    return replace(
        shard,
        state=ShardState.LEASED,
        epoch=epoch + 1,
        lease_expires_at=now + lease_seconds,
        worker=worker,
        crash_attempts=shard.crash_attempts + (1 if overdue else 0),
        in_company=bool(held),
    )


def renew(
    shard: Shard,
    epoch: int,
    now: float,
    *,
    lease_seconds: float = LEASE_SECONDS,
    job_state: JobState = JobState.IN_PROGRESS,
    paused: bool = False,
) -> tuple[Shard, Verdict]:
    """A heartbeat's effect, and what the holder is told."""
    if not holds(shard, epoch, now):
        return shard, "lost"
    return replace(shard, lease_expires_at=now + lease_seconds), holder_told(job_state, paused=paused)


def holder_told(job_state: JobState, *, paused: bool) -> Verdict:
    """What a holder whose lease is good hears: of a paused job it writes what it has begun, and gives the rest back."""
    if job_state is not JobState.IN_PROGRESS:
        return "cancelled"
    return "paused" if paused else "held"


def after_finish(shard: Shard, now: float, *, open_rows: int, stored: int, jitter: float) -> Shard | Failing:
    """After the holder said it is through, having ``stored`` rows with its last write.

    Rows may be open: a shard larger than a worker should open at once comes in parts. But a holder that stores nothing and leaves rows
    open would do so for ever, so that counts as an error.
    """
    if open_rows == 0:
        return _free(shard, ShardState.DONE)
    if stored == 0:
        return after_error(shard, "engine_error", now, open_rows=open_rows, jitter=jitter)
    return _free(shard, ShardState.READY)


def after_drain(shard: Shard, *, job_state: JobState = JobState.IN_PROGRESS) -> Shard:
    """Given back by a worker that is going away: no attempt is counted."""
    return _free(shard, _freed_state(job_state))


def after_away(shard: Shard, now: float, seconds: float, *, job_state: JobState = JobState.IN_PROGRESS) -> Shard:
    """Given back because what runs its model is away: for so many seconds later, and no attempt is counted."""
    return replace(_free(shard, _freed_state(job_state)), not_before=now + seconds)


def after_error(
    shard: Shard, code: str, now: float, *, open_rows: int, jitter: float, job_state: JobState = JobState.IN_PROGRESS
) -> Shard | Failing:
    """Given back with an error: again later, or never. ``jitter`` is drawn from [0, 1)."""
    if job_state is not JobState.IN_PROGRESS:
        return _free(shard, _freed_state(job_state))
    attempts = shard.error_attempts + 1
    counted = replace(shard, error_attempts=attempts, last_error=code)
    if open_rows == 0 or attempts > MAX_ERRORS:
        done = _free(counted, ShardState.DONE)
        return Failing(done, code) if open_rows else done
    return replace(_free(counted, ShardState.READY), not_before=now + backoff_seconds(attempts, jitter))


def after_crash(
    shard: Shard, now: float, *, open_idx: Sequence[int], job_state: JobState = JobState.IN_PROGRESS
) -> Shard | Split | Failing:
    """After the lease ran out. ``open_idx``: the rows without a result, in order.

    A shard whose holders keep dying is halved until the row that kills them stands alone: log2(rows) + MAX_CRASHES + 1 deaths. Halves stay
    suspect, so each of them is tried once, in a worker of its own. One that had to be claimed in company is not blamed for that death:
    whoever holds a suspect claims nothing more, so what was held with it is known from its claim. One that is ``whole`` is not halved: all
    its rows fail together.
    """
    if not open_idx:
        return _free(shard, ShardState.DONE)
    if job_state is not JobState.IN_PROGRESS:
        return _free(shard, _freed_state(job_state))
    crashes = shard.crash_attempts + 1
    again = replace(_free(shard, ShardState.READY), crash_attempts=crashes, last_error="crashed_worker", not_before=now)
    if crashes <= MAX_CRASHES:
        return again
    if len(open_idx) > 1 and not shard.whole:
        middle = open_idx[len(open_idx) // 2]
        halves = replace(again, crash_attempts=MAX_CRASHES)
        return Split(replace(halves, end_idx=middle), replace(halves, first_idx=middle, epoch=0, error_attempts=0))
    if not shard.in_company or crashes > MAX_CRASHES_IN_COMPANY:
        return Failing(replace(again, state=ShardState.DONE, not_before=None), "crashed_worker")
    return again


def after_retry(shard: Shard, *, open_rows: int) -> Shard:
    """The job's failed rows, and those that never ran, are to run again: the shard is offered as if for the first time where it has any.
    The new epoch fences a holder from before."""
    if open_rows == 0:
        return shard
    fresh = replace(shard, epoch=shard.epoch + 1, crash_attempts=0, error_attempts=0, last_error=None, not_before=None)
    return _free(fresh, ShardState.READY)


def after_end(shard: Shard, ended: Literal[ShardState.CANCELLED, ShardState.EXPIRED]) -> Shard:
    """The job ended around a live shard. The new epoch fences a holder that has not heard of it."""
    return replace(_free(shard, ended), epoch=shard.epoch + 1)


def backoff_seconds(attempts: int, jitter: float) -> float:
    """Doubles with each attempt; half of it is drawn, so that shards that failed together do not come back together."""
    return min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** (attempts - 1)) * (0.5 + jitter / 2)


def _free(shard: Shard, state: ShardState) -> Shard:
    return replace(shard, state=state, lease_expires_at=None, worker=None)


def _freed_state(job_state: JobState) -> ShardState:
    """A holder lets go: of a job that is being cancelled, nobody else should take it."""
    return ShardState.READY if job_state is JobState.IN_PROGRESS else ShardState.CANCELLED
