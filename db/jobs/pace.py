"""How fast a running job gets on, once that is known: from its first stored rows on, for what was before them was a model that loaded.

Rows come in bursts, of several shards at once, so that it is counted from the beginning of one to that of another. What is told is within
1.5 times of what is true where the rows are alike.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from db.jobs.clear_json import checked

SHARDS: Final = 100  # on either side of a job's first open row
WRITES: Final = 64  # the first of a job; with so many it hardly matters how many rows the very first brought
LEAST_WRITES: Final = 4  # before the last burst
LEAST_SPAN: Final = timedelta(seconds=3)
BURST: Final = timedelta(seconds=0.5)

_FIRST_WRITES: Final = text(
    """
    SELECT at FROM audit_events WHERE tenant_id = :tenant AND job_id = :job AND action = 'results.write' ORDER BY at LIMIT :limit
    """
)

# Around the first open row lie those that were done last and those in work, however many the job has: an index finds them.
_SUMS: Final = text(
    """
    WITH near AS MATERIALIZED (
        (SELECT input_tokens, metrics FROM shards WHERE tenant_id = :tenant AND job_id = :job AND first_idx < :at
         ORDER BY first_idx DESC LIMIT :limit)
        UNION ALL
        (SELECT input_tokens, metrics FROM shards WHERE tenant_id = :tenant AND job_id = :job AND first_idx >= :at
         ORDER BY first_idx LIMIT :limit)
    )
    SELECT 'prompt_tokens' AS name, sum(input_tokens) AS total FROM near
    UNION ALL
    SELECT m.key, sum(m.value::numeric)
    FROM near, jsonb_each(CASE WHEN jsonb_typeof(metrics) = 'object' THEN metrics END) m
    WHERE jsonb_typeof(m.value) = 'number' GROUP BY m.key
    """
)


def sums_lately(conn: Connection, tenant_id: UUID, job_id: UUID, rows_in_order: int) -> dict[str, float] | None:
    """What the shards around the job's first open row have counted, with their ``prompt_tokens``."""
    found = conn.execute(_SUMS, {"tenant": tenant_id, "job": job_id, "at": rows_in_order, "limit": SHARDS})
    sums: dict[str, float] | None = checked("metrics", {row.name: float(row.total or 0.0) for row in found})[0]
    return sums


def first_writes(conn: Connection, tenant_id: UUID, job_id: UUID) -> list[datetime]:
    """When the job's first rows were stored, at most WRITES times."""
    return list(conn.execute(_FIRST_WRITES, {"tenant": tenant_id, "job": job_id, "limit": WRITES}).scalars())


def rows_per_second(done: int, writes: Sequence[datetime], now: datetime) -> float | None:
    """``done``: rows stored so far; ``writes``: the first of their times, in order. None while that tells too little. Pure."""
    if not writes:
        return None
    first, last = writes[0], writes[-1]
    if len(writes) == WRITES:
        return done / (now - first).total_seconds() if now - first >= LEAST_SPAN else None
    burst = next(at for at in writes if at >= last - BURST)
    before = sum(at < burst for at in writes)
    if before < LEAST_WRITES or burst - first < LEAST_SPAN:
        return None
    overdue = now - last > burst - first
    return done * before / len(writes) / ((now if overdue else burst) - first).total_seconds()
