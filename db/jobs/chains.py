"""Chains: jobs over one file, in order, of which each reads what those before it made of its rows. The last is the batch that their owner
holds; what is asked of it is asked of all."""

from typing import Final
from uuid import UUID

from sqlalchemy import Connection, select

from db.schema import jobs

MAX_STEPS: Final = 8


def steps_of(conn: Connection, tenant_id: UUID, job_id: UUID) -> list[UUID]:
    """The jobs of the chain whose last step this is, in order; of a job that stands alone, itself."""
    found = conn.execute(
        select(jobs.c.job_id).where(jobs.c.tenant_id == tenant_id, jobs.c.chain_id == job_id).order_by(jobs.c.step)
    ).scalars()
    return list(found) or [job_id]
