"""A job's results as a table, joined to the one that was uploaded, in its order: read page by page, and sent as it is written."""

import heapq
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final, NamedTuple, cast

import msgspec

from api import metrics
from api.errors import Refused
from api.formats.header import told_column, told_columns
from api.objects import result_files
from api.streams.unmasking import unmasked_results
from api.tables.layout import UnknownColumn
from api.tables.outcome import Outcome
from api.tables.step_columns import step_columns
from api.tables.writers import Kind, table_writer
from db.actors import Actor
from db.connect import Store
from db.failures import describe
from db.files.columns import table_of_file
from db.jobs.erasing import Which
from db.jobs.jobs import JobRecord, no_such_job
from db.jobs.results import NO_END, ResultLine, iter_results
from db.lifecycle import LIVE_JOBS
from workers.tasks import TASKS
from workers.tasks.task import UNSAID, Columns, Task
from workers.tasks.writers import is_ruled

MEDIA_TYPES: Final[dict[Kind, str]] = {
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


def table_pieces(
    store: Store,
    actor: Actor,
    job: JobRecord,
    task: Task[Any],
    kind: Kind,
    *,
    picked: Sequence[str] | None = None,
    inputs: bool = True,
    unmask: bool = False,
) -> Iterator[bytes]:
    """Every row of a job that has ended; of one that runs, those before its first open row; of a chain, with the columns of all its steps.
    Raises NotFound, Refused where ``picked`` names a column that is not there, and what a reading of results does. ``unmask``: see
    :mod:`.unmasking`."""
    steps = _steps(job, task)
    columns = {step.called[name]: what for step in steps for name, what in step.columns.items()}
    if kind == "csv" and "vector" in columns.values():
        raise Refused("invalid_format", "CSV holds no vectors; take jsonl or parquet.", param="format")
    table = table_of_file(store, actor, job.file_id) if inputs else None
    sink = _Sink()
    file = cast(BinaryIO, sink)  # as far as it is written to
    try:
        writer = table_writer(file, kind, columns, table, picked=picked)
    except UnknownColumn as unknown:
        message = f"The table has no column “{told_column(unknown.name)}”; it has {told_columns(unknown.known)}."
        raise Refused("unknown_column", message, param="columns") from None
    for outcome in _joined(store, actor, steps, inputs=writer.shows_inputs, unmask=unmask):
        writer.write(outcome)
        if piece := sink.take():
            yield piece
    writer.finish()
    yield sink.take()


class _Step(NamedTuple):
    """Of a chain, or a job alone. ``called``: what each of its columns is called in the table."""

    job: JobRecord
    task: Task[Any]
    columns: Columns
    called: Mapping[str, str]


def _steps(job: JobRecord, task: Task[Any]) -> list[_Step]:
    found = [(step, TASKS[step.task]) for step in job.steps] or [(job, task)]
    columns = [by.columns_of(ruled=is_ruled(step.model, by.writers)) for step, by in found]
    names = [step.step_name or f"step{step.step}" for step, _ in found]
    called = step_columns(list(zip(names, columns, strict=True)))
    return [_Step(step, by, own, told) for (step, by), own, told in zip(found, columns, called, strict=True)]


def _joined(store: Store, actor: Actor, steps: Sequence[_Step], *, inputs: bool, unmask: bool) -> Iterator[Outcome]:
    """The rows of the last step, each with what all steps made of it."""
    last_step, before = steps[-1], steps[:-1]
    job, task = last_step.job, last_step.task
    if not before:
        yield from _outcomes(store, actor, job, task, inputs=inputs, unmask=unmask)
        return
    earlier = [_Earlier(_outcomes(store, actor, of, by, inputs=False, unmask=unmask)) for of, by, *_ in before]
    for last in _outcomes(store, actor, job, task, inputs=inputs, unmask=unmask):
        each = [step.at(last.row) for step in earlier] + [last]
        values: dict[str, object] = {}
        for (_, _, columns, called), outcome in zip(steps, each, strict=True):
            unsaid = {name: UNSAID[what] for name, what in columns.items() if what in UNSAID}
            if outcome is None or outcome.code is not None:
                values |= {called[name]: None for name in unsaid}
            else:
                values |= {called[name]: value for name, value in {**unsaid, **outcome.values}.items() if name in called}
        failed = next((outcome for outcome in each if outcome is not None and outcome.code is not None), last)
        size = sum(outcome.size for outcome in each if outcome is not None)
        yield msgspec.structs.replace(last, values=values, code=failed.code, message=failed.message, size=size)


class _Earlier:
    """The rows of a step, asked for in their order."""

    def __init__(self, outcomes: Iterator[Outcome]) -> None:
        self._outcomes = outcomes
        self._next = next(outcomes, None)

    def at(self, row: int) -> Outcome | None:
        while self._next is not None and self._next.row < row:
            self._next = next(self._outcomes, None)
        return self._next if self._next is not None and self._next.row == row else None


def _outcomes(store: Store, actor: Actor, job: JobRecord, task: Task[Any], *, inputs: bool, unmask: bool) -> Iterator[Outcome]:
    """Answers and failures, merged. The two are read one after the other and the job may go on in between: what is behind its first open
    row in one of them may not be in the other yet."""
    runs = job.state in LIVE_JOBS
    end_idx = (job.rows_in_order or 0) if runs else NO_END
    parts: tuple[Which, Which] = ("output", "errors")
    there = [which for which, file in zip(parts, result_files(job), strict=True) if file or runs]
    if not there and (job.completed_count or job.failed_count):
        raise no_such_job(store, actor, "results.read", job.job_id)
    reading = unmasked_results if unmask else iter_results
    readings = [reading(store, actor, job.job_id, which=which, inputs=inputs) for which in there]
    read = metrics.rows_read.labels("table")
    for result in heapq.merge(*readings, key=lambda result: result.idx):
        if result.idx >= end_idx:
            return
        read.inc()
        yield _outcome(result, task)


def _outcome(result: ResultLine, task: Task[Any]) -> Outcome:
    place = (result.idx + 1, result.line or 0, result.custom_id)
    if result.payload is None or result.damaged:
        failure = describe(result.told_code)
        return Outcome(*place, code=failure.code, message=failure.message, body=result.body, columns=result.columns)
    values = task.told(msgspec.Raw(result.payload))
    return Outcome(*place, values=values, body=result.body, columns=result.columns, size=len(result.payload))


class _Sink(io.RawIOBase):
    """A file to write to, from which what was written is taken."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._taken = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._held += data
        return len(data)

    def tell(self) -> int:
        return self._taken + len(self._held)

    def take(self) -> bytes:
        piece = bytes(self._held)
        self._taken += len(piece)
        self._held.clear()
        return piece
