"""The reconciler: what became of work whose worker is gone. Two threads beside the dispatcher's loop, active while that leads.

One looks after leases and nothing else: those that ran out make their shards ready again (or bisect a shard that keeps killing workers).
The other keeps house, which may take long: uploads that stood still, what is past its expiry, what was deleted and old versions of heads
and label sets are erased, and workers that fell silent long ago forgotten; how the work goes is measured for /metrics.
Lost messages need no duty of their own: the dispatcher offers a shard again when nobody claimed it. All of it is compare-and-set on state
and epoch, by the database's clock, so two reconcilers do no harm.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from db.catalogue.purge import purge_versions
from db.connect import Store
from db.errors import LeadLost
from db.files.purge import FilePurge
from db.jobs.purge import JobPurge
from db.operators import health
from db.operators.fleet import forget_silent
from db.purging import Lasting
from db.queue import recovery
from db.sweeps import Place, Unfinished
from workers.dispatch import metrics
from workers.logs import place_of
from workers.loop_guard import on_duty
from workers.settings import DispatcherSettings

PURGE_SECONDS: Final = 600.0  # looking for stale uploads is a scan, and they are stale after hours
FORGET_SECONDS: Final = 60.0
AGAIN_SECONDS: Final = 0.1  # between two passes of a duty that has more to do
MEASURE_SECONDS: Final = 15.0  # as often as Prometheus asks by default; the query reads every live shard

log = logging.getLogger("textmill.reconciler")


@dataclass(slots=True)
class Duty:
    """``work`` every ``every_seconds``; where it returns True, it ended at its limit and comes again at once, after the others in turn."""

    name: str
    every_seconds: float
    work: Callable[[], object]
    next_at: float = 0.0
    failing: bool = False


@dataclass(slots=True)
class Rota:
    """Duties that share a thread, and run in turn."""

    name: str
    duties: list[Duty]
    thread: threading.Thread | None = None


class Reconciler:
    """Starts paused: :meth:`resume` when this process leads, :meth:`pause` when it does not."""

    def __init__(self, store: Store, settings: DispatcherSettings) -> None:
        self._store = store
        self._settings = settings
        self._active = threading.Event()
        self._closing = threading.Event()
        self._file_purge = FilePurge(store, _lasting(settings), go_on=self._may_go_on)
        self._job_purge = JobPurge(store, _lasting(settings), go_on=self._may_go_on)
        self._reaping = Place()
        self._rotas = [
            Rota("reconciler", [Duty("reap", settings.reap_seconds, self.reap)]),
            Rota(
                "upkeep",
                [
                    Duty("purge_jobs", PURGE_SECONDS, self.purge_jobs),
                    Duty("purge_files", PURGE_SECONDS, self.purge_files),
                    Duty("purge_versions", PURGE_SECONDS, self.purge_versions),
                    Duty("forget", FORGET_SECONDS, self.forget),
                    Duty("measure", MEASURE_SECONDS, self.measure),
                ],
            ),
        ]

    def resume(self) -> None:
        self._active.set()
        for rota in self._rotas:
            if rota.thread is None:
                rota.thread = on_duty(partial(self._run, rota), rota.name)
                rota.thread.start()

    def pause(self) -> None:
        if self._active.is_set():
            self._active.clear()
            metrics.observe_health(None)

    def stop(self) -> None:
        self._closing.set()
        for rota in self._rotas:
            if rota.thread is not None:
                rota.thread.join()

    def reap(self) -> int:
        """Leases that ran out, made ready again."""
        try:
            reaped = len(recovery.reap_leases(self._store, self._reaping))
        except Unfinished as unfinished:
            self._tell_reaped(unfinished.done)
            raise
        self._tell_reaped(reaped)
        return reaped

    def _tell_reaped(self, reaped: int) -> None:
        if reaped:
            log.warning("%d lease(s) ran out; their shards are offered again", reaped)
            metrics.reaped.inc(reaped)

    def purge_jobs(self) -> bool:
        """What is left of jobs and results that were deleted, are past their expiry, or were kept for long enough."""
        return self._job_purge.run().more

    def purge_files(self) -> bool:
        """The same of files, and uploads that were cut off, removed with their rows."""
        return self._file_purge.run().more

    def purge_versions(self) -> int:
        """Versions of heads and label sets that no job needs, but the last ones."""
        return purge_versions(self._store)

    def forget(self) -> int:
        """Workers that were not seen for a day, or have a successor."""
        return forget_silent(self._store)

    def measure(self) -> int:
        metrics.observe_health(health.measure(self._store), len(health.damaged_objects(self._store)))
        return 0

    def run_due(self, now: float) -> None:
        """Runs the duties whose time has come. One that fails is told once and tried again at its next time."""
        for rota in self._rotas:
            self._run_rota(rota, now)

    def _run_rota(self, rota: Rota, now: float) -> bool:
        """Whether one of them has more to do at once."""
        again = False
        for duty in rota.duties:
            if now < duty.next_at:
                continue
            duty.next_at = now + duty.every_seconds
            try:
                with metrics.duty_seconds.labels(duty.name).time():
                    more = duty.work() is True
            except LeadLost:
                return False  # the dispatcher's loop finds it, too, and pauses this
            except Exception as error:
                metrics.duty_failures.labels(duty.name).inc()
                if not duty.failing:
                    log.error("duty %s failed: %s at %s", duty.name, type(error).__name__, place_of(error))
                duty.failing = True
            else:
                if duty.failing:
                    log.info("duty %s works again", duty.name)
                duty.failing = False
                if more:
                    duty.next_at, again = now, True
        return again

    def _run(self, rota: Rota) -> None:
        pause = self._settings.reap_seconds
        while not self._closing.wait(pause):
            again = self._active.is_set() and self._run_rota(rota, time.monotonic())
            pause = AGAIN_SECONDS if again else self._settings.reap_seconds

    def _may_go_on(self) -> bool:
        return self._active.is_set() and not self._closing.is_set()


def _lasting(settings: DispatcherSettings) -> Lasting:
    files, results, jobs = (
        None if days is None else days * 86_400.0
        for days in (settings.keep_files_days, settings.keep_results_days, settings.keep_jobs_days)
    )
    return Lasting(settings.stale_upload_seconds, files=files, results=results, jobs=jobs)
