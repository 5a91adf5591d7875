"""When a job will be done, told to its owner when it is made and while it waits. Nothing of other tenants shows in it but that moment."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from api.prices import Price, price_of
from api.wire import Fault, Forecast
from db.actors import Actor
from db.connect import Store
from db.jobs.creating import NewJob
from db.jobs.forecast import Live, Promise, Size, forecast, reach, seconds_until_done, workers_with
from db.jobs.jobs import JobRecord
from db.jobs.turn import SHARD_SECONDS
from db.lifecycle import rows_per_shard
from db.operators.backlog import Backlog, Backlogs, Kind, Waiting
from workers.dispatch.sizing import shard_chars
from workers.engines.contract.generation import DEFAULT_OUTPUT_TOKENS
from workers.tasks import TASKS

CUT_SECONDS: Final = 8.0  # TEXTMILL_SHARD_SECONDS of the dispatcher, which may be another machine's, by default
LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")  # of an answer, as the endpoints call it


class Asked(NamedTuple):
    """What a forecast goes by: see :class:`db.jobs.forecast.Size`."""

    kind: Kind
    answer_tokens: int | None


@dataclass(frozen=True, slots=True)
class Foreseen:
    """When a job will be done, or why that is not known; neither, of one that has ended."""

    at: datetime | None = None
    why_not: Fault | None = None


NOT_ASKED: Final = Foreseen()


def with_forecast(backlogs: Backlogs, store: Store, actor: Actor, new: NewJob, chars_seen: list[int]) -> NewJob:
    """With what its creation tells of its end; of a chain, each step with that of the steps so far. ``chars_seen``: takes the characters of
    the file, once for each step that is made."""
    backlog = backlogs.of(store, actor.tenant_id)
    steps = [_asked(step) for step in (*new.before, new)]

    def foreseeing(step: NewJob, number: int) -> NewJob:
        def foresee(rows: int, chars: int) -> Promise:
            chars_seen.append(chars)
            return promise(backlog, steps[:number], rows, chars, new.priority)

        return replace(step, foresee=foresee)

    return replace(foreseeing(new, len(steps)), before=tuple(foreseeing(step, number) for number, step in enumerate(new.before, 1)))


def _asked(job: NewJob) -> Asked:
    defaults = job.spec.get("defaults")
    return Asked((job.task, job.model), answer_limit(job.task, defaults if isinstance(defaults, Mapping) else {}))


def note_made(backlogs: Backlogs, actor: Actor, made: JobRecord, chars: int) -> None:
    """``chars``: of its file."""
    if made.state == "validating" and made.worker_seconds is not None:
        kind, deadline = (made.task, made.model), made.deadline.timestamp()
        backlogs.note(
            actor.tenant_id, Waiting(0, made.job_id, kind, made.priority, None, deadline, made.worker_seconds, made.row_count, chars)
        )


def promise(backlog: Backlog, steps: Sequence[Asked], rows: int, chars: int, priority: int) -> Promise:
    """Of the last of these steps, made now: when they are all done, and what it takes itself."""
    taken = [forecast(backlog.measured.get(step.kind), Size(rows, chars, step.answer_tokens)) for step in steps]
    known = [each.worker_seconds for each in taken if each is not None]
    if taken[-1] is None or len(known) < len(taken):
        return Promise(None, None if taken[-1] is None else known[-1])
    now = datetime.now(UTC).timestamp()
    made = Waiting(backlog.own, None, steps[-1].kind, priority, None, None, sum(known), rows, chars)
    return Promise(_until_done(backlog, made, now), known[-1])


def would_take(
    backlog: Backlog, steps: Sequence[Asked], rows: int, chars: int, priority: int, prices: Mapping[str, Price], currency: str
) -> tuple[Forecast, Promise]:
    """Of a job, or of all steps of a chain, that would be made now."""
    taken = [forecast(backlog.measured.get(step.kind), Size(rows, chars, step.answer_tokens)) for step in steps]
    known = [each for each in taken if each is not None]
    told = promise(backlog, steps, rows, chars, priority)
    if len(known) < len(taken):
        return Forecast(rows, unforeseen=why_unforeseen(backlog, steps[taken.index(None)].kind)), told
    prices_of = [price_of(prices, step.kind[1]) for step in steps]
    sums = [price.of(each.input_tokens, each.output_tokens) for price, each in zip(prices_of, known, strict=True) if price is not None]
    price = sum(sums) if len(sums) == len(steps) else None
    return Forecast(
        rows=rows,
        input_tokens=sum(each.input_tokens for each in known),
        output_tokens=sum(each.output_tokens for each in known),
        worker_seconds=round(sum(each.worker_seconds for each in known), 3),
        expected_at=None if told.seconds is None else int(datetime.now(UTC).timestamp() + told.seconds),
        price=None if price is None else round(price, 6),
        currency=currency or None if price is not None else None,
        unforeseen=why_unforeseen(backlog, steps[-1].kind) if told.seconds is None else None,
    ), told


def foreseen(backlogs: Backlogs, store: Store, actor: Actor, job: JobRecord) -> Foreseen:
    """By its own pace, once it has one; before, by what was measured of others."""
    if job.state not in {"validating", "in_progress"}:
        return NOT_ASKED
    if job.paused:
        return Foreseen(why_not=Fault("paused", "It is paused."))
    now = datetime.now(UTC)
    if (left := eta_seconds(job)) is not None:
        return Foreseen(now + timedelta(seconds=left))
    kind, backlog = (job.task, job.model), backlogs.of(store, actor.tenant_id, polled=True)
    own = next((each for each in backlog.waiting if each.job_id == job.job_id), None)
    seconds = None
    if own is not None and own.worker_seconds is not None:
        seconds = _until_done(backlog, own, now.timestamp())
    return Foreseen(why_not=why_unforeseen(backlog, kind)) if seconds is None else Foreseen(now + timedelta(seconds=seconds))


def why_unforeseen(backlog: Backlog, kind: Kind) -> Fault:
    if not backlog.workers:
        return Fault("workers_drained", "every worker is drained") if backlog.drained else Fault("no_worker", "no worker is running")
    if not workers_with(backlog.workers, kind[1]):
        return Fault("no_worker_has_model", "no worker has this model")
    return Fault("unmeasured", "no job of this kind has run lately, so that its speed is not known")


def answer_limit(task: str, defaults: Mapping[str, object]) -> int | None:
    """Tokens that the answers to a row may have, by the job's defaults; None of a task that writes no texts."""
    if task not in TASKS or not TASKS[task].streams:
        return None
    limit = next((value for name in LIMITS if isinstance(value := defaults.get(name), int)), DEFAULT_OUTPUT_TOKENS)
    answers = defaults.get("n")
    return limit * (answers if isinstance(answers, int) else 1)


