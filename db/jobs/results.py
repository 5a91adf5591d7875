"""Results as their owner reads them back: a stream of pages, each on record before it is opened.

They are written in :mod:`db.queue.results`, shard by shard and in any order. A reading of a job that runs ends before the first row that is
still open, fixed when it begins: whatever is stored later lies behind it, so that a reader who goes on behind its last line misses nothing,
of answers and of failures alike, also through a cancel or a deadline. A job that is run again changes rows that were read before; a reader
from before is told so, unless all it has read lies before the first of them (``rerun_from_idx``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, LiteralString
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, select, text

from db import bulk
from db.actors import Actor
from db.audit.acts import attempt, denied, record_act
from db.audit.damage import DAMAGED, Opening
from db.audit.events import about_job, record_digest
from db.connect import Store
from db.errors import Conflict, NotFound
from db.failures import is_failure
from db.files.files import is_readable, no_such_file
from db.jobs.chains import IS_THERE, NO_JOB, RESULTS_EXPIRED
from db.jobs.in_order import rows_in_order
from db.jobs.jobs import no_such_job
from db.lifecycle import COMPLETED, LIVE_JOBS, JobState, ended_by
from db.schema import jobs
from db.sealing.cells import Opener

PAGE_ROWS: Final = 2048  # a page is a transaction with its event: one wait for the disk
PAGE_BYTES: Final = 4 << 20  # of sealed values; a page ends after the row that passes this
NO_END: Final = 2**31 - 1

# LATERAL with LIMIT 1 makes the join one index look-up a result. As a plain join it is planned, where there are no statistics yet (a new
# file, a job that has just ended), as every result of the page with every row of the file: 1.9 s a page of a 20,000-row file, not 2 ms.
# LEFT, for a row that somebody took must not end a reading where a page has nothing else in it. A row of a batch has an id, and one whose
# id has a digest.
_PLACED: Final = """
    SELECT res.idx, r.line, r.has_id, r.custom_id_sealed, res.outcome, res.code, res.payload_sealed, res.model_version,
           r.body_sealed, r.columns_sealed
    FROM (SELECT * FROM results WHERE tenant_id = %(tenant)s AND job_id = %(job)s AND idx > %(after)s AND idx < %(end)s
            AND outcome = %(outcome)s ORDER BY idx LIMIT %(limit)s) AS res
    LEFT JOIN LATERAL (
        SELECT line, custom_id_hmac IS NOT NULL OR endpoint IS NOT NULL AS has_id, custom_id_sealed,
               CASE WHEN %(inputs)s THEN body_sealed END AS body_sealed, CASE WHEN %(inputs)s THEN columns_sealed END AS columns_sealed
        FROM rows WHERE tenant_id = %(tenant)s AND file_id = %(file)s AND idx = res.idx LIMIT 1) AS r ON true
    """
# Of a job that ended early: rows that failed, and rows that never ran, which are not stored anywhere.
_ENDED_EARLY: Final = """
    SELECT r.idx, r.line, r.custom_id_hmac IS NOT NULL OR r.endpoint IS NOT NULL AS has_id, r.custom_id_sealed,
           CAST(2 AS smallint) AS outcome, CASE WHEN res.idx IS NULL THEN %(code)s ELSE res.code END AS code,
           res.payload_sealed, res.model_version,
           CASE WHEN %(inputs)s THEN r.body_sealed END AS body_sealed, CASE WHEN %(inputs)s THEN r.columns_sealed END AS columns_sealed
    FROM rows r
    LEFT JOIN results res ON res.tenant_id = %(tenant)s AND res.job_id = %(job)s AND res.idx = r.idx AND res.idx > %(after)s
    WHERE r.tenant_id = %(tenant)s AND r.file_id = %(file)s AND r.idx > %(after)s AND (res.idx IS NULL OR res.outcome = 2)
    ORDER BY r.idx LIMIT %(limit)s
    """
_PAGE: Final = """
    SELECT idx, line, has_id, custom_id_sealed, outcome, code, payload_sealed, model_version, body_sealed, columns_sealed
    FROM (SELECT found.*, sum(coalesce(octet_length(payload_sealed), 0) + coalesce(octet_length(body_sealed), 0)
                              + coalesce(octet_length(columns_sealed), 0))
                     OVER (ORDER BY idx ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
          FROM ({found}) AS found) AS page
    WHERE coalesce(before, 0) < %(bytes)s ORDER BY idx
    """
_PAGES: Final[dict[str, LiteralString]] = {
    name: _PAGE.format(found=found) for name, found in (("placed", _PLACED), ("ended early", _ENDED_EARLY))
}
_HAS: Final = text(
    """
    SELECT EXISTS (SELECT FROM results WHERE tenant_id = :tenant AND job_id = :job AND outcome = 1) AS output,
           EXISTS (SELECT FROM results WHERE tenant_id = :tenant AND job_id = :job AND outcome = 2) AS errors
    """
)
_NEVER_RAN: Final = {JobState.CANCELLED.value: "batch_cancelled", JobState.EXPIRED.value: "batch_expired"}


class ResultLine(msgspec.Struct, frozen=True, gc=False):
    """A result as it is exported. ``line``: the row's 1-based line in the uploaded file, None where the row was taken. ``payload``: None
    where it failed. ``run``: how often the job had been run again when this was read. ``damaged``: its id or its answer does not open, and
    is None, or what stands beside them is nothing that was written here. ``body``, ``columns``: the row as it was uploaded, of a reading
    that asked for it; None where nothing of it is left."""

    idx: int
    line: int | None
    custom_id: str | None
    outcome: int
    code: str | None
    payload: bytes | None
    model_version: str | None
    run: int = 0
    damaged: bool = False
    body: bytes | None = None
    columns: bytes | None = None

    @property
    def told_code(self) -> str:
        """Of a row without an answer: why, as its owner is told."""
        return DAMAGED if self.damaged else self.code or "engine_error"


@dataclass(frozen=True, slots=True)
class Place:
    """A line that a reader has got, of a job that had been run again ``run`` times by then."""

    idx: int
    run: int = 0


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one reading goes over, fixed when it begins: rows before ``end_idx``. A job that ends meanwhile changes what its errors are, and
    one reading must not mix the two: ``state`` is that of the beginning."""

    job_id: UUID
    file_id: UUID
    which: Literal["output", "errors"]
    state: str
    run: int
    end_idx: int
    inputs: bool
    action: str
    end_code: str | None


def iter_results(
    store: Store,
    actor: Actor,
    job_id: UUID,
    *,
    which: Literal["output", "errors"],
    page: int = PAGE_ROWS,
    after: Place | None = None,
    inputs: bool = False,
    action: Literal["results.read", "results.unmask"] = "results.read",
) -> Iterator[ResultLine]:
    """The results of a job in the file's order, those behind ``after`` where it is given; while it runs, those before its first open row.
    ``inputs``: each with its row as it was uploaded. ``action``: as which its pages are on record.

    ``errors`` of a job that was cancelled or expired has the rows that never ran, too. Raises at once NotFound where there is no such job
    or this part of its results was deleted, and Conflict (``results_changed``) where rows up to ``after`` have run again since. Each page
    is on record before it is opened; a deletion in between ends it with NotFound, another run with Conflict.
    """
    reading = _begin(store, actor, job_id, which, after, inputs=inputs, action=action)
    return _iter_pages(store, actor, reading, page, -1 if after is None else after.idx)


def has_results(store: Store, actor: Actor, job_id: UUID) -> tuple[bool, bool]:
    """Whether there is anything to read: (answers, failures). Deleted is as good as none. Raises NotFound."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        record_act(conn, store, actor, "job.read", object_kind="job", object_id=job_id, job_id=job_id)
        job = _find(conn, actor, job_id)
        if job is not None:
            has = conn.execute(_HAS, {"tenant": actor.tenant_id, "job": job_id}).one()
    if job is None:
        raise no_such_job(store, actor, "job.read", job_id)
    never_ran = job.state in _NEVER_RAN and job.row_count > job.completed_count + job.failed_count
    return has.output and not _is_deleted(job, "output"), (has.errors or never_ran) and not _is_deleted(job, "errors")


def _find(conn: Connection, actor: Actor, job_id: UUID) -> Row[Any] | None:
    of_job = (jobs.c.tenant_id == actor.tenant_id, jobs.c.job_id == job_id, IS_THERE)
    found: Row[Any] | None = conn.execute(select(jobs, RESULTS_EXPIRED.label("results_expired")).where(*of_job)).one_or_none()
    return found


def _is_deleted(job: Row[Any], which: str) -> bool:
    return job.results_expired or (job.output_deleted_at if which == "output" else job.errors_deleted_at) is not None


def _begin(
    store: Store, actor: Actor, job_id: UUID, which: Literal["output", "errors"], after: Place | None, *, inputs: bool, action: str
) -> _Reading:
    end_idx = NO_END
    with attempt(store, actor, action, **about_job(job_id)) as conn:
        job = _find(conn, actor, job_id)
        if job is None or _is_deleted(job, which):
            raise NotFound(NO_JOB)
        if after is not None and after.run != job.retry_count and (job.rerun_from_idx is None or after.idx >= job.rerun_from_idx):
            raise _run_again()
        if job.state in LIVE_JOBS:
            record_act(conn, store, actor, "job.read", **about_job(job_id))
            end_idx = rows_in_order(conn, actor.tenant_id, job_id)
    return _Reading(job_id, job.file_id, which, job.state, job.retry_count, end_idx, inputs, action, ended_by(job.end_code))


def _run_again() -> Conflict:
    return Conflict(
        code="results_changed", message="Rows of this batch have run again since this line was read: read its results from the start."
    )


def _iter_pages(store: Store, actor: Actor, reading: _Reading, page: int, after_idx: int) -> Iterator[ResultLine]:
    while (read := _read_page(store, actor, reading, page, after_idx)) is not None:
        with Opening(store, actor) as opening:
            lines = [_open(opening, read, row, reading.run) for row in read.rows]
        yield from lines
        if read.last:
            return
        after_idx = read.rows[-1][0]


def _open(opening: Opening, page: "_Page", row: tuple[Any, ...], run: int) -> ResultLine:
    """Whatever is not as it was written is damage, also what is missing: a failure has a code and no answer, any other row an answer."""
    idx, line, has_id, sealed_id, outcome, code, sealed, version, sealed_body, sealed_columns = row
    custom_id = payload = None
    damaged = False
    if has_id or sealed_id is not None or line is None:
        custom_id = opening.open_text(page.file_opener, "rows.custom_id", idx, sealed_id or b"")
        damaged = custom_id is None
    if outcome == COMPLETED:
        payload = opening.open(page.job_opener, "results.payload", idx, sealed or b"")
        damaged |= payload is None
    elif sealed is not None or not is_failure(code):
        opening.note(page.job_opener, "results.payload", idx, sealed or b"")
        damaged = True
    body, columns = (
        None if of_row is None else opening.open(page.file_opener, column, idx, of_row)
        for column, of_row in (("rows.body", sealed_body), ("rows.columns", sealed_columns))
    )
    damaged |= (body is None) is not (sealed_body is None) or (columns is None) is not (sealed_columns is None)
    return ResultLine(idx, line, custom_id, outcome, code, payload, version, run, damaged, body, columns)


@dataclass(frozen=True, slots=True)
class _Page:
    """Committed to the record, not opened yet: ``rows`` in the order of the queries' columns. ``last``: no row can follow."""

    rows: list[tuple[Any, ...]]
    last: bool
    file_opener: Opener
    job_opener: Opener


def _read_page(store: Store, actor: Actor, reading: _Reading, limit: int, after_idx: int) -> _Page | None:
    """None where no row follows."""
    job_id = reading.job_id
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(
            conn, store, actor, reading.action, object_kind="job", object_id=job_id, first_idx=after_idx + 1, job_id=job_id
        )
        # First: of what is there after them, they are too.
        file_opener = store.keyring.opener(conn, actor.tenant_id, "file", reading.file_id)
        job_opener = store.keyring.opener(conn, actor.tenant_id, "job", job_id)
        found = _fetch_rows(conn, actor, reading, limit, after_idx)
        job = _find(conn, actor, job_id)  # asked after them: what a deletion or a retry in between left is no damage
        if job is not None and job.retry_count == reading.run and not _is_deleted(job, reading.which):
            sealed = [value for row in found for value in (row[3], row[6], row[8], row[9]) if value is not None]
            record_digest(conn, actor.tenant_id, event_id, sealed, rows=[row[0] for row in found])
        input_is_gone = reading.inputs and not is_readable(conn, actor.tenant_id, reading.file_id)
    if input_is_gone:  # deleted, or expired: that its rows still lie there is nobody's affair
        raise no_such_file(store, actor, reading.action, reading.file_id)
    if job is None or _is_deleted(job, reading.which):  # not within: that the keys were read stays on record
        raise no_such_job(store, actor, reading.action, job_id)
    if job.retry_count != reading.run:
        raise denied(_run_again(), store, actor, reading.action, **about_job(job_id))
    if not found:
        return None
    page_bytes = sum(len(row[at] or b"") for row in found for at in (6, 8, 9))
    return _Page(found, len(found) < limit and page_bytes < PAGE_BYTES, file_opener, job_opener)


def _fetch_rows(conn: Connection, actor: Actor, reading: _Reading, limit: int, after_idx: int) -> list[tuple[Any, ...]]:
    of_job = {"tenant": actor.tenant_id, "job": reading.job_id, "file": reading.file_id, "inputs": reading.inputs}
    at = {**of_job, "after": after_idx, "end": reading.end_idx, "limit": limit, "bytes": PAGE_BYTES}
    if reading.which == "errors" and reading.state in _NEVER_RAN:
        return bulk.fetch(conn, _PAGES["ended early"], {**at, "code": reading.end_code or _NEVER_RAN[reading.state]})
    return bulk.fetch(conn, _PAGES["placed"], {**at, "outcome": 1 if reading.which == "output" else 2})
