"""Whose turn it is: the order in which ready shards are offered to workers and claimed by them.

Tenants take turns, weighted by cost: deficit round robin (Shreedhar and Varghese, 1995) with a full-sized shard as the quantum. A tenant's
turn is the cost of what it has in work or in the queue already and of what goes before, so one with a million rows and one with ten meet at
the same place, and one with large shards does not get more of the device than one with small ones. A tenant is a **newcomer** while nothing
of it is in work.

A tenant's own jobs go by priority and then by ``turn_at``: see :mod:`db.jobs.turn`.

Only the head of each tenant's queue is read, by index: its jobs in their order, and of each the first ready shards: of those that were
never put off, of those whose time has come, and of suspects (``crash_attempts`` of at least MAX_CRASHES, written out, for an index hangs on
it). However long the queue is, and however much of it waits behind a pause or was put off, costs nothing.
"""

from typing import Final

from db.lifecycle import COMPANY_SECONDS

# A common table expression, to stand first in a statement. Parameters: depth (rows per tenant), redispatch (seconds for which a shard that
# was offered is left alone), idle (whether the worker holds nothing, so that it may take a suspect), only_newcomers, least_priority, and
# those of the dictionary below. What a shard `waits` for is over between two moments.
CANDIDATES: Final = """
    WITH busy AS (
        SELECT tenant_id, sum(cost) AS cost FROM (
            SELECT tenant_id, cost FROM shards WHERE state = 'leased'
            UNION ALL
            SELECT tenant_id, cost FROM shards WHERE state = 'ready' AND dispatched_at > now() - make_interval(secs => :redispatch)) AS held
        GROUP BY tenant_id
    ), candidates AS (
        SELECT head.tenant_id, head.shard_id, head.priority, head.turn_at,
               ceil(coalesce(busy.cost, 0) + sum(head.cost) OVER (
                   PARTITION BY head.tenant_id ORDER BY head.priority DESC, head.turn_at, head.job_id, head.first_idx)) AS turn
        FROM (SELECT DISTINCT tenant_id FROM jobs WHERE state = 'in_progress' AND paused_at IS NULL
              AND (NOT :only_newcomers OR tenant_id NOT IN (SELECT tenant_id FROM busy))) AS active
        CROSS JOIN LATERAL (
            SELECT j.tenant_id, first.shard_id, j.priority, j.turn_at, j.job_id, first.first_idx, first.cost FROM jobs j
            CROSS JOIN LATERAL (
                SELECT s.shard_id, s.first_idx, s.cost
                FROM (VALUES (false, CAST('-infinity' AS timestamptz), CAST('-infinity' AS timestamptz)),
                             (false, CAST('epoch' AS timestamptz), now()),
                             (true, CASE WHEN :idle THEN CAST('-infinity' AS timestamptz) ELSE CAST('epoch' AS timestamptz) END,
                                    CASE WHEN :idle THEN now() ELSE now() - make_interval(secs => :company) END)
                     ) AS waits (suspect, since, until)
                CROSS JOIN LATERAL (
                    SELECT shard_id, first_idx, cost FROM shards
                    WHERE tenant_id = j.tenant_id AND job_id = j.job_id AND state = 'ready'
                      AND (crash_attempts >= 2) = waits.suspect AND coalesce(not_before, '-infinity') BETWEEN waits.since AND waits.until
                      AND (dispatched_at IS NULL OR dispatched_at <= now() - make_interval(secs => :redispatch))
                      AND (deadline IS NULL OR deadline > now())
                    ORDER BY coalesce(not_before, '-infinity'), first_idx LIMIT :depth) AS s
                ORDER BY s.first_idx LIMIT :depth) AS first
            WHERE j.tenant_id = active.tenant_id AND j.state = 'in_progress' AND j.paused_at IS NULL
              AND j.priority >= :least_priority AND (j.deadline IS NULL OR j.deadline > now())
            ORDER BY j.priority DESC, j.turn_at, j.job_id, first.first_idx LIMIT :depth) AS head
        LEFT JOIN busy ON busy.tenant_id = active.tenant_id
    )
"""
ANY_PRIORITY: Final = -(2**15)  # the least smallint
SUSPECTS: Final = {"company": COMPANY_SECONDS}
