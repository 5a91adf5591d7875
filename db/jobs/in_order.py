"""How far the results of a running job go without a gap. Shards end in any order, so that a row may be stored before one that stands
ahead of it. It is asked of a view of where results are, which is no access to them, and so needs no event."""

from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

# Shards that are done are full; of the others, in order, the first that is not: a result is where it would be if none before it were
# missing. One statement, for a shard may be halved at any moment.
_IN_ORDER: Final = text(
    """
    SELECT coalesce(
        (SELECT s.first_idx + own.rows
         FROM (SELECT first_idx, end_idx FROM shards WHERE tenant_id = :tenant AND job_id = :job AND state <> 'done'
               ORDER BY first_idx OFFSET 0) AS s
         CROSS JOIN LATERAL (
             SELECT count(*) FILTER (WHERE placed.idx = s.first_idx + placed.place) AS rows
             FROM (SELECT r.idx, row_number() OVER (ORDER BY r.idx) - 1 AS place FROM result_places r
                   WHERE r.tenant_id = :tenant AND r.job_id = :job AND r.idx >= s.first_idx AND r.idx < s.end_idx) AS placed) AS own
         WHERE own.rows < s.end_idx - s.first_idx
         ORDER BY s.first_idx LIMIT 1),
        (SELECT max(end_idx) FROM shards WHERE tenant_id = :tenant AND job_id = :job),
        0)
    """
)


def rows_in_order(conn: Connection, tenant_id: UUID, job_id: UUID) -> int:
    """How many of the job's first rows have their result, none left out; 0 before it is cut."""
    return int(conn.execute(_IN_ORDER, {"tenant": tenant_id, "job": job_id}).scalar_one())
