"""When a job will be done, told to its owner when it is made and while it waits. Nothing of other tenants shows in it but that moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from api.prices import Price, price_of
from api.wire import Fault, Forecast
from db.actors import Actor
from db.connect import Store
from db.jobs.creating import NewJob
from db.jobs.forecast import Promise, Size, forecast, seconds_until_done, workers_with
from db.jobs.jobs import JobRecord
from db.lifecycle import MIN_SHARD_ROWS
from db.operators.backlog import Backlog, Backlogs, Kind, Waiting, order_of, turn_of
from workers.engines.contract.generation import DEFAULT_OUTPUT_TOKENS
from workers.tasks import TASKS

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


def with_forecast(backlogs: Backlogs, store: Store, actor: Actor, new: NewJob) -> NewJob:
    """With what its creation tells of its end; of a chain, each step with that of the steps so far."""
    backlog = backlogs.of(store, actor.tenant_id)
    steps = [_asked(step) for step in (*new.before, new)]

    def foreseeing(step: NewJob, number: int) -> NewJob:
        return replace(step, foresee=lambda rows, chars: promise(backlog, steps[:number], rows, chars, new.priority))

    return replace(foreseeing(new, len(steps)), before=tuple(foreseeing(step, number) for number, step in enumerate(new.before, 1)))


def _asked(job: NewJob) -> Asked:
    defaults = job.spec.get("defaults")
    return Asked((job.task, job.model), answer_limit(job.task, defaults if isinstance(defaults, Mapping) else {}))


def note_made(backlogs: Backlogs, actor: Actor, made: JobRecord) -> None:
    """Where the same request had made it before, it counts twice for a moment."""
    if made.state == "validating" and made.worker_seconds is not None:
        kind, deadline = (made.task, made.model), made.deadline.timestamp()
        backlogs.note(actor.tenant_id, Waiting(0, made.job_id, kind, made.priority, None, deadline, made.worker_seconds))


def promise(backlog: Backlog, steps: Sequence[Asked], rows: int, chars: int, priority: int) -> Promise:
    """Of the last of these steps, made now: when they are all done, and what it takes itself."""
    taken = [forecast(backlog.measured.get(step.kind), Size(rows, chars, step.answer_tokens)) for step in steps]
    known = [each.worker_seconds for each in taken if each is not None]
    if taken[-1] is None or len(known) < len(taken):
        return Promise(None, None if taken[-1] is None else known[-1])
    now = datetime.now(UTC).timestamp()
    order = (-float(priority), turn_of(sum(known), None, now))
    return Promise(_until_done(backlog, steps[-1].kind, sum(known), order, rows, now), known[-1])


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
        seconds = _until_done(
            backlog, kind, own.worker_seconds, order_of(own, now.timestamp()), open_rows(job), now.timestamp(), job.job_id
        )
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


def _until_done(
    backlog: Backlog, kind: Kind, worker_seconds: float, order: tuple[float, ...], rows: int, now: float, own: UUID | None = None
) -> float | None:
    """Of the job ``own``, or of one that is made now; None where no worker could run it."""
    workers = workers_with(backlog.workers, kind[1])
    if not workers:
        return None
    at_once = 1 if kind[0] in TASKS and TASKS[kind[0]].whole else -(-rows // MIN_SHARD_ROWS)
    live = backlog.live(kind, now, but=own)
    return seconds_until_done(worker_seconds, order, live, tenant=backlog.own, workers=workers, at_once=at_once)
