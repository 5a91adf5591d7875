"""How much there is to do: counts of the live jobs' shards, asked as the dispatcher, who sees no content."""

import time
from dataclasses import dataclass
from typing import Final

import psycopg
from sqlalchemy import URL

from db.connect import set_in_session
from db.server.session import dsn

STATEMENT_TIMEOUT_MS: Final = 1_000

_COUNTS: Final = """
    SELECT count(DISTINCT j.job_id),
           count(*) FILTER (WHERE s.state = 'ready'),
           count(*) FILTER (WHERE s.state = 'leased'),
           coalesce(sum(s.completed_count + s.failed_count), 0)
    FROM jobs j JOIN shards s ON s.tenant_id = j.tenant_id AND s.job_id = j.job_id
    WHERE j.state IN ('validating', 'in_progress', 'finalizing', 'cancelling')
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of all tenants' live jobs. ``rows_per_second`` is over the time since the last look."""

    jobs: int
    ready: int
    leased: int
    rows_done: int
    rows_per_second: float


class QueueGauge:
    """One connection, made when it is needed; an unreachable database gives None."""

    def __init__(self, url: URL) -> None:
        self._dsn = dsn(url)
        self._connection: psycopg.Connection[tuple[int, int, int, int]] | None = None
        self._last: tuple[float, int] | None = None

    def read(self) -> Counts | None:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._dsn, autocommit=True, connect_timeout=2)
                set_in_session(self._connection, {"statement_timeout": f"{STATEMENT_TIMEOUT_MS}"})
            row = self._connection.execute(_COUNTS).fetchone()
        except psycopg.Error:
            self.close()
            return None
        assert row is not None
        jobs, ready, leased, done = (int(value) for value in row)
        now = time.monotonic()
        # A job that ends takes its rows out of the sum: that is no work undone.
        rate = max(0.0, (done - self._last[1]) / (now - self._last[0])) if self._last and now > self._last[0] else 0.0
        self._last = (now, done)
        return Counts(jobs, ready, leased, done, rate)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
