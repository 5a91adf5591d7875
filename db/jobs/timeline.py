"""A job's story: what became of its shards, who ran them, and why one failed. Counts and codes; it opens nothing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text

from db.actors import Actor
from db.audit.acts import record_act
from db.connect import Store
from db.jobs.jobs import no_such_job

TOLD: Final = 20
NAMED: Final = 20  # workers

_JOB: Final = text("SELECT FROM jobs WHERE tenant_id = :tenant AND job_id = :job AND deleted_at IS NULL")
_TOTALS: Final = text(
    """
    SELECT state, count(*) AS shards, sum(completed_count + failed_count) AS rows, sum(crash_attempts) AS crashes,
           sum(error_attempts) AS errors
    FROM shards WHERE tenant_id = :tenant AND job_id = :job GROUP BY state ORDER BY state
    """
)
_WORKERS: Final = text(
    """
    SELECT last_worker AS worker, count(*) AS shards, sum(completed_count + failed_count) AS rows
    FROM shards WHERE tenant_id = :tenant AND job_id = :job AND last_worker IS NOT NULL
    GROUP BY last_worker ORDER BY rows DESC, worker LIMIT :limit
    """
)
# What went wrong first, then what is in work, then what waits; told in the order of the file.
_SHARDS: Final = text(
    """
    SELECT first_idx, end_idx, state, epoch, crash_attempts, error_attempts, last_error, last_worker, completed_count, failed_count,
           progressed_at, lease_expires_at, not_before
    FROM (SELECT * FROM shards
          WHERE tenant_id = :tenant AND job_id = :job
            AND (state <> 'done' OR crash_attempts > 0 OR error_attempts > 0 OR last_error IS NOT NULL)
          ORDER BY crash_attempts + error_attempts DESC, state = 'leased' DESC, state = 'done', first_idx LIMIT :limit) AS told
    ORDER BY first_idx
    """
)


@dataclass(frozen=True, slots=True)
class ShardStory:
    """``epoch``: one more at each claim. ``last_worker``: host:pid:start of who holds it, or held it last. ``last_error``: a failure's
    code."""

    first_idx: int
    end_idx: int
    state: str
    epoch: int
    crash_attempts: int
    error_attempts: int
    last_error: str | None
    last_worker: str | None
    completed_count: int
    failed_count: int
    progressed_at: datetime | None
    lease_expires_at: datetime | None
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class StateTotal:
    """Of the shards in one state; ``crashes`` and ``errors`` are attempts that ended so."""

    state: str
    shards: int
    rows: int
    crashes: int
    errors: int


@dataclass(frozen=True, slots=True)
class WorkerTotal:
    """Of the shards that a worker was the last to hold. A shard that changed hands counts for its last holder, with all its rows."""

    worker: str
    shards: int
    rows: int


@dataclass(frozen=True, slots=True)
class JobStory:
    """``shards``: the ones worth telling of, not done or with a failed attempt, at most twenty; the totals are of all."""

    shards: list[ShardStory]
    totals: list[StateTotal]
    workers: list[WorkerTotal]


def job_story(store: Store, actor: Actor, job_id: UUID) -> JobStory:
    """Raises NotFound for a missing or foreign job. A job that is still to be cut has no shards."""
    key = {"tenant": actor.tenant_id, "job": job_id}
    with store.transaction(tenant=actor.tenant_id) as conn:
        record_act(conn, store, actor, "job.read", object_kind="job", object_id=job_id, job_id=job_id)
        found = conn.execute(_JOB, key).one_or_none() is not None
        story = JobStory(
            [ShardStory(**row._mapping) for row in conn.execute(_SHARDS, {**key, "limit": TOLD})],
            [StateTotal(row.state, row.shards, int(row.rows), int(row.crashes), int(row.errors)) for row in conn.execute(_TOTALS, key)],
            [WorkerTotal(row.worker, row.shards, int(row.rows)) for row in conn.execute(_WORKERS, {**key, "limit": NAMED})],
        )
    if not found:
        raise no_such_job(store, actor, "job.read", job_id)
    return story
