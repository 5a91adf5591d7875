"""The worker's sign of life for operators: at every heartbeat, what it does; back comes what they ask of it.

On a thread and a connection apart from the lease keeper's: a row that somebody locked must not delay a renewal. Where the store is away
it is tried again, and nothing else depends on it.
"""

import logging
import threading
import time
from collections.abc import Callable

from db.connect import Store
from db.operators import fleet
from db.operators.fleet import Beat, Readiness, WorkerState
from workers import metrics
from workers.logs import place_of
from workers.loop_guard import on_duty

log = logging.getLogger("textmill.pulse")


class Progress:
    """How many rows a process has stored, and when it last got on: a micro-batch ended, rows were stored, or it held no shard."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rows = 0
        self._last = clock()

    @property
    def rows(self) -> int:
        return self._rows

    def made(self, rows: int = 0) -> None:
        with self._lock:
            self._rows += rows
            self._last = self._clock()

    def still_seconds(self, leases: int) -> float:
        """Since it last got on; 0 where it holds nothing, for then it could not."""
        if leases == 0:
            self.made()
        with self._lock:
            return max(0.0, self._clock() - self._last)


class Pulse:
    """Parameters: ``leases``, ``state`` and ``readiness`` tell what the process holds, does and could do, ``resident_bytes`` its memory."""

    def __init__(
        self,
        store: Store,
        worker: str,
        progress: Progress,
        *,
        device: str,
        threads: int,
        version: str,
        beat_seconds: float,
        leases: Callable[[], int],
        state: Callable[[], WorkerState],
        readiness: Callable[[], Readiness],
        resident_bytes: Callable[[], int],
    ) -> None:
        self.asked_to_drain = False
        self._store = store
        self._worker = worker
        self._progress = progress
        self._device = device
        self._threads = threads
        self._version = version
        self._beat_seconds = beat_seconds
        self._leases = leases
        self._state = state
        self._readiness = readiness
        self._resident_bytes = resident_bytes
        self._known = False
        self._failing = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = on_duty(self._run, "pulse")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The worker ends in order: its row goes."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            fleet.forget(self._store, self._worker)
        except Exception as error:  # it falls silent instead
            log.info("could not say goodbye (%s)", type(error).__name__)

    def now(self) -> None:
        """Something changed that an operator may be waiting for."""
        self._wake.set()

    def beat_once(self) -> None:
        """Raises nothing. What was asked before is held to until the store says otherwise."""
        try:
            leases = self._leases()
            still_seconds = self._progress.still_seconds(leases)
            metrics.last_progress.set(time.time() - still_seconds)
            said = Beat(self._state(), still_seconds, leases, self._progress.rows, self._resident_bytes(), self._readiness())
            asked = fleet.beat(self._store, self._worker, said) if self._known else None
            if asked is None:
                fleet.register(
                    self._store,
                    self._worker,
                    device=self._device,
                    threads=self._threads,
                    version=self._version,
                    asked_to_drain=self.asked_to_drain,
                )
                self._known = True
                asked = fleet.beat(self._store, self._worker, said)
        except Exception as error:  # a pulse that ends would show a living worker as dead
            if not self._failing:
                log.warning("operators do not see this worker (%s at %s); trying again", type(error).__name__, place_of(error))
            self._failing = True
            return
        if self._failing:
            log.info("operators see this worker again")
        self._failing = False
        self.asked_to_drain = asked == "drain"

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            self.beat_once()
            self._wake.wait(self._beat_seconds)
