"""The parts of a worker process, and the order in which they start and end.

Start: load models, start the lease keeper and the poller, consume messages. Celery runs in this process with the threads pool; it only
wakes the shards' threads, and its troubles (a broker that is away, a crash of its loop) end nothing: the poller goes on and Celery is
started again.

SIGTERM or SIGINT drains: nothing more is claimed, rows in flight finish and are written, shards that are not done are given back, and the
process ends with 0. A device that is lost ends it with EX_SOFTWARE, for a supervisor to start it afresh.

Not imported before the device is pinned (see :mod:`workers.worker`).
"""

import logging
import os
import signal
import socket
import threading
import time
from types import FrameType
from typing import Any, Final
from uuid import UUID

from celery.apps.worker import Worker as CeleryWorker
from celery.worker import state as celery_state

from db import shards
from db.connect import Store, open_store
from db.settings import Role
from db.shards import Lease
from db.wakeups import Bell
from workers import app as messages
from workers import metrics
from workers.batcher import BatchReport
from workers.collector import calm_the_collector
from workers.intake import Intake
from workers.lease import LeaseKeeper
from workers.logs import place_of
from workers.poller import Poller
from workers.runtime import Runtime
from workers.settings import WorkerSettings
from workers.shard_task import End, ShardTask
from workers.slots import Slots
from workers.watchdog import Watchdog

EX_SOFTWARE: Final = 70
CONSUMER_PAUSE_SECONDS: Final = 1.0
INTERACTIVE_SLOTS: Final = 1  # beside those of all shards; the poller fills it (a message thread more would only hold a bulk message back)

log = logging.getLogger("textmill.worker")


class Consumer(CeleryWorker):
    """Celery's worker without its signal handlers: this process has its own drain, and never re-executes itself on SIGHUP."""

    def install_platform_tweaks(self, worker: object) -> None:
        return


class Worker:
    """The parts of one process, and their order of start and end."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._draining = False  # a plain flag: a signal handler sets it, and may interrupt anything
        self._exit_code = 0
        self._slots = Slots(settings.threads, kept=INTERACTIVE_SLOTS)
        self._store: Store = open_store(settings, Role.WORKER, pool_size=settings.threads + INTERACTIVE_SLOTS + 3)
        self._bell = Bell(self._store)
        self._keeper_store: Store = open_store(settings, Role.WORKER, pool_size=1)
        self._keeper = LeaseKeeper(
            self._keeper_store,
            lease_seconds=settings.lease_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            margin_seconds=settings.fence_margin_seconds,
        )
        self._watchdog = Watchdog(settings.hang_seconds)
        self._runtime = Runtime(settings, observe=self._observe)
        self._task = ShardTask(self._store, self._runtime, self._keeper, self._watchdog, settings, self._is_draining, self._bell.ring)
        self._poller = Poller(
            self._store,
            self._slots,
            self._work,
            worker=self._name,
            poll_seconds=settings.poll_seconds,
            lease_seconds=settings.lease_seconds,
            now=self._keeper.now,
        )

    def run(self) -> int:
        """Until a drain. Returns the exit code."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self._warm()
        calm_the_collector()
        self._keeper.start()
        self._watchdog.start()
        self._poller.start()
        messages.run_with(self._on_message)
        threading.Thread(target=self._drain_when_told, name="drain", daemon=True).start()
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
        if self._task.run(lease, claimed_at) is End.BROKEN:
            self._exit_code = EX_SOFTWARE
            self._draining = True

    def _observe(self, model: str, report: BatchReport) -> None:
        self._watchdog.beat()
        metrics.observe_batch(model, report)

    # Messages: Celery, started again whenever it ends by itself.

    def _consume(self) -> None:
        celery_state.reset_state()
        if self._draining:
            return
        make: Any = Consumer
        consumer = make(
            app=messages.app,
            hostname=f"textmill-{os.getpid()}@{socket.gethostname()}",
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
        if not self._draining:
            log.error("the message consumer ended; polling goes on, and it is started again")

    # The end.

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._draining = True
        stop_celery(0)

    def _is_draining(self) -> bool:
        return self._draining

    def _drain_when_told(self) -> None:
        """Closes the slots at once when the drain begins, and hurries what is still running when its time is over."""
        while not self._draining:
            time.sleep(0.1)
        log.info("draining: nothing more is claimed")
        stop_celery(self._exit_code)
        self._slots.close()
        if not self._slots.wait_all_free(self._settings.drain_seconds):
            log.warning("the drain takes too long: shards stop after the batch in flight")
            self._keeper.stop_all("drained")

    def _end(self) -> None:
        self._slots.close()
        self._poller.stop()
        self._runtime.close(drain=self._exit_code == 0)
        self._keeper.stop()
        self._bell.close()
        self._store.close()
        self._keeper_store.close()
        log.info("ended: no shard is held")

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._draining and time.monotonic() < until:
            time.sleep(0.1)

    def _warm(self) -> None:
        try:
            self._runtime.warm(self._settings.models)
        except Exception as error:  # rows that need the model will say so; the others must run
            log.error("could not load a model ahead: %s at %s", type(error).__name__, place_of(error))


def stop_celery(exit_code: int) -> None:
    """Ends Celery's loop the way its own signal handler does: it looks at this value once a second or sooner."""
    vars(celery_state)["should_stop"] = exit_code
