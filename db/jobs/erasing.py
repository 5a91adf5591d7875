"""The end of a job, and of its results, whoever asks for it: their owner, or the time they are kept for.

What is deleted is out of everybody's sight at once, and a deleted job's key is gone. Of a job with many rows the rest is left to
:mod:`db.jobs.purge`, which erases it in ranges of rows. ``erase_from_idx`` says how far that has come.
"""

from collections.abc import Collection
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, text

from db.files import files
from db.lifecycle import LIVE_JOBS
from db.purging import ERASED_AT_ONCE

Which = Literal["output", "errors"]

# Its file can be deleted from now on, nothing of it is cut, offered, claimed or ended, and a repeated request makes another job.
_DELETE: Final = text(
    """
    UPDATE jobs SET deleted_at = now(), erase_from_idx = 0, output_deleted_at = coalesce(output_deleted_at, now()),
        errors_deleted_at = coalesce(errors_deleted_at, now()), state = CASE WHEN state IN :live THEN 'cancelled' ELSE state END
    WHERE tenant_id = :tenant AND job_id = :job
    """
).bindparams(bindparam("live", sorted(LIVE_JOBS), expanding=True))
_DELETE_RESULTS: Final = text(
    """
    UPDATE jobs SET erase_from_idx = 0,
        output_deleted_at = CASE WHEN :output THEN coalesce(output_deleted_at, now()) ELSE output_deleted_at END,
        errors_deleted_at = CASE WHEN :errors THEN coalesce(errors_deleted_at, now()) ELSE errors_deleted_at END
    WHERE tenant_id = :tenant AND job_id = :job
    """
)
_ERASE_KEY: Final = text("DELETE FROM data_keys WHERE tenant_id = :tenant AND owner_kind = 'job' AND owner_id = :job")
# Locked in the order in which heartbeats lock, so that no two ever wait for each other.
_ERASE_SHARDS: Final = """
    WITH own AS MATERIALIZED (
        SELECT shard_id FROM shards WHERE tenant_id = :tenant AND job_id = :job AND {which} ORDER BY shard_id FOR UPDATE)
    DELETE FROM shards s USING own WHERE s.tenant_id = :tenant AND s.shard_id = own.shard_id
    """
_FENCE_OFF: Final = text(_ERASE_SHARDS.format(which="state = 'leased'"))
_ERASE_SHARDS_OF_PAGE: Final = text(_ERASE_SHARDS.format(which="first_idx >= :first AND first_idx < :end"))
_ERASE_SHARDS_LEFT: Final = text(_ERASE_SHARDS.format(which="true"))
_OF_PAGE: Final = "WHERE tenant_id = :tenant AND job_id = :job AND idx >= :first AND idx < :end"
_ERASE_RESULTS: Final = text(f"DELETE FROM results {_OF_PAGE}")  # noqa: S608 - constants
_ERASE_ANSWERS: Final = text(f"DELETE FROM results {_OF_PAGE} AND outcome = 1")  # noqa: S608 - constants
_ERASE_FAILURES: Final = text(f"DELETE FROM results {_OF_PAGE} AND outcome = 2")  # noqa: S608 - constants
# Of a job that ended early, a row without a result is one that never ran: there the answered ones must go on being known.
_EMPTY_ANSWERS: Final = text(f"UPDATE results SET payload_sealed = NULL {_OF_PAGE} AND outcome = 1")  # noqa: S608 - constants
_MARKED: Final = text(
    """
    SELECT file_id, row_count, erase_from_idx, deleted_at IS NOT NULL AS deleted, output_deleted_at IS NOT NULL AS without_output,
           errors_deleted_at IS NOT NULL AS without_errors, state IN ('cancelled', 'expired') AS ended_early
    FROM jobs WHERE tenant_id = :tenant AND job_id = :job
    """
)
_ADVANCE: Final = text("UPDATE jobs SET erase_from_idx = :end WHERE tenant_id = :tenant AND job_id = :job")
_ERASE_JOB: Final = text("DELETE FROM jobs WHERE tenant_id = :tenant AND job_id = :job")
_LOCK_TOMBSTONE: Final = text("SELECT FROM files WHERE tenant_id = :tenant AND file_id = :file AND state = 'deleted' FOR UPDATE")


