"""Results as their owner reads them back: a stream of pages, each on record before it is opened.

They are written in :mod:`db.queue.results`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, select, text

from db import bulk
from db.actors import Actor
from db.audit.acts import record_act
from db.audit.events import record_digest
from db.connect import Store
from db.jobs.jobs import no_such_job
from db.lifecycle import JobState
from db.schema import jobs
from db.sealing.cells import Sealer

PAGE_ROWS: Final = 2048  # a page is a transaction with its event: one wait for the disk
PAGE_BYTES: Final = 4 << 20  # of sealed payloads; a page ends after the row that passes this

# LATERAL with LIMIT 1 makes the join one index look-up a result. As a plain join it is planned, where there are no statistics yet (a new
# file, a job that has just ended), as every result of the page with every row of the file: 1.9 s a page of a 20,000-row file, not 2 ms.
_OUTPUT_PAGE: Final = """
    SELECT idx, line, custom_id_sealed, outcome, code, payload_sealed, model_version
    FROM (SELECT res.idx, r.line, r.custom_id_sealed, res.outcome, res.code, res.payload_sealed, res.model_version,
                 sum(coalesce(octet_length(res.payload_sealed), 0))
                     OVER (ORDER BY res.idx ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
          FROM (SELECT * FROM results WHERE tenant_id = %(tenant)s AND job_id = %(job)s AND idx > %(after)s AND outcome = 1
                ORDER BY idx LIMIT %(limit)s) AS res
          CROSS JOIN LATERAL (SELECT line, custom_id_sealed FROM rows
                WHERE tenant_id = %(tenant)s AND file_id = %(file)s AND idx = res.idx LIMIT 1) AS r) AS page
    WHERE coalesce(before, 0) < %(bytes)s ORDER BY idx
    """
_ERRORS_PAGE: Final = """
    SELECT res.idx, r.line, r.custom_id_sealed, res.outcome, res.code, res.payload_sealed, res.model_version
    FROM (SELECT * FROM results WHERE tenant_id = %(tenant)s AND job_id = %(job)s AND idx > %(after)s AND outcome = 2
          ORDER BY idx LIMIT %(limit)s) AS res
    CROSS JOIN LATERAL (SELECT line, custom_id_sealed FROM rows
                        WHERE tenant_id = %(tenant)s AND file_id = %(file)s AND idx = res.idx LIMIT 1) AS r
    ORDER BY res.idx
    """
# Of a job that ended early: rows that failed, and rows that never ran, which are not stored anywhere.
_ERRORS_PAGE_ENDED_EARLY: Final = """
    SELECT r.idx, r.line, r.custom_id_sealed, CAST(2 AS smallint) AS outcome, coalesce(res.code, %(code)s) AS code,
           res.payload_sealed, res.model_version
    FROM rows r
    LEFT JOIN results res ON res.tenant_id = %(tenant)s AND res.job_id = %(job)s AND res.idx = r.idx AND res.idx > %(after)s
    WHERE r.tenant_id = %(tenant)s AND r.file_id = %(file)s AND r.idx > %(after)s AND (res.idx IS NULL OR res.outcome = 2)
    ORDER BY r.idx LIMIT %(limit)s
    """
_HAS: Final = text(
    """
    SELECT EXISTS (SELECT FROM results WHERE tenant_id = :tenant AND job_id = :job AND outcome = 1) AS output,
           EXISTS (SELECT FROM results WHERE tenant_id = :tenant AND job_id = :job AND outcome = 2) AS errors
    """
)
_NEVER_RAN: Final = {JobState.CANCELLED.value: "batch_cancelled", JobState.EXPIRED.value: "batch_expired"}


class ResultLine(msgspec.Struct, frozen=True, gc=False):
    """A result as it is exported. ``line``: the row's 1-based line in the uploaded file. ``payload``: None where it failed."""

    idx: int
    line: int
    custom_id: str | None
    outcome: int
    code: str | None
    payload: bytes | None
    model_version: str | None


def iter_results(
    store: Store, actor: Actor, job_id: UUID, *, which: Literal["output", "errors"], page: int = PAGE_ROWS, after_idx: int = -1
) -> Iterator[ResultLine]:
    """The results of a job in the file's order, from the row after ``after_idx``; while it runs, what is done so far.

    ``errors`` of a job that was cancelled or expired has the rows that never ran, too. Raises NotFound at once where there is no such job
    or this part of its results was deleted. Each page is on record before it is opened; a deletion in between ends it with NotFound.
    """
    job = _readable(store, actor, job_id, which)
    return _iter_pages(store, actor, job_id, job.state, which, page, after_idx)


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
    return has.output and job.output_deleted_at is None, (has.errors or never_ran) and job.errors_deleted_at is None


def _find(conn: Connection, actor: Actor, job_id: UUID) -> Row[Any] | None:
    found: Row[Any] | None = conn.execute(select(jobs).where(jobs.c.tenant_id == actor.tenant_id, jobs.c.job_id == job_id)).one_or_none()
    return found


def _is_deleted(job: Row[Any], which: str) -> bool:
    return (job.output_deleted_at if which == "output" else job.errors_deleted_at) is not None


def _readable(store: Store, actor: Actor, job_id: UUID, which: str) -> Row[Any]:
    with store.transaction(tenant=actor.tenant_id) as conn:
        job = _find(conn, actor, job_id)
    if job is None or _is_deleted(job, which):
        raise no_such_job(store, actor, "results.read", job_id)
    return job


def _iter_pages(
    store: Store, actor: Actor, job_id: UUID, state: str, which: Literal["output", "errors"], page: int, after_idx: int
) -> Iterator[ResultLine]:
    while (read := _read_page(store, actor, job_id, state, which, page, after_idx)) is not None:
        for idx, line, sealed_id, outcome, code, sealed, version in read.rows:
            custom_id = None if sealed_id is None else read.file_sealer.open("rows.custom_id", idx, sealed_id).decode()
            payload = None if sealed is None else read.job_sealer.open("results.payload", idx, sealed)
            yield ResultLine(idx, line, custom_id, outcome, code, payload, version)
        if read.last:
            return
        after_idx = read.rows[-1][0]


@dataclass(frozen=True, slots=True)
class _Page:
    """Committed to the record, not opened yet: ``rows`` in the order of the queries' columns. ``last``: no row can follow."""

    rows: list[tuple[Any, ...]]
    last: bool
    file_sealer: Sealer
    job_sealer: Sealer


def _read_page(
    store: Store, actor: Actor, job_id: UUID, state: str, which: Literal["output", "errors"], limit: int, after_idx: int
) -> _Page | None:
    """None where no row follows. ``state`` is the job's when reading began: a job that ends meanwhile changes what its errors are, and one
    reading must not mix the two."""
    page: _Page | None = None
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(
            conn, store, actor, "results.read", object_kind="job", object_id=job_id, first_idx=after_idx + 1, job_id=job_id
        )
        job = _find(conn, actor, job_id)
        if job is not None and not _is_deleted(job, which):
            at = {"tenant": actor.tenant_id, "job": job_id, "file": job.file_id, "after": after_idx, "limit": limit}
            if which == "output":
                found = bulk.fetch(conn, _OUTPUT_PAGE, {**at, "bytes": PAGE_BYTES})
            elif state in _NEVER_RAN:
                found = bulk.fetch(conn, _ERRORS_PAGE_ENDED_EARLY, {**at, "code": _NEVER_RAN[state]})
            else:
                found = bulk.fetch(conn, _ERRORS_PAGE, at)
            sealed = [value for row in found for value in (row[2], row[5]) if value is not None]
            record_digest(conn, actor.tenant_id, event_id, sealed)
            if found:
                payload_bytes = sum(len(row[5] or b"") for row in found)
                page = _Page(
                    found,
                    len(found) < limit and payload_bytes < PAGE_BYTES,
                    store.keyring.sealer(conn, actor.tenant_id, "file", job.file_id),
                    store.keyring.sealer(conn, actor.tenant_id, "job", job_id),
                )
    if job is None or _is_deleted(job, which):
        raise no_such_job(store, actor, "results.read", job_id)
    return page
