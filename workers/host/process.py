"""The parts of a worker process, and the order in which they start and end.

Start: load the models that were asked for, start the lease keeper and the poller, consume messages, and load the default model meanwhile.
Celery runs in this process with the threads pool; it only wakes the shards' threads, and its troubles (a broker that is away, a crash of
its loop) end nothing: the poller goes on and Celery is started again.

SIGTERM or SIGINT drains: nothing more is claimed, rows in flight finish and are written, shards that are not done are given back, and the
process ends with 0. A device that is lost ends it with EX_SOFTWARE, a memory ceiling that is passed with EX_PLANNED, for a supervisor to
start it afresh, or with EX_CEILING where that would help little. An operator's drain (`textmill workers drain`) is the same but for the
end: the process stands by until it may resume.

Not imported before the device is pinned (see :mod:`workers.host.main`).
"""

import logging
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final
from uuid import UUID

from celery.apps.worker import Worker as CeleryWorker
from celery.worker import state as celery_state

from db.actors import Lease
from db.connect import Store, open_store
from db.errors import TextmillError
from db.operators.fleet import Readiness, WorkerState
from db.process_names import host_of
from db.queue import shards
from db.queue.wakeups import Bell
from db.settings import Role
from db.tally import Tally
from workers import app as messages
from workers import metrics
from workers.batches.outcomes import BatchReport
from workers.claims.lease import LeaseKeeper
from workers.claims.message_filter import Intake
from workers.claims.poller import Poller
from workers.claims.slots import KEPT_SLOTS, Slots
from workers.exporter import own_version, serve
from workers.host.garbage_collection import calm_the_collector
from workers.host.memory import (
    EX_CEILING,
    EX_PLANNED,
    IDLE_SECONDS,
    Ceiling,
    available_bytes,
    ceiling_mb,
    end_at_ceiling,
    resident_bytes,
)
from workers.host.presence import Progress, Pulse
from workers.host.telling import Telling
from workers.host.watchdog import Watchdog
from workers.inference.runtime import Runtime
from workers.logs import place_of
from workers.loop_guard import EX_SOFTWARE, Guard, on_duty
from workers.machine.memory import allowed_bytes
from workers.models import registry
from workers.models.provision import is_here
from workers.settings import WorkerSettings
from workers.shard.life import End, ShardLife

CONSUMER_PAUSE_SECONDS: Final = 1.0
MEMORY_SECONDS: Final = 1.0  # between two looks

log = logging.getLogger("textmill.worker")


class Consumer(CeleryWorker):
    """Celery's worker without its signal handlers: this process has its own drain, and never re-executes itself on SIGHUP."""

    def install_platform_tweaks(self, worker: object) -> None:
        return


