"""What goes on meanwhile: rows done, rows open, and how long after each fault the next row was done."""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final
from uuid import UUID

from sqlalchemy import text

from db.connect import Store
from tests.faults.soak.patience import TROUBLES
from tests.faults.soak.plan import Kind

LOOK_SECONDS: Final = 0.25
LINE_SECONDS: Final = 10.0

_DONE: Final = text(
    """
    SELECT coalesce(sum(completed_count + failed_count), 0) AS done,
           coalesce(sum(end_idx - first_idx - completed_count - failed_count) FILTER (WHERE state IN ('ready', 'leased')), 0)
               + (SELECT coalesce(sum(row_count), 0) FROM jobs WHERE state = 'validating') AS open
    FROM shards
    """
)
_STATES: Final = text("SELECT job_id, state FROM jobs WHERE job_id = ANY(:jobs)")


@dataclass(frozen=True, slots=True)
class Look:
    done: int
    open: int


class Overview:
    """Counts over all tenants, and no word of it on record: as the dispatcher sees them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def look(self) -> Look:
        with self._store.transaction() as conn:
            row = conn.execute(_DONE).one()
        return Look(int(row.done), int(row.open))

    def states(self, job_ids: Sequence[UUID]) -> dict[UUID, str]:
        with self._store.transaction() as conn:
            return {row.job_id: row.state for row in conn.execute(_STATES, {"jobs": list(job_ids)})}


@dataclass(slots=True)
class Progress:
    """Looks in their order, and faults among them. Pure: whoever looks brings the clock."""

    looks: list[tuple[float, int]] = field(default_factory=list)  # (when, rows done)
    recoveries: dict[Kind, list[float]] = field(default_factory=dict)
    longest_stall: float = 0.0
    _last_progress: float | None = None
    _pending: list[tuple[Kind, float]] = field(default_factory=list)

    def broke(self, kind: Kind, at: float) -> None:
        """A fault was over at ``at``: what was killed is dead, what was away is back."""
        self._pending.append((kind, at))

    def saw(self, at: float, done: int) -> None:
        """``done`` falls where a job is deleted or failures run again only: rows that are lost are found when they are read."""
        before = self.looks[-1] if self.looks else None
        self.looks.append((at, done))
        if before is None or done <= before[1]:
            return
        if self._last_progress is not None:
            self.longest_stall = max(self.longest_stall, at - self._last_progress)
        self._last_progress = at
        # What was seen at ``at`` may have been done before a fault that was over since the look before: that one waits for the next.
        for kind, over in [pending for pending in self._pending if pending[1] <= before[0]]:
            self.recoveries.setdefault(kind, []).append(at - over)
        self._pending = [pending for pending in self._pending if pending[1] > before[0]]

    def rate(self, since: float, until: float) -> float:
        """Rows a second between two times. Those of jobs that were deleted were done as well."""
        within = [look for look in self.looks if since <= look[0] <= until]
        if len(within) < 2 or within[-1][0] == within[0][0]:
            return 0.0
        done = sum(max(0, after[1] - before[1]) for before, after in pairwise(within))
        return done / (within[-1][0] - within[0][0])


def median_and_max(seconds: Sequence[float]) -> tuple[float, float] | None:
    return (statistics.median(seconds), max(seconds)) if seconds else None


class Watch:
    """Looks several times a second, and says how it goes every ten."""

    def __init__(self, overview: Overview, say: Callable[[str], None]) -> None:
        self._overview = overview
        self._say = say
        self._lock = threading.Lock()
        self._given: list[str] = []
        self.progress = Progress()
        self.last = Look(0, 0)

    def broke(self, kind: Kind) -> None:
        with self._lock:
            self.progress.broke(kind, time.monotonic())

    def tell(self, what: str) -> None:
        """To stand in the next line."""
        with self._lock:
            self._given.append(what)

    def run(self, stop: threading.Event) -> None:
        began = next_line = time.monotonic()
        while not stop.wait(LOOK_SECONDS):
            try:
                look = self._overview.look()
            except TROUBLES:
                look = None
            now = time.monotonic()
            with self._lock:
                if look is not None:
                    self.last = look
                    self.progress.saw(now, look.done)
                if now < next_line:
                    continue
                given, self._given = self._given, []
                rate = self.progress.rate(now - LINE_SECONDS, now)
                done, left = self.last.done, self.last.open
            next_line = now + LINE_SECONDS
            told = f"; {'; '.join(given)}" if given else ""
            self._say(f"{now - began:6.0f} s  {done:>9,} rows done, {rate:>6,.0f} a second, {left:>7,} open{told}")
