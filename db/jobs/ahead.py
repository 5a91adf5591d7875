"""A job's place among its tenant's own: what of them goes before it, and how fast that went. Never another tenant's."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text

from db.actors import Actor
from db.connect import Store
from db.jobs.shard_counts import count_shards

EARLY_SECONDS: Final = 10.0  # a job that began since tells nothing of its speed yet

# In the order of db.queue.turns.
_BEFORE: Final = text(
    """
    SELECT j.job_id, j.retry_count FROM jobs mine
    JOIN jobs j ON j.tenant_id = mine.tenant_id AND j.job_id <> mine.job_id AND j.state IN ('validating', 'in_progress')
         AND j.paused_at IS NULL AND (-j.priority, j.turn_at, j.job_id) < (-mine.priority, mine.turn_at, mine.job_id)
    WHERE mine.tenant_id = :tenant AND mine.job_id = :job
    """
)
# A rate is that of the jobs that have begun, together; or that of the last one of its kind.
_AHEAD: Final = text(
    """
    WITH before AS (
        SELECT j.task, j.model, j.row_count - done.rows AS rows_left,
               CASE WHEN j.in_progress_at < clock_timestamp() - make_interval(secs => :early) AND done.rows > 0 THEN
                   done.rows / CAST(extract(epoch FROM clock_timestamp() - j.in_progress_at) AS float8) END AS speed
        FROM unnest(CAST(:jobs AS uuid[]), CAST(:rows AS bigint[])) AS done (job_id, rows)
        JOIN jobs j ON j.tenant_id = :tenant AND j.job_id = done.job_id
    ), kinds AS (
        SELECT task, model, count(*) AS jobs, sum(rows_left) AS rows_left, nullif(sum(speed), 0) AS speed FROM before GROUP BY task, model
    )
    SELECT k.jobs, CAST(k.rows_left AS float8) / coalesce(k.speed, last.speed) AS seconds
    FROM kinds k LEFT JOIN LATERAL (
        SELECT j.row_count / nullif(CAST(extract(epoch FROM j.completed_at - j.in_progress_at) AS float8), 0) AS speed FROM jobs j
        WHERE j.tenant_id = :tenant AND j.task = k.task AND j.model IS NOT DISTINCT FROM k.model AND j.state = 'completed'
        ORDER BY j.created_at DESC LIMIT 1) AS last ON true
    """
)
# Where nothing failed, what runs the model was away: see db.lifecycle.after_away.
_AWAY: Final = text(
    """
    SELECT CAST(extract(epoch FROM min(not_before) - clock_timestamp()) AS float8) AS seconds FROM shards
    WHERE tenant_id = :tenant AND job_id = :job AND state = 'ready'
    HAVING bool_and(coalesce(not_before > clock_timestamp(), false) AND last_error IS NULL)
    """
)


@dataclass(frozen=True, slots=True)
class Ahead:
    """Jobs of the same tenant that go first, and how long their rows will take; ``seconds`` None where nothing like them ran yet.
    ``away_seconds``: what runs the job's model is away, and is asked again then."""

    jobs: int
    seconds: float | None
    away_seconds: float | None = None


def jobs_ahead(store: Store, actor: Actor, job_id: UUID) -> Ahead:
    with store.transaction(tenant=actor.tenant_id) as conn:
        before = {row.job_id: row.retry_count for row in conn.execute(_BEFORE, {"tenant": actor.tenant_id, "job": job_id})}
        if not before:
            return Ahead(0, None, conn.execute(_AWAY, {"tenant": actor.tenant_id, "job": job_id}).scalar_one_or_none())
        counts = count_shards(conn, actor.tenant_id, before)
        rows = [sum(part.completed + part.failed for part in counts[each].values()) for each in before]
        kinds = list(conn.execute(_AHEAD, {"tenant": actor.tenant_id, "jobs": list(before), "rows": rows, "early": EARLY_SECONDS}))
    seconds = [kind.seconds for kind in kinds]
    return Ahead(sum(kind.jobs for kind in kinds), None if not seconds or None in seconds else sum(seconds))