class Worker:
    """The parts of one process, and their order of start and end. ``name``: host:pid:start."""

    def __init__(self, settings: WorkerSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._draining = False  # a plain flag: a signal handler sets it, and may interrupt anything
        self._standing_by = False  # from an operator's drain until the resume
        self._drained = False
        self._exit_code = 0
        self._loaded_at, self._load_seconds = time.monotonic(), 0.0
        self._slots = Slots(settings.threads, KEPT_SLOTS)
        self._store: Store = open_store(
            settings, Role.WORKER, pool_size=self._slots.in_all + 4, tally=Tally(rows_failed=metrics.count_failed_rows)
        )
        metrics.REGISTRY.tell_fit(self._store.schema)
        metrics.decoders.tell(lambda: self._runtime.loads())
        self._bell = Bell(self._store)
        self._keeper_store: Store = open_store(settings, Role.WORKER, pool_size=1)
        self._keeper = LeaseKeeper(
            self._keeper_store,
            lease_seconds=settings.lease_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            margin_seconds=settings.fence_margin_seconds,
        )
        self._watchdog = Watchdog(settings.hang_seconds)
        self._progress = Progress()
        self._consumer: Any = None
        self._telling = Telling(lambda: getattr(getattr(self._consumer, "consumer", None), "event_dispatcher", None))
        self._ceiling = Ceiling(ceiling_mb(settings.max_memory_mb, allowed_bytes()))
        self._runtime = Runtime(
            settings,
            observe=self._observe,
            watch=self._watchdog.batch,
            changed=lambda: self._pulse.now(),
            free_bytes=lambda: self._ceiling.left(resident_bytes(), available_bytes()),
        )
        self._task = ShardLife(
            self._store,
            self._runtime,
            self._keeper,
            self._watchdog.watch,
            settings,
            self._is_draining,
            self._bell.ring,
            self._wrote,
        )
        self._poller = Poller(
            self._store,
            self._slots,
            self._work,
            worker=self._name,
            poll_seconds=settings.poll_seconds,
            lease_seconds=settings.lease_seconds,
            now=self._keeper.now,
        )
        self._pulse = Pulse(
            self._store,
            self._name,
            self._progress,
            device=settings.device,
            threads=settings.threads,
            version=own_version(),
            beat_seconds=settings.heartbeat_seconds,
            leases=self._keeper.count,
            state=self._state,
            readiness=self._readiness,
            resident_bytes=resident_bytes,
        )

    def run(self) -> int:
        """Until a drain. Returns the exit code."""
        log.info("this worker is %s", self._name)
        metrics.last_progress.set_to_current_time()
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self._pulse.start()
        self._warm()
        calm_the_collector()
        if self._settings.metrics_port is not None:
            serve(metrics.REGISTRY, self._settings.metrics_host, self._settings.metrics_port)  # who answers there is ready
        self._keeper.start()
        self._watchdog.start()
        self._poller.start()
        self._telling.start()
        messages.run_with(self._on_message)
        on_duty(self._mind, "mind").start()
        if not self._settings.models:
            threading.Thread(target=self._warm_meanwhile, name="warm", daemon=True).start()
        while not self._draining:
            self._consume()
            self._pause(CONSUMER_PAUSE_SECONDS)
        self._end()
        return self._exit_code

    # Claims: by message, or (in the poller) by looking.

    def _on_message(self, _shard_id: UUID, _epoch: int) -> None:
        """Runs on one of Celery's threads; raises nothing.

        A message is a wake-up and no more: what is claimed is whose turn it is now, not when the message was sent. With sixty messages of
        one tenant in the queue, another tenant would otherwise wait for all of them, and so would a priority that was just changed.
        """
        self._poller.message_came()
        if not self._slots.take():
            return
        try:
            claimed_at = self._keeper.now()
            claimed = shards.claim_any(self._store, self._name, lease_seconds=self._settings.lease_seconds)
            metrics.claims.labels("message", "won" if claimed else "stale").inc()
            for lease in claimed:
                self._work(lease, claimed_at)
        except Exception as error:
            log.warning("could not claim a shard: %s at %s", type(error).__name__, place_of(error))
        finally:
            self._slots.give()

    def _work(self, lease: Lease, claimed_at: float) -> None:
        if self._telling.work(lease, lambda: self._task.run(lease, claimed_at)) is End.BROKEN:
            self._exit_code = EX_SOFTWARE
            self._draining = True

    def _wrote(self, rows: int) -> None:
        self._progress.made(rows)
        self._telling.wrote(rows)

    def _observe(self, model: str, report: BatchReport) -> None:
        self._progress.made()
        metrics.observe_batch(model, report)

    # Messages: Celery, started again whenever it ends by itself.

    def _consume(self) -> None:
        celery_state.reset_state()
        stop_celery(None)  # what ended the consumer before this one; a stop that comes now is seen in the flags below
        if self._draining or self._standing_by:
            return
        make: Any = Consumer
        consumer = self._consumer = make(
            app=messages.app,
            hostname=node_name(self._name),
            pool="threads",
            concurrency=self._settings.threads,
            queues=[messages.QUEUE],
            task_events=True,
            without_gossip=True,
            without_mingle=True,
            consumer_cls=Intake,
            loglevel="WARNING",
            quiet=True,
        )
        try:
            consumer.start()
        except Exception as error:
            log.error("the message consumer failed: %s at %s", type(error).__name__, place_of(error))
        if not self._draining and not self._standing_by:
            log.error("the message consumer ended; polling goes on, and it is started again")

    # Drains: the last one, and those that an operator asks for.

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._draining = True
        stop_celery(0)

    def _is_draining(self) -> bool:
        return self._draining or self._standing_by

    def _state(self) -> WorkerState:
        if not self._is_draining():
            return "running"
        return "drained" if self._drained and not self._draining else "draining"

    def _mind(self) -> None:
        """Beside everything else, until the drain that ends the process has let go of every shard."""
        looked_at = time.monotonic()
        guard = Guard(log, "the look at drains and memory")
        while not self._draining:
            with guard:
                if self._pulse.asked_to_drain or self._standing_by:  # the latter: an error cut it short
                    self._stand_by()
                elif time.monotonic() - looked_at >= MEMORY_SECONDS:
                    looked_at = time.monotonic()
                    self._heed_ceiling(self._unload_idle(resident_bytes()))
            time.sleep(0.1)
        log.info("draining: nothing more is claimed")
        why = {0: "signal", EX_PLANNED: "memory", EX_CEILING: "memory"}.get(self._exit_code, "device")
        self._let_go(why, self._exit_code, lambda: False)

    def _unload_idle(self, resident: int) -> int:
        """Lets go of models that nobody needs. Returns how much is held then."""
        if self._ceiling.near(resident) and self._runtime.calibrating is not None:
            log.warning("calibrating would pass the memory ceiling (%d MiB): models run on as they do", self._ceiling.max_mb)
            self._runtime.give_up_calibration()
            return 0  # it lets go after the slice in work, and is looked at again then
        if self._ceiling.near(resident):
            gone = self._runtime.unload(IDLE_SECONDS, most=1)
        elif self._settings.unload_seconds:
            gone = self._runtime.unload(self._settings.unload_seconds, keep=self._settings.models)
        else:
            gone = []
        return resident_bytes() if gone else resident

    def _heed_ceiling(self, resident: int) -> None:
        if self._ceiling.passed_by(resident):
            ran_seconds = time.monotonic() - self._loaded_at
            self._exit_code = end_at_ceiling(self._progress.rows, load_seconds=self._load_seconds, ran_seconds=ran_seconds)
            if self._exit_code == EX_PLANNED:
                log.warning(
                    "%d MiB are held, and the ceiling is %d: a planned restart",
                    resident >> 20,
                    self._ceiling.max_mb,
                )
                metrics.planned_restarts.inc()
            else:
                log.error(
                    "%d MiB are held so soon after the start, and the ceiling is %d: another start would end the same way; "
                    "raise TEXTMILL_MAX_MEMORY_MB, or load fewer models",
                    resident >> 20,
                    self._ceiling.max_mb,
                )
            self._draining = True

    def _stand_by(self) -> None:
        """An operator's drain. What was begun is let go before a resume counts: a shard never sees the drain come and go."""
        self._standing_by = True
        self._runtime.hold_calibration(True)
        log.info("asked to drain: nothing more is claimed")
        self._pulse.now()
        self._let_go("operator", 0, lambda: self._draining)
        if not self._draining:
            self._drained = True
            self._pulse.now()
            log.info("drained: no shard is held")
        while self._pulse.asked_to_drain and not self._draining:
            time.sleep(0.1)
        if not self._draining:
            self._drained = self._standing_by = False
            self._runtime.hold_calibration(False)
            self._slots.open()
            self._pulse.now()
            log.info("asked to resume: shards are claimed again")

    def _let_go(self, why: str, celery_code: int, cut_short: Callable[[], bool]) -> None:
        """Closes the slots at once, and hurries what is still running when its time is over."""
        metrics.drains.labels(why).inc()
        stop_celery(celery_code)
        self._slots.close()
        hurry_at: float | None = time.monotonic() + self._settings.drain_seconds
        while not cut_short() and not self._slots.wait_all_free(0.1):
            if hurry_at is not None and time.monotonic() >= hurry_at:
                log.warning("the drain takes too long: shards stop after the batch in flight")
                self._keeper.stop_all("drained")
                hurry_at = None

    def _end(self) -> None:
        self._slots.close()
        self._poller.stop()
        self._runtime.close(drain=self._exit_code in {0, EX_PLANNED, EX_CEILING})
        self._keeper.stop()
        self._pulse.stop()
        self._bell.close()
        self._store.close()
        self._keeper_store.close()
        log.info("ended: no shard is held")

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._draining and time.monotonic() < until:
            time.sleep(0.1)

    def _warm(self) -> None:
        began = time.monotonic()
        for model in self._settings.models:
            try:
                self._runtime.warm(model)
            except TextmillError as error:  # rows that need the model will say so; the others must run
                log.error("could not load %s ahead: %s", model, error.message)
            except Exception as error:
                log.error("could not load %s ahead: %s at %s", model, type(error).__name__, place_of(error))
        self._loaded_at = time.monotonic()
        self._load_seconds = self._loaded_at - began

    def _warm_meanwhile(self) -> None:
        """Where nothing else was asked for, the model that most first jobs ask for: importing torch and reading weights take seconds."""
        try:
            self._runtime.load(registry.default_model("classify").id)
        except Exception as error:  # it may never be needed
            log.info("the default model is not loaded ahead: %s at %s", type(error).__name__, place_of(error))
        calm_the_collector()

    def _readiness(self) -> Readiness:
        loading = self._runtime.loading
        return Readiness(
            models=[card.id for card in registry.all_models() if is_here(card)],
            loaded=self._runtime.loaded,
            loading=None if loading is None else loading[0],
            loading_seconds=None if loading is None else loading[1],
            calibrating=self._runtime.calibrating,
        )


def node_name(name: str) -> str:
    """What Celery and Flower call a worker: ``textmill-pid-start@host``. Of two of one name, each would answer for the other."""
    return f"textmill-{'-'.join(name.split(':')[1:])}@{host_of(name)}"


def stop_celery(exit_code: int | None) -> None:
    """Ends Celery's loop the way its own signal handler does: it looks at this value once a second or sooner. None: it goes on."""
    vars(celery_state)["should_stop"] = exit_code
