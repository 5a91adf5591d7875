"""How the work goes, over all tenants: counts for the metrics and for `textmill doctor`. Role dispatcher; ids, counts and times only.

:func:`measure` is cheap and asked every few seconds. The others look for what should not be, and are asked by a person.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text

from db.connect import Store
from db.lifecycle import INTERACTIVE_PRIORITY
from db.operators.fleet import SILENT_SECONDS
from db.queue.dispatch import REDISPATCH_SECONDS

STUCK_SECONDS: Final = 600.0  # without a row stored, though shards are ready
ENDING_SECONDS: Final = 120.0  # for what takes the dispatcher a moment
LISTED: Final = 5
CLASSES: Final = ("interactive", "bulk")  # of jobs: somebody waits for it, or not
DAMAGE_DAYS: Final = 7  # for so long a value that did not open is told of

_PAUSED: Final = "(j.paused_at IS NOT NULL AND j.state IN ('validating', 'in_progress'))"  # of one that ends, a pause says nothing more
_LIVE: Final = "('validating', 'in_progress', 'finalizing', 'cancelling')"
# A shard is ready since its job (or the job's retry) began, its backoff ended, or rows of it were stored last, whichever is the latest.
_MEASURE: Final = text(
    f"""
    WITH live AS (
        SELECT j.tenant_id, s.state = 'leased' AS leased, s.lease_expires_at, s.dispatched_at, {_PAUSED} AS paused,
               j.priority, s.end_idx - s.first_idx - s.completed_count - s.failed_count AS open_rows,
               s.state = 'ready' AND j.state = 'in_progress' AND j.paused_at IS NULL AND (s.not_before IS NULL OR s.not_before <= now())
                   AS due,
               greatest(j.in_progress_at, j.deadline - make_interval(secs => j.completion_window_seconds), s.not_before, s.progressed_at)
                   AS since
        FROM jobs j JOIN shards s ON s.tenant_id = j.tenant_id AND s.job_id = j.job_id
        WHERE j.state IN {_LIVE} AND s.state IN ('ready', 'leased')
    )
    SELECT count(*) FILTER (WHERE NOT leased AND NOT paused) AS ready, count(*) FILTER (WHERE leased) AS leased,
           count(*) FILTER (WHERE NOT leased AND paused) AS paused,
           count(*) FILTER (WHERE leased AND lease_expires_at <= now()) AS expired_leases,
           count(*) FILTER (WHERE leased AND lease_expires_at <= now() - make_interval(secs => :redispatch)) AS abandoned_leases,
           count(*) FILTER (WHERE due AND (dispatched_at IS NULL OR dispatched_at <= now() - make_interval(secs => :redispatch)))
               AS not_offered,
           CAST(coalesce(extract(epoch FROM max(now() - since) FILTER (WHERE due)), 0) AS float8) AS oldest_ready_seconds,
           (SELECT jsonb_object_agg(class, jsonb_build_array(open_rows, oldest))
            FROM (SELECT CASE WHEN priority >= {INTERACTIVE_PRIORITY} THEN 'interactive' ELSE 'bulk' END AS class,
                         sum(open_rows) AS open_rows, max(oldest) AS oldest
                  FROM (SELECT priority, open_rows, CASE WHEN due THEN extract(epoch FROM now() - since) END AS oldest
                        FROM live WHERE NOT paused
                        UNION ALL
                        SELECT priority, row_count, NULL FROM jobs WHERE state = 'validating' AND paused_at IS NULL) AS waiting
                  GROUP BY 1) AS of_class) AS backlog,
           count(DISTINCT tenant_id) FILTER (WHERE NOT paused) AS tenants,
           (SELECT CAST(coalesce(max(open_rows), 0) AS bigint)
            FROM (SELECT sum(open_rows) AS open_rows FROM live WHERE NOT paused GROUP BY tenant_id) AS of_tenant) AS largest_tenant_rows,
           (SELECT jsonb_object_agg(state, jobs)
            FROM (SELECT CASE WHEN {_PAUSED} THEN 'paused' ELSE state END AS state, count(*) AS jobs
                  FROM jobs j WHERE state IN {_LIVE} GROUP BY 1) AS in_state) AS jobs,
           (SELECT jsonb_object_agg(state, workers)
            FROM (SELECT CASE WHEN seen_at < now() - make_interval(secs => :silent) THEN 'silent' ELSE state END AS state,
                         count(*) AS workers
                  FROM workers GROUP BY 1) AS in_state) AS workers
    FROM live
    """  # noqa: S608 - constants
)
# What is paused, or waits behind another job of its tenant, is not stuck.
_STUCK: Final = text(
    """
    SELECT job_id, state, CAST(extract(epoch FROM now() - since) AS float8) AS seconds
    FROM (SELECT j.job_id, j.state,
                 CASE j.state WHEN 'validating' THEN j.created_at WHEN 'finalizing' THEN j.finalizing_at
                              WHEN 'cancelling' THEN j.cancelling_at
                              ELSE greatest(j.in_progress_at, j.deadline - make_interval(secs => j.completion_window_seconds),
                                            (SELECT max(s.progressed_at) FROM shards s
                                             WHERE s.tenant_id = j.tenant_id AND s.job_id = j.job_id)) END AS since
          FROM jobs j
          WHERE j.state IN ('finalizing', 'cancelling') OR (j.state = 'validating' AND j.paused_at IS NULL)
             OR (j.state = 'in_progress' AND j.paused_at IS NULL
                 AND EXISTS (SELECT FROM shards s WHERE s.tenant_id = j.tenant_id AND s.job_id = j.job_id AND s.state = 'ready'
                             AND (s.not_before IS NULL OR s.not_before <= now()))
                 AND NOT EXISTS (SELECT FROM shards o WHERE o.tenant_id = j.tenant_id AND o.job_id <> j.job_id AND o.state = 'leased'
                                 AND o.lease_expires_at > now()))) AS live
    WHERE since < now() - make_interval(secs => CASE state WHEN 'in_progress' THEN :stuck ELSE :ending END)
    ORDER BY since LIMIT :limit
    """
)
_MISCOUNTED: Final = text(
    """
    SELECT job_id, row_count - completed_count - failed_count AS missing FROM jobs
    WHERE (state = 'completed' OR (state = 'failed' AND failed_count > 0)) AND row_count <> completed_count + failed_count
    ORDER BY coalesce(completed_at, failed_at) DESC LIMIT :limit
    """
)
_LEFT_OVER: Final = text(
    """
    SELECT count(*) FROM shards s JOIN jobs j ON j.tenant_id = s.tenant_id AND j.job_id = s.job_id
    WHERE s.state IN ('ready', 'leased') AND j.state IN ('completed', 'failed', 'cancelled', 'expired') AND j.deleted_at IS NULL
    """
)
_READY_OF: Final = text(
    """
    SELECT count(*) FROM unnest(CAST(:shards AS uuid[]), CAST(:epochs AS integer[])) AS message (shard_id, epoch)
    JOIN shards s ON s.shard_id = message.shard_id AND s.epoch = message.epoch
    WHERE s.state = 'ready'
    """
)
_DAMAGED: Final = text(
    """
    SELECT object_kind, object_id, max(at) AS last FROM audit_events
    WHERE action = 'value.damaged' AND at > now() - make_interval(days => :days) GROUP BY object_kind, object_id ORDER BY last DESC
    """
)
_DURABILITY: Final = text("SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')")


@dataclass(frozen=True, slots=True)
class Health:
    """Of live jobs. ``paused``: ready shards of paused ones. ``expired_leases``: run out, and not taken by anybody yet;
    ``abandoned_leases``: for longer than the redispatch time. ``not_offered``: ready shards without a message, or whose message nobody
    acted on. ``jobs``, ``workers``: how many in each state. ``backlog``: of what is not paused, for each of CLASSES. ``tenants``: of how
    many that is, as far as it is cut into shards; ``largest_tenant_rows``: of the one with the most."""

    ready: int
    leased: int
    paused: int
    expired_leases: int
    oldest_ready_seconds: float
    abandoned_leases: int
    not_offered: int
    jobs: dict[str, int]
    workers: dict[str, int]
    backlog: dict[str, "Backlog"]
    tenants: int = 0
    largest_tenant_rows: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows without an outcome, and how long the oldest shard that could run has been waiting."""

    rows: int = 0
    oldest_ready_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Stuck:
    """A job that did not get on for ``seconds``."""

    job_id: UUID
    state: str
    seconds: float


