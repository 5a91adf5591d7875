"""What became of one row: of a chain step by step. Each step's result is read as any result is, on record."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text

from db.actors import Actor
from db.audit.acts import act, find_sealer
from db.audit.events import about_job
from db.connect import Store
from db.errors import NotFound
from db.jobs.erasing import Which
from db.jobs.jobs import JobRecord, get_job
from db.jobs.results import Place, ResultLine, iter_results

NO_ROW: Final = "There is no such row in the file of this batch."
_FIND: Final = text("SELECT idx FROM rows WHERE tenant_id = :tenant AND file_id = :file AND custom_id_hmac = :hmac ORDER BY idx LIMIT 1")
_SHARD: Final = text(
    """
    SELECT state, epoch, crash_attempts, error_attempts, last_error, last_worker, progressed_at FROM shards
    WHERE tenant_id = :tenant AND job_id = :job AND first_idx <= :idx AND end_idx > :idx
    """
)


@dataclass(frozen=True, slots=True)
class RowStep:
    """``result``: None while it is open, or behind an open row of a running job. ``claims``: how often the row's shard was claimed;
    ``worker``: who held it last; ``at``: when rows of it were last stored."""

    job: JobRecord
    result: ResultLine | None
    claims: int = 0
    crashes: int = 0
    errors: int = 0
    worker: str | None = None
    at: datetime | None = None


def find_row(store: Store, actor: Actor, job_id: UUID, custom_id: str) -> int:
    """The place of the row with this id, the first where several have it. Raises NotFound."""
    job = get_job(store, actor, job_id)
    own = find_sealer(store, actor, "file", job.file_id)
    with act(store, actor, "row.find", **about_job(job_id)) as (conn, _):
        hmac = own.hmac("rows.custom_id", custom_id.encode())
        found = conn.execute(_FIND, {"tenant": actor.tenant_id, "file": job.file_id, "hmac": hmac}).scalar_one_or_none()
        if found is None:
            raise NotFound(NO_ROW)
    return int(found)


def row_story(store: Store, actor: Actor, job_id: UUID, idx: int) -> list[RowStep]:
    """By step, in order; of a job that is no chain, its own. Raises NotFound where there is no such job or row."""
    job = get_job(store, actor, job_id)
    if not 0 <= idx < job.row_count:
        raise NotFound(NO_ROW)
    return [_step(store, actor, step, idx) for step in job.steps or (job,)]


def _step(store: Store, actor: Actor, job: JobRecord, idx: int) -> RowStep:
    parts: tuple[Which, Which] = ("output", "errors")
    readings = (
        iter_results(store, actor, job.job_id, which=which, page=1, after=Place(idx - 1, job.retry_count))
        for which in parts
        if job.has(which)
    )
    first = (next(reading, None) for reading in readings)
    result = next((line for line in first if line is not None and line.idx == idx), None)
    with act(store, actor, "job.read", **about_job(job.job_id)) as (conn, _):
        shard = conn.execute(_SHARD, {"tenant": actor.tenant_id, "job": job.job_id, "idx": idx}).one_or_none()
    if shard is None:
        return RowStep(job, result)
    return RowStep(job, result, shard.epoch, shard.crash_attempts, shard.error_attempts, shard.last_worker, shard.progressed_at)
