"""The worker processes there are: what each says of itself at every heartbeat, and what operators ask of it.

Clients are told a part of it: whether a worker is there at all, has their model, or loads it.

No tenant's data, and no work hangs on it: leases do. A row that is wrong or missing misleads a person, and nobody else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import text

from db.connect import Store
from db.process_names import host_of

SILENT_SECONDS: Final = 60.0  # twice the lease: by then it has lost its shards, or died without a word
FORGET_SECONDS: Final = 24 * 3600.0

WorkerState = Literal["running", "draining", "drained"]

# Nothing is lost with a heartbeat, so none is waited for on the disk.
_NO_WAIT: Final = text("SELECT set_config('synchronous_commit', 'off', true)")
# A new process takes the place of those that fell silent on its device.
_REPLACE: Final = text(
    """
    DELETE FROM workers
    WHERE worker = :worker
       OR (split_part(worker, ':', 1) = :host AND device = :device AND seen_at < now() - make_interval(secs => :silent))
    """
)
_REGISTER: Final = text(
    """
    INSERT INTO workers (worker, device, threads, version, asked) VALUES (:worker, :device, :threads, :version, :asked)
    ON CONFLICT DO NOTHING
    """
)
_BEAT: Final = text(
    """
    UPDATE workers SET state = :state, seen_at = clock_timestamp(),
        progressed_at = clock_timestamp() - make_interval(secs => :still), leases = :leases, rows_done = :rows, memory_bytes = :memory,
        models = :models, loaded = :loaded, loading = :loading, calibrating = :calibrating,
        loading_since = CASE WHEN CAST(:loading AS text) IS NOT NULL THEN clock_timestamp() - make_interval(secs => :loading_seconds) END
    WHERE worker = :worker RETURNING asked
    """
)
_FORGET: Final = text("DELETE FROM workers WHERE worker = :worker")
# One that has a successor is in nobody's way before it has been silent for long enough to be sure that it is dead.
_FORGET_SILENT: Final = text(
    """
    DELETE FROM workers w
    WHERE w.seen_at < now() - make_interval(secs => :seconds)
       OR (w.seen_at < now() - make_interval(secs => :silent)
           AND EXISTS (SELECT FROM workers n WHERE split_part(n.worker, ':', 1) = split_part(w.worker, ':', 1) AND n.device = w.device
                       AND n.worker <> w.worker AND n.started_at > w.seen_at))
    """
)
_ASK: Final = text("UPDATE workers SET asked = :asked WHERE worker = ANY(:workers) RETURNING worker")
_LIST: Final = text(
    """
    SELECT w.worker, w.device, w.threads, w.version, w.state, w.asked, w.started_at, w.seen_at, w.progressed_at, w.leases, w.rows_done,
           w.memory_bytes, coalesce(w.loaded, '{}') AS loaded, w.loading, w.calibrating,
           CAST(extract(epoch FROM now() - w.loading_since) AS float8) AS loading_seconds,
           CAST(extract(epoch FROM now() - w.seen_at) AS float8) AS silent_seconds,
           CAST(extract(epoch FROM now() - w.progressed_at) AS float8) AS still_seconds,
           (SELECT count(*) FROM shards s WHERE s.state = 'leased' AND s.worker = w.worker) AS held
    FROM workers w ORDER BY w.worker
    """
)


_READY: Final = text(
    """
    SELECT state, models, loaded, loading, CAST(extract(epoch FROM now() - loading_since) AS float8) AS loading_seconds, calibrating
    FROM workers WHERE seen_at >= now() - make_interval(secs => :silent)
    """
)


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a worker could run and what it has loaded (None: it did not say), the model that it loads, and for how long, and the one that
    it calibrates."""

    models: Sequence[str] | None = None
    loaded: Sequence[str] | None = None
    loading: str | None = None
    loading_seconds: float | None = None
    calibrating: str | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker says of itself. ``still_seconds``: since it last got on (a micro-batch, a write) or had nothing to do."""

    state: WorkerState
    still_seconds: float
    leases: int
    rows_done: int
    memory_bytes: int
    readiness: Readiness = Readiness()


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker as it last said, and by the database's clock how long ago. ``held``: shards leased to it, whatever it says itself."""

    worker: str
    device: str
    threads: int
    version: str
    state: str
    asked: str | None
    started_at: datetime
    seen_at: datetime
    progressed_at: datetime
    leases: int
    rows_done: int
    memory_bytes: int
    silent_seconds: float
    still_seconds: float
    held: int
    loaded: Sequence[str] = ()
    loading: str | None = None
    loading_seconds: float | None = None
    calibrating: str | None = None

    @property
    def host(self) -> str:
        return host_of(self.worker)

    @property
    def silent(self) -> bool:
        return self.silent_seconds > SILENT_SECONDS

    @property
    def shown_state(self) -> str:
        return "silent" if self.silent else self.state

    @property
    def doing(self) -> str:
        """What keeps it busy beside rows, for people; empty where nothing does."""
        if self.silent:
            return ""
        if self.loading is not None:
            return f"loading {self.loading} ({self.loading_seconds or 0:.0f} s)"
        return "" if self.calibrating is None else f"calibrating {self.calibrating}"