def erase_job(conn: Connection, tenant_id: UUID, job_id: UUID, *, at_once: int = ERASED_AT_ONCE) -> bool:
    """Of a job, in whatever state, whose row the caller has locked. Who is at work on it stores nothing more. False where the purge has
    the rest to do: it has more than ``at_once`` rows."""
    key = {"tenant": tenant_id, "job": job_id}
    conn.execute(_DELETE, key)
    conn.execute(_FENCE_OFF, key)
    conn.execute(_ERASE_KEY, key)
    return _begin(conn, tenant_id, job_id, at_once)


def erase_results(conn: Connection, tenant_id: UUID, job_id: UUID, which: Collection[Which], *, at_once: int = ERASED_AT_ONCE) -> bool:
    """The answers or the failures, or both, of a job that has ended and whose row the caller has locked. Returns as above."""
    marked = {"output": "output" in which, "errors": "errors" in which}
    conn.execute(_DELETE_RESULTS, {"tenant": tenant_id, "job": job_id, **marked})
    return _begin(conn, tenant_id, job_id, at_once)


def erase_page(conn: Connection, tenant_id: UUID, job_id: UUID, page_rows: int) -> bool:
    """The next page of what was deleted of a job whose row the caller has locked; True where that was all."""
    key = {"tenant": tenant_id, "job": job_id}
    job = conn.execute(_MARKED, key).one()
    if job.erase_from_idx >= job.row_count:
        return _close(conn, tenant_id, job_id, job)
    page = {**key, "first": job.erase_from_idx, "end": job.erase_from_idx + page_rows}
    if job.without_output and job.without_errors:
        # Shards first: whoever wrote under one of them has committed then, and nobody writes these rows any more.
        conn.execute(_ERASE_SHARDS_OF_PAGE, page)
        conn.execute(_ERASE_RESULTS, page)
    elif job.without_errors:
        conn.execute(_ERASE_FAILURES, page)
    else:
        conn.execute(_EMPTY_ANSWERS if job.ended_early else _ERASE_ANSWERS, page)
    conn.execute(_ADVANCE, page)
    return False


def _begin(conn: Connection, tenant_id: UUID, job_id: UUID, at_once: int) -> bool:
    job = conn.execute(_MARKED, {"tenant": tenant_id, "job": job_id}).one()
    if job.without_output and job.without_errors:
        _tidy_file(conn, tenant_id, job.file_id)
    if job.row_count > at_once:
        return False
    while not erase_page(conn, tenant_id, job_id, at_once):
        pass
    return True


def _close(conn: Connection, tenant_id: UUID, job_id: UUID, job: Row[Any]) -> bool:
    """Once the pages are through. False where they must be gone over again."""
    key = {"tenant": tenant_id, "job": job_id}
    if not job.deleted:
        conn.execute(_ADVANCE, {**key, "end": None})
        return True
    if conn.execute(_ERASE_SHARDS_LEFT, key).rowcount:  # of a shard that was halved meanwhile: somebody may have written under it
        conn.execute(_ADVANCE, {**key, "end": 0})
        return False
    conn.execute(_ERASE_JOB, key)  # its settings go with it
    _tidy_file(conn, tenant_id, job.file_id)
    return True


def _tidy_file(conn: Connection, tenant_id: UUID, file_id: UUID) -> None:
    """What a deleted file had kept for the sake of a job's results goes too, unless others need it."""
    if conn.execute(_LOCK_TOMBSTONE, {"tenant": tenant_id, "file": file_id}).one_or_none() is not None:
        files.erase(conn, tenant_id, file_id)
