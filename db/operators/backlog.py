"""What stands before a job and how fast such work went lately, as the API is shown it: over all tenants, of others only sums.

Read once for several requests: it costs a look at every job that is not done, so it is believed for as long as keeps these looks at a
twentieth of a thread.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from cachetools import LRUCache
from sqlalchemy import Row, text

from db.connect import Store
from db.jobs.forecast import Measured, Size, forecast
from db.operators.fleet import ready_workers
from db.operators.speeds import LEAST_SECONDS

Kind = tuple[str, str | None]  # task and model

SHARE: Final = 20  # a look is believed for so many times what it took
MOST_SECONDS: Final = 5.0
POLLED_SECONDS: Final = 1.0  # and for so long by who asks again and again
KEPT_TENANTS: Final = 1_000

_LIVE: Final = text(
    "SELECT own, tenant, job_id, task, model, priority, turn_at, deadline, worker_seconds, row_count, open_rows, size_chars FROM live_work"
)
_MEASURED: Final = text(
    "SELECT task, model, worker_seconds, rows, chars, input_tokens, output_tokens, limit_tokens, shard_seconds FROM measured_work"
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that is not done. ``job_id``, ``turn_at`` and ``deadline``: of the tenant's own alone; ``turn_at`` once it is cut.
    ``rows``, with ``chars``, are those that are open; ``worker_seconds``: that they take, None where nothing like it was measured."""

    tenant: int
    job_id: UUID | None
    kind: Kind
    priority: int
    turn_at: float | None
    deadline: float | None
    worker_seconds: float | None
    rows: int = 0
    chars: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """``own``: the number of the tenant in ``waiting``, 0 where it has nothing there. ``workers``: of each that runs, the models that
    it could run; None: it did not say.
    ``drained``: there are workers, and none of them runs."""

    own: int
    waiting: Sequence[Waiting]
    measured: Mapping[Kind, Measured]
    workers: Sequence[frozenset[str] | None]
    drained: bool = False

    @property
    def shard_speeds(self) -> dict[Kind, float]:
        """Characters a second of one shard, others in flight beside it, by task and model."""
        return {kind: each.chars / each.shard_seconds for kind, each in self.measured.items() if each.shard_seconds >= LEAST_SECONDS}


class Backlogs:
    """Thread-safe. ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: LRUCache[UUID, tuple[Backlog, float, float]] = LRUCache(KEPT_TENANTS)

    def of(self, store: Store, tenant_id: UUID, *, polled: bool = False) -> Backlog:
        """``polled``: by who asks again and again, and need not know of what came in the last second."""
        asked_at = self._clock()
        with self._lock:
            kept = self._kept.get(tenant_id)
        if kept is not None:
            found, read_at, took = kept
            if asked_at - read_at < max(min(SHARE * took, MOST_SECONDS), POLLED_SECONDS if polled else 0.0):
                return found
        found = read_backlog(store, tenant_id)
        with self._lock:
            self._kept[tenant_id] = (found, self._clock(), self._clock() - asked_at)
        return found

    def note(self, tenant_id: UUID, made: Waiting) -> None:
        """A job that was made just now: whoever hands in many knows of the first at the second, however long a look is believed."""
        with self._lock:
            if (kept := self._kept.get(tenant_id)) is not None:
                found, read_at, took = kept
                own = replace(made, tenant=found.own)
                self._kept[tenant_id] = (replace(found, waiting=(*found.waiting, own)), read_at, took)


def read_backlog(store: Store, tenant_id: UUID) -> Backlog:
    """Role api."""
    workers = ready_workers(store)
    with store.transaction(tenant=tenant_id) as conn:
        told = ((row.task, row.model, tuple(map(float, row[2:]))) for row in conn.execute(_MEASURED))
        measured = {(task, model): Measured(*sums) for task, model, sums in told if all(map(math.isfinite, sums))}
        live = list(conn.execute(_LIVE))
    running = [None if said.models is None else frozenset(said.models) for state, said in workers if state == "running"]
    return Backlog(
        own=next((row.tenant for row in live if row.own), 0),
        waiting=tuple(_waiting(row, measured) for row in live),
        measured=measured,
        workers=running,
        drained=bool(workers) and not running,
    )


def _waiting(row: Row[Any], measured: Mapping[Kind, Measured]) -> Waiting:
    """One that was made before anything like it was measured: as is known by now."""
    kind, share = (row.task, row.model), row.open_rows / row.row_count if row.row_count else 0.0
    whole = row.worker_seconds
    if whole is None or not 0 <= whole < math.inf:  # nobody wrote such a number here
        guessed = forecast(measured.get(kind), Size(row.row_count, row.size_chars, None))
        whole = None if guessed is None else guessed.worker_seconds
    left = None if whole is None else whole * share
    about = (row.tenant, row.job_id, kind, row.priority, _seconds(row.turn_at), _seconds(row.deadline))
    return Waiting(*about, left, row.open_rows, round(row.size_chars * share))


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
