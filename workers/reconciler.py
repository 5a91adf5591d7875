"""The reconciler: what became of work whose worker is gone. A thread beside the dispatcher's loop, active while that leads.

Leases that ran out make their shards ready again (or bisect a shard that keeps killing workers); uploads that stood still are removed, and
workers that fell silent long ago forgotten; how the work goes is measured for /metrics.
Lost messages need no duty of their own: the dispatcher offers a shard again when nobody claimed it. All of it is compare-and-set on state
and epoch, by the database's clock, so two reconcilers do no harm.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from db import files, health, jobs
from db.connect import Store
from db.sweeps import Unfinished
from db.workers import forget_silent
from workers import metrics
from workers.logs import place_of
from workers.settings import DispatcherSettings

PURGE_SECONDS: Final = 600.0  # looking for stale uploads is a scan, and they are stale after hours
MEASURE_SECONDS: Final = 15.0  # as often as Prometheus asks by default; the query reads every live shard

log = logging.getLogger("textmill.reconciler")


@dataclass(slots=True)
class Duty:
    """``work`` every ``every_seconds``; it returns how much it did."""

    name: str
    every_seconds: float
    work: Callable[[], int]
    next_at: float = 0.0
    failing: bool = False


class Reconciler:
    """Starts paused: :meth:`resume` when this process leads, :meth:`pause` when it does not."""

    def __init__(self, store: Store, settings: DispatcherSettings) -> None:
        self._store = store
        self._settings = settings
        self._active = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._duties = [
            Duty("reap", settings.reap_seconds, self.reap),
            Duty("purge", PURGE_SECONDS, self.purge),
            Duty("forget", PURGE_SECONDS, self.forget),
            Duty("measure", MEASURE_SECONDS, self.measure),
        ]

    def resume(self) -> None:
        self._active.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
            self._thread.start()

    def pause(self) -> None:
        if self._active.is_set():
            self._active.clear()
            metrics.observe_health(None)

    def stop(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def reap(self) -> int:
        """Leases that ran out, made ready again."""
        try:
            reaped = len(jobs.reap_leases(self._store))
        except Unfinished as unfinished:
            self._tell_reaped(unfinished.done)
            raise
        self._tell_reaped(reaped)
        return reaped

    def _tell_reaped(self, reaped: int) -> None:
        if reaped:
            log.warning("%d lease(s) ran out; their shards are offered again", reaped)
            metrics.reaped.inc(reaped)

    def purge(self) -> int:
        """Uploads that were cut off, removed with their rows."""
        return int(files.purge_stale_uploads(self._store, self._settings.stale_upload_seconds) or 0)

    def forget(self) -> int:
        """Workers that were not seen for a day."""
        return forget_silent(self._store)

    def measure(self) -> int:
        metrics.observe_health(health.measure(self._store))
        return 0

    def run_due(self, now: float) -> None:
        """Runs the duties whose time has come. One that fails is told once and tried again at its next time."""
        for duty in self._duties:
            if now < duty.next_at:
                continue
            duty.next_at = now + duty.every_seconds
            try:
                with metrics.duty_seconds.labels(duty.name).time():
                    duty.work()
            except Exception as error:
                metrics.duty_failures.labels(duty.name).inc()
                if not duty.failing:
                    log.error("duty %s failed: %s at %s", duty.name, type(error).__name__, place_of(error))
                duty.failing = True
            else:
                if duty.failing:
                    log.info("duty %s works again", duty.name)
                duty.failing = False

    def _run(self) -> None:
        pause = min(duty.every_seconds for duty in self._duties)
        while not self._closing.wait(pause):
            if self._active.is_set():
                self.run_due(time.monotonic())
