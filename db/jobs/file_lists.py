"""All files of a tenant in one list: those that were uploaded, and the output and error files of jobs that have ended.

The latter are not stored: they are read from results (:mod:`db.jobs.results`). They stand where their job does, by its age.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, select, text

from db.actors import Actor
from db.audit.acts import record_act
from db.audit.damage import Opening
from db.audit.events import record_digest
from db.connect import Store
from db.files.files import HAS_NAME, FileRecord, file_record, no_such_file, open_file_record
from db.id_ranges import IdRange
from db.jobs.erasing import Which
from db.jobs.jobs import no_such_job
from db.schema import files
from db.sealing.cells import Opener

PURPOSE: Final = "batch_output"
_KINDS: Final[tuple[Which | None, ...]] = (None, "output", "errors")  # in this order, of one age and one id

# What of a tenant is in the list: uploads that are not being erased, and of jobs the files that have a line.
_IS_THERE: Final = "state NOT IN ('deleted', 'error') AND (expires_at IS NULL OR expires_at > now())"
_UNEXPIRED: Final = "(results_expire_at IS NULL OR results_expire_at > now())"
_HAS_OUTPUT: Final = f"completed_count > 0 AND output_deleted_at IS NULL AND {_UNEXPIRED}"
_HAS_ERRORS: Final = (
    "(failed_count > 0 OR (state IN ('cancelled', 'expired') AND row_count > completed_count + failed_count))"
    f" AND errors_deleted_at IS NULL AND {_UNEXPIRED}"
)
_ENDED: Final = "state IN ('completed', 'failed', 'cancelled', 'expired')"

# One look of each kind at an index by age, in whichever direction. Going on is a query of its own: a plan that fits both would pass over
# every file of the pages before.
_LIST: Final = """
    SELECT kind, id FROM (
        (SELECT 0 AS kind, file_id AS id, created_at FROM files
         WHERE tenant_id = :tenant AND {is_there}
           AND (CAST(:purpose AS text) IS NULL OR purpose = :purpose) {uploaded}
         ORDER BY created_at {order}, file_id {order} LIMIT :limit)
        UNION ALL
        (SELECT 1, job_id, created_at FROM jobs
         WHERE tenant_id = :tenant AND :results AND {ended} AND {has_output} {output}
         ORDER BY created_at {order}, job_id {order} LIMIT :limit)
        UNION ALL
        (SELECT 2, job_id, created_at FROM jobs
         WHERE tenant_id = :tenant AND :results AND {ended} AND {has_errors} {errors}
         ORDER BY created_at {order}, job_id {order} LIMIT :limit)) AS listed
    ORDER BY created_at {order}, id {order}, kind {order} LIMIT :limit
    """


def _list(order: str, behind: str) -> tuple[TextClause, TextClause]:
    """The first page, and one behind a border."""
    border = f"{behind} (CAST(CAST(:at AS text) AS timestamptz), CAST(:id AS uuid), CAST(:kind AS integer))"
    kinds = {"uploaded": "file_id, 0", "output": "job_id, 1", "errors": "job_id, 2"}
    same = {"order": order, "is_there": _IS_THERE, "ended": _ENDED, "has_output": _HAS_OUTPUT, "has_errors": _HAS_ERRORS}
    first = _LIST.format(**same, **dict.fromkeys(kinds, ""))
    return text(first), text(_LIST.format(**same, **{kind: f"AND (created_at, {key}) {border}" for kind, key in kinds.items()}))


_LISTS: Final = {"desc": _list("DESC", "<"), "asc": _list("ASC", ">")}
_UPLOADED_WITHIN: Final = text(
    f"""
    SELECT CAST(:kind AS integer) AS kind, file_id AS id FROM files
    WHERE tenant_id = :tenant AND file_id BETWEEN :first AND :last AND {_IS_THERE} LIMIT :limit
    """  # noqa: S608 - constants
)
_RESULTS_WITHIN: Final = text(
    f"""
    SELECT CAST(:kind AS integer) AS kind, job_id AS id FROM jobs
    WHERE tenant_id = :tenant AND job_id BETWEEN :first AND :last
      AND CASE CAST(:kind AS integer) WHEN 1 THEN {_HAS_OUTPUT} ELSE {_HAS_ERRORS} END LIMIT :limit
    """  # noqa: S608 - constants
)
# As text, for a border may be a moment that Python cannot say.
_FILE_AT: Final = text("SELECT CAST(created_at AS text) FROM files WHERE tenant_id = :tenant AND file_id = :id")
_JOB_AT: Final = text("SELECT CAST(created_at AS text) FROM jobs WHERE tenant_id = :tenant AND job_id = :id")
_JOBS: Final = text(
    """
    SELECT job_id, created_at, state, row_count, completed_count, failed_count, retry_count, results_expire_at FROM jobs
    WHERE tenant_id = :tenant AND job_id = ANY(:jobs)
    """
)


@dataclass(frozen=True, slots=True)
class ResultFile:
    """The output or error file of a job. ``row_count``: its lines. ``run``: how often the job was run again. ``complete``: it has ended.
    ``expires_at``: when it is deleted by itself, known once it is complete."""

    job_id: UUID
    which: Which
    created_at: datetime
    row_count: int
    run: int
    complete: bool
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Named:
    """A file by what its id names; of a job's, ``which`` of the two."""

    id: UUID
    which: Which | None = None