def register(store: Store, worker: str, *, device: str, threads: int, version: str, asked_to_drain: bool = False) -> None:
    """A worker begins, or its row was removed while it lived: ``asked_to_drain`` is what it was last asked. Role worker.
    ``worker``: host:pid:start."""
    at = {"worker": worker, "host": host_of(worker), "device": device, "silent": SILENT_SECONDS}
    with store.transaction() as conn:
        conn.execute(_REPLACE, at)
        conn.execute(
            _REGISTER,
            {"worker": worker, "device": device, "threads": threads, "version": version, "asked": "drain" if asked_to_drain else None},
        )


def beat(store: Store, worker: str, said: Beat) -> Literal["run", "drain"] | None:
    """A heartbeat, and what is asked of the worker; None where its row is gone, and it should register again. Role worker."""
    values = {
        "worker": worker,
        "state": said.state,
        "still": said.still_seconds,
        "leases": said.leases,
        "rows": said.rows_done,
        "memory": said.memory_bytes,
        "models": None if said.readiness.models is None else list(said.readiness.models),
        "loaded": None if said.readiness.loaded is None else list(said.readiness.loaded),
        "loading": said.readiness.loading,
        "loading_seconds": said.readiness.loading_seconds or 0.0,
        "calibrating": said.readiness.calibrating,
    }
    with store.transaction() as conn:
        conn.execute(_NO_WAIT)
        row = conn.execute(_BEAT, values).one_or_none()
    if row is None:
        return None
    return "drain" if row.asked == "drain" else "run"


def forget(store: Store, worker: str) -> None:
    """A worker ended, or is known to be dead. Role worker or dispatcher."""
    with store.transaction() as conn:
        conn.execute(_FORGET, {"worker": worker})


def forget_silent(store: Store, seconds: float = FORGET_SECONDS) -> int:
    """Removes the workers that were not seen for so long, and those that fell silent before another began in their place. Returns how
    many. Role dispatcher."""
    with store.transaction() as conn:
        return conn.execute(_FORGET_SILENT, {"seconds": seconds, "silent": SILENT_SECONDS}).rowcount


def list_workers(store: Store) -> list[WorkerRecord]:
    """All that are known, also those that fell silent within a day. Role dispatcher."""
    with store.transaction() as conn:
        return [WorkerRecord(**row._mapping) for row in conn.execute(_LIST)]


def ready_workers(store: Store) -> list[tuple[WorkerState, Readiness]]:
    """Of each worker that is alive: its state, and what it is ready for. Role api."""
    with store.transaction() as conn:
        found = conn.execute(_READY, {"silent": SILENT_SECONDS})
        return [(row.state, Readiness(row.models, row.loaded, row.loading, row.loading_seconds, row.calibrating)) for row in found]


def ask(store: Store, workers: Sequence[str], what: Literal["drain", "resume"]) -> list[str]:
    """Asks workers to drain, or to go on; each hears it at its next heartbeat. Returns those that are known. Role dispatcher."""
    with store.transaction() as conn:
        asked = conn.execute(_ASK, {"workers": list(workers), "asked": "drain" if what == "drain" else None})
        return sorted(asked.scalars())
