"""A job's place among its tenant's own of the same priority: the shortest first, aged.

``turn_at`` is the time at which the job would be done if it had the device to itself from now: a small job passes a large one, and none is
passed by smaller ones for longer than it itself takes. One whose deadline is so near that it must begin before that, goes by then.
"""

from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

SHARD_SECONDS: Final = 2.0  # of the device, for a full-sized shard; nothing but this order hangs on it

_TAKE: Final = text(
    """
    UPDATE jobs SET turn_at = least(now() + work.needed, deadline - work.needed)
    FROM (SELECT make_interval(secs => coalesce(sum(cost), 0) * :shard_seconds) AS needed FROM shards
          WHERE tenant_id = :tenant AND job_id = :job AND state = 'ready') AS work
    WHERE tenant_id = :tenant AND job_id = :job
    """
)


def take_turn(conn: Connection, tenant_id: UUID, job_id: UUID) -> None:
    """Once the job's shards are there, or some of them are offered again."""
    conn.execute(_TAKE, {"tenant": tenant_id, "job": job_id, "shard_seconds": SHARD_SECONDS})
