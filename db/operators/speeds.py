"""How fast jobs went lately: what the dispatcher sizes shards by. Role dispatcher; no content, only sums that shards left behind."""

from typing import Final

from sqlalchemy import text

from db.connect import Store

JOBS: Final = 100  # the newest ones: enough to outvote an odd one, few enough to follow a change of machines
DAYS: Final = 30
LEAST_SECONDS: Final = 2.0  # shorter sums say more about start-up than about speed

_SPEEDS: Final = text(
    """
    SELECT task, model, sum(chars) / sum(seconds) AS chars_per_second
    FROM (SELECT task, model, (metrics->>'chars')::float8 AS chars, (metrics->>'seconds')::float8 AS seconds
          FROM jobs WHERE state = 'completed' AND completed_at > now() - make_interval(days => :days)
          ORDER BY completed_at DESC LIMIT :jobs) AS recent
    WHERE chars > 0 AND seconds > 0
    GROUP BY task, model HAVING sum(seconds) >= :least
    """
)


def recent_speeds(store: Store) -> dict[tuple[str, str | None], float]:
    """Characters per second of one shard, others in flight beside it, by (task, model); of jobs that need no model by None."""
    with store.transaction() as conn:
        found = conn.execute(_SPEEDS, {"days": DAYS, "jobs": JOBS, "least": LEAST_SECONDS})
        return {(row.task, row.model): float(row.chars_per_second) for row in found}