Listed = list[ResultFile | tuple[Opener, Row[Any]]]  # of uploads, what is still to be opened


def list_files(
    store: Store,
    actor: Actor,
    *,
    limit: int,
    after: Named | None = None,
    order: Literal["desc", "asc"] = "desc",
    purpose: str | None = None,
) -> tuple[list[FileRecord | ResultFile], bool]:
    """A page of the tenant's files by age, and whether there are more. ``after``: the last one of the page before, else NotFound."""
    asked = {"tenant": actor.tenant_id, "limit": limit + 1, "purpose": purpose, "results": purpose in (None, PURPOSE)}
    first, behind = _LISTS[order]
    at: str | None = None
    listed: Listed = []
    has_more = False
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "file.list")
        if after is not None:
            named = {"tenant": actor.tenant_id, "id": after.id}
            at = conn.execute(_FILE_AT if after.which is None else _JOB_AT, named).scalar_one_or_none()
        if after is not None and at is None:
            conn.rollback()  # of the event, too: the refusal is on record
        else:
            border = {} if after is None else {"at": at, "id": after.id, "kind": _KINDS.index(after.which)}
            listed, has_more = _whole_page(conn, store, actor, first if after is None else behind, {**asked, **border})
            _put_on_record(conn, actor, event_id, listed)
    if after is not None and at is None:
        missing = no_such_file if after.which is None else no_such_job
        raise missing(store, actor, "file.list", after.id)
    return _opened(store, actor, listed), has_more


def find_files(store: Store, actor: Actor, ranges: Mapping[Which | None, IdRange], *, limit: int) -> list[FileRecord | ResultFile]:
    """At most ``limit`` of the tenant's files whose ids lie in the range for their kind, in no order."""
    asked: dict[str, object] = {"tenant": actor.tenant_id, "limit": limit}
    page: list[Row[Any]] = []
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "file.list")
        for which, within in ranges.items():
            look = _UPLOADED_WITHIN if which is None else _RESULTS_WITHIN
            kind = _KINDS.index(which)
            page += conn.execute(look, {**asked, "kind": kind, "first": within.first, "last": within.last})
        listed = _select(conn, store, actor, page[:limit])
        _put_on_record(conn, actor, event_id, listed)
    return _opened(store, actor, listed)


def _whole_page(conn: Connection, store: Store, actor: Actor, query: TextClause, asked: Mapping[str, object]) -> tuple[Listed, bool]:
    """A page, and whether there are more: it asks for one beyond it. Where something of it was deleted before it was looked at more
    closely, what follows moves up: of a page with nothing in it no reader could go on."""
    while True:
        page = list(conn.execute(query, asked))
        has_more = len(page) == asked["limit"]
        page = page[:-1] if has_more else page
        listed = _select(conn, store, actor, page)
        if len(listed) == len(page):
            return listed, has_more


def _put_on_record(conn: Connection, actor: Actor, event_id: UUID, listed: Listed) -> None:
    uploaded = [file[1] for file in listed if not isinstance(file, ResultFile)]
    names = [row.name_sealed for row in uploaded] if actor.may_read else []
    objects = [file.job_id if isinstance(file, ResultFile) else file[1].file_id for file in listed]
    record_digest(conn, actor.tenant_id, event_id, names, objects=objects)


def _opened(store: Store, actor: Actor, listed: Listed) -> list[FileRecord | ResultFile]:
    with Opening(store, actor) as opening:
        return [
            file if isinstance(file, ResultFile) else open_file_record(opening, *file) if actor.may_read else file_record(file[1], None)
            for file in listed
        ]


def _select(conn: Connection, store: Store, actor: Actor, page: Sequence[Row[Any]]) -> Listed:
    """In the order of ``page``, without what was deleted since; what was uploaded is not opened yet."""
    of_files = [row.id for row in page if _KINDS[row.kind] is None]
    keys = store.keyring.openers(conn, actor.tenant_id, [("file", file_id) for file_id in of_files])  # first: what still has a name has one
    query = select(files).where(files.c.tenant_id == actor.tenant_id, files.c.file_id.in_(of_files), HAS_NAME)
    uploaded = {row.file_id: (keys["file", row.file_id], row) for row in conn.execute(query)}
    of_jobs = [row.id for row in page if _KINDS[row.kind] is not None]
    jobs = {row.job_id: row for row in conn.execute(_JOBS, {"tenant": actor.tenant_id, "jobs": of_jobs})}
    listed: Listed = []
    for row in page:
        which = _KINDS[row.kind]
        if which is None and row.id in uploaded:
            listed.append(uploaded[row.id])
        elif which is not None and row.id in jobs:
            listed.append(result_file(jobs[row.id], which))
    return listed


def result_file(job: Any, which: Which) -> ResultFile:
    """Of a job's row or record; while it runs, of the rows done so far."""
    ended_early = job.state in ("cancelled", "expired")
    failures = job.row_count - job.completed_count if ended_early else job.failed_count
    complete = ended_early or job.state in ("completed", "failed")
    row_count = job.completed_count if which == "output" else failures
    return ResultFile(job.job_id, which, job.created_at, row_count, job.retry_count, complete, job.results_expire_at)