def measure(store: Store) -> Health:
    """One statement."""
    with store.transaction() as conn:
        row = conn.execute(_MEASURE, {"silent": SILENT_SECONDS, "redispatch": REDISPATCH_SECONDS}).one()
    backlog = {name: Backlog(int(rows), float(oldest or 0.0)) for name, (rows, oldest) in (row.backlog or {}).items()}
    counted = {"jobs": row.jobs or {}, "workers": row.workers or {}, "backlog": dict.fromkeys(CLASSES, Backlog()) | backlog}
    return Health(**{**row._mapping, **counted})


def stuck_jobs(store: Store) -> list[Stuck]:
    """The ones that have stood still longest."""
    with store.transaction() as conn:
        found = conn.execute(_STUCK, {"stuck": STUCK_SECONDS, "ending": ENDING_SECONDS, "limit": LISTED})
        return [Stuck(row.job_id, row.state, row.seconds) for row in found]


def miscounted_jobs(store: Store) -> dict[UUID, int]:
    """Completed jobs whose rows do not all have an outcome, and how many have none (or, below 0, too many)."""
    with store.transaction() as conn:
        return {row.job_id: row.missing for row in conn.execute(_MISCOUNTED, {"limit": LISTED})}


def left_over_shards(store: Store) -> int:
    """Live shards of jobs that have ended."""
    with store.transaction() as conn:
        return int(conn.execute(_LEFT_OVER).scalar_one())


def ready_of(store: Store, messages: Sequence[tuple[UUID, int]]) -> int:
    """How many of these claim checks name a ready shard at its epoch."""
    with store.transaction() as conn:
        asked = {"shards": [shard for shard, _ in messages], "epochs": [epoch for _, epoch in messages]}
        return int(conn.execute(_READY_OF, asked).scalar_one())


def damaged_objects(store: Store) -> list[tuple[str, UUID]]:
    """Files, jobs and what else has had a value that did not open when somebody read it lately, by kind and id; the last one first."""
    with store.transaction() as conn:
        return [(row.object_kind, row.object_id) for row in conn.execute(_DAMAGED, {"days": DAMAGE_DAYS})]


def durability(store: Store) -> dict[str, str]:
    """The server's settings without which a crash loses what was acknowledged."""
    with store.transaction() as conn:
        fsync, full_page_writes, synchronous_commit = conn.execute(_DURABILITY).one()
    return {"fsync": fsync, "full_page_writes": full_page_writes, "synchronous_commit": synchronous_commit}
