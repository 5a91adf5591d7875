"""Chains: jobs over one file, in order, of which each reads what those before it made of its rows. The last is the batch that their owner
holds; what is asked of it is asked of all."""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, func, or_, select, text

from db.actors import Actor
from db.errors import Conflict, NotFound
from db.lifecycle import LIVE_JOBS
from db.schema import jobs

MAX_STEPS: Final = 8
NO_JOB: Final = "There is no batch with this id."
IS_THERE: Final = jobs.c.deleted_at.is_(None)  # of a job: not one that is being erased
RESULTS_EXPIRED: Final = func.coalesce(jobs.c.results_expire_at <= func.now(), False)
IS_INNER_STEP: Final = func.coalesce(jobs.c.chain_id != jobs.c.job_id, False)  # of a chain, which is told of with its last step
_READERS: Final = text(
    """
    SELECT EXISTS (SELECT FROM job_sources s JOIN jobs j ON j.tenant_id = s.tenant_id AND j.job_id = s.job_id
                   WHERE s.tenant_id = :tenant AND s.source_job_id = ANY(CAST(:jobs AS uuid[])) AND s.job_id <> ALL(CAST(:jobs AS uuid[]))
                     AND j.state = ANY(CAST(:live AS text[])) AND j.deleted_at IS NULL)
    """
)


def lock_chain(conn: Connection, actor: Actor, job_id: UUID) -> list[Row[Any]]:
    """The rows of ``jobs`` of the chain whose last step this is, in order, with ``results_expired``; of a job that stands alone, its own.
    Raises NotFound, or Conflict (``part_of_chain``) where it is another step. FOR NO KEY UPDATE: the reconciler, which has locked a shard
    that it halves, needs the job to be there for the new half, and the caller needs that shard. Each would wait for the other."""
    locked = conn.execute(
        select(jobs, RESULTS_EXPIRED.label("results_expired"))
        .where(jobs.c.tenant_id == actor.tenant_id, or_(jobs.c.job_id == job_id, jobs.c.chain_id == job_id), IS_THERE)
        .order_by(jobs.c.step)
        .with_for_update(key_share=True)
    ).all()
    if not locked or locked[-1].job_id != job_id:
        raise NotFound(NO_JOB)
    if locked[-1].chain_id not in {None, job_id}:
        whole = f"batch_{locked[-1].chain_id.hex}"
        raise Conflict(code="part_of_chain", message=f"This is a step of a chain: what you ask for is asked of the whole, {whole}.")
    return list(locked)


def steps_of(conn: Connection, tenant_id: UUID, job_id: UUID) -> list[UUID]:
    """The jobs of the chain whose last step this is, in order; of a job that stands alone, itself."""
    found = conn.execute(
        select(jobs.c.job_id).where(jobs.c.tenant_id == tenant_id, jobs.c.chain_id == job_id).order_by(jobs.c.step)
    ).scalars()
    return list(found) or [job_id]


def refuse_if_read(conn: Connection, tenant_id: UUID, job_ids: Sequence[UUID], states: Collection[str] = LIVE_JOBS) -> None:
    """Raises Conflict (``batch_in_use``) where a job in one of these states, that has not ended, reads the results of one of these, and is
    none of them."""
    asked = {"tenant": tenant_id, "jobs": list(job_ids), "live": sorted(states)}
    if conn.execute(_READERS, asked).scalar_one():
        raise Conflict(
            code="batch_in_use", message="Another batch, which has not ended, reads these results: cancel that one, or wait for its end."
        )
