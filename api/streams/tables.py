"""A job's results as a table, joined to the one that was uploaded, in its order: read page by page, and sent as it is written."""

import heapq
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final, cast

import msgspec

from api import metrics
from api.errors import Refused
from api.formats.header import told_column, told_columns
from api.objects import result_files
from api.streams.unmasking import unmasked_results
from api.tables.layout import UnknownColumn
from api.tables.outcome import Outcome
from api.tables.writers import Kind, table_writer
from db.actors import Actor
from db.connect import Store
from db.failures import describe
from db.files.columns import table_of_file
from db.jobs.erasing import Which
from db.jobs.jobs import JobRecord, no_such_job
from db.jobs.results import NO_END, ResultLine, iter_results
from db.lifecycle import LIVE_JOBS
from workers.tasks.task import Task
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
    """Every row of a job that has ended; of one that runs, those before its first open row. Raises NotFound, Refused where ``picked``
    names a column that is not there, and what a reading of results does. ``unmask``: see :mod:`.unmasking`."""
    if kind == "csv" and "vector" in task.columns.values():
        raise Refused("invalid_format", "CSV holds no vectors; take jsonl or parquet.", param="format")
    table = table_of_file(store, actor, job.file_id) if inputs else None
    sink = _Sink()
    file = cast(BinaryIO, sink)  # as far as it is written to
    try:
        writer = table_writer(file, kind, task.columns_of(ruled=is_ruled(job.model, task)), table, picked=picked)
    except UnknownColumn as unknown:
        message = f"The table has no column “{told_column(unknown.name)}”; it has {told_columns(unknown.known)}."
        raise Refused("unknown_column", message, param="columns") from None
    for outcome in _outcomes(store, actor, job, task, inputs=writer.shows_inputs, unmask=unmask):
        writer.write(outcome)
        if piece := sink.take():
            yield piece
    writer.finish()
    yield sink.take()


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