def open_rows(job: JobRecord) -> int:
    return job.row_count - job.completed_count - job.failed_count


def eta_seconds(job: JobRecord) -> float | None:
    """Until its last row, at its pace; None where that is not known yet, while it is paused, and in a second run: most of its rows were
    done when it began."""
    if job.state != "in_progress" or job.paused or job.retry_count or not job.pace:
        return None
    return round(open_rows(job) / job.pace, 1)


class _Cut(NamedTuple):
    """How a job would be cut: into so many shards, and the seconds by which it goes behind shorter ones: see :mod:`db.jobs.turn`."""

    shards: int
    turn_seconds: float


def _cut(backlog: Backlog, kind: Kind, rows: int, chars: int) -> _Cut:
    task, model = kind
    target = shard_chars(model, task, seconds=CUT_SECONDS, measured=backlog.shard_speeds)
    if target is None or not rows:
        return _Cut(1, SHARD_SECONDS)
    return _Cut(-(-rows // rows_per_shard(rows, chars, target)), max(chars, rows) / target * SHARD_SECONDS)


def _live(backlog: Backlog, job: Waiting, model: str | None, now: float) -> Live:
    cut = _cut(backlog, job.kind, job.rows, job.chars)
    turn_at = job.turn_at
    if turn_at is None:
        turn_at = min(now + cut.turn_seconds, math.inf if job.deadline is None else job.deadline - cut.turn_seconds)
    shared = reach(backlog.workers, model, job.kind[1])
    return Live(job.tenant, job.worker_seconds or 0.0, (-float(job.priority), turn_at), shared, cut.shards)


def _until_done(backlog: Backlog, job: Waiting, now: float) -> float | None:
    """None where no worker could run it. What stands before it is all but itself."""
    workers = workers_with(backlog.workers, job.kind[1])
    if not workers:
        return None
    before = [_live(backlog, each, job.kind[1], now) for each in backlog.waiting if job.job_id is None or each.job_id != job.job_id]
    return seconds_until_done(_live(backlog, job, job.kind[1], now), before, workers=workers)
