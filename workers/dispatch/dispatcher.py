"""The dispatcher: cuts jobs into shards, offers shards to the workers, and ends jobs. One leads, others stand by.

Each step is a query that moves what is ready to move, compare-and-set, so it may run twice or stop half-way. Messages go out after the
commit that marks a shard as offered: one that is lost is offered again later, and workers look for themselves. So a broker that is away is
told once and changes nothing else. Light: no torch.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

from db.connect import Store, open_store
from db.errors import LeadLost
from db.operators.speeds import recent_speeds
from db.process_names import new_start, own_name
from db.queue import dispatch, endings
from db.queue.leader import Leadership
from db.queue.wakeups import Listener
from db.server.versions import ensure_current
from db.settings import Role, load
from db.sweeps import Place, Unfinished
from db.tally import Tally
from workers import app as messages
from workers import logs
from workers.dispatch import metrics
from workers.dispatch.broker import BROKER_ERRORS, Broker, CeleryBroker
from workers.dispatch.reconciler import Reconciler
from workers.dispatch.sizing import Speeds, shard_chars
from workers.exporter import serve
from workers.logs import place_of
from workers.loop_guard import on_duty
from workers.settings import DispatcherSettings

BROKER_PAUSE_SECONDS: Final = 2.0  # after a failure: a connect that times out must not slow the steps that need only Postgres
STANDBY_SECONDS: Final = 2.0
SPEEDS_SECONDS: Final = 5.0  # how long measured speeds are believed

log = logging.getLogger("textmill.dispatcher")


class Dispatcher:
    """Parameters: ``store`` (role dispatcher) and where messages go. ``clock`` is monotonic, in seconds."""

    def __init__(self, store: Store, settings: DispatcherSettings, broker: Broker, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._settings = settings
        self._broker = broker
        self._clock = clock
        self._broker_down = False
        self._no_publish_before = 0.0
        self._failing: set[str] = set()
        self._places = {sweep: Place() for sweep in ("cut", "expire", "budget", "finalize")}
        self._speeds: Speeds = {}
        self._speeds_until = -1.0

    def tick(self) -> bool:
        """One round of all steps. True where something moved, and the next round should come soon. Raises LeadLost."""
        moved = [
            self._step("cut", lambda: dispatch.cut_validating_jobs(self._store, self._shard_chars, self._places["cut"])),
            self._step("cancel", lambda: endings.cancel_shards(self._store)),
            self._step("expire", lambda: endings.expire_jobs(self._store, self._places["expire"])),
            self._step("budget", lambda: endings.end_over_budget(self._store, self._places["budget"])),
            self._step("finalize", lambda: endings.finalize_jobs(self._store, self._places["finalize"])),
            self._step("offer", self._offer),
        ]
        return any(moved)

    def _shard_chars(self, model: str | None, task: str) -> int | None:
        if self._clock() >= self._speeds_until:
            self._speeds, self._speeds_until = recent_speeds(self._store), self._clock() + SPEEDS_SECONDS
        return shard_chars(model, task, seconds=self._settings.shard_seconds, measured=self._speeds)

    def _step(self, name: str, step: Callable[[], object]) -> bool:
        """A step that fails is told once, and the others go on: a bug in one must not stop every tenant."""
        try:
            moved = bool(step())
        except LeadLost:
            raise
        except Exception as error:
            metrics.step_failures.labels(name).inc()
            if name not in self._failing:
                log.error("step %s failed: %s at %s; it is tried again at every round", name, type(error).__name__, place_of(error))
            self._failing.add(name)
            return isinstance(error, Unfinished) and error.done > 0
        if name in self._failing:
            log.info("step %s works again", name)
            self._failing.discard(name)
        return moved

    def _offer(self) -> int:
        """Fills the window of messages in the broker. Returns how many went out."""
        if self._clock() < self._no_publish_before:
            return 0
        try:
            waiting = self._broker.waiting()
            metrics.broker_messages.set(waiting)
            room = self._settings.window - waiting
            if room <= 0:
                return 0
            picked = dispatch.pick_dispatchable(self._store, room)
            if picked:
                self._broker.publish(picked)
        except BROKER_ERRORS as error:
            self._no_publish_before = self._clock() + BROKER_PAUSE_SECONDS
            metrics.broker_failures.inc()
            if not self._broker_down:
                log.warning("the broker is away (%s); workers find their shards by polling", type(error).__name__)
            self._broker_down = True
            return 0
        if self._broker_down:
            log.info("the broker is back")
        self._broker_down = False
        metrics.published.inc(len(picked))
        return len(picked)


def _pass_on(first: threading.Event, then: threading.Event) -> None:
    first.wait()
    then.set()


def rest_seconds(tick_took: float, rested: float, tick_seconds: float) -> float:
    """How long to leave it at that after a wake-up: thousands of tiny jobs ring all the time, and rounds may take a tenth of a core."""
    return max(0.0, min(tick_seconds, 9 * tick_took) - rested)


def run(settings: DispatcherSettings, stop: threading.Event) -> None:
    """Until ``stop``: leads where nobody else does, else stands by."""
    messages.connect(settings)
    start = new_start()
    tally = Tally(job_ended=metrics.count_ended_job, rows_failed=metrics.count_failed_rows)
    store = open_store(settings, Role.DISPATCHER, pool_size=6, start=start, tally=tally)
    metrics.REGISTRY.tell_fit(store.schema)
    leadership = Leadership(store, own_name(start))
    broker = CeleryBroker(settings.broker_url())
    dispatcher = Dispatcher(leadership.guarded(), settings, broker)
    reconciler = Reconciler(leadership.guarded(), settings)
    wake = threading.Event()
    listener = Listener(store, wake)
    on_duty(partial(_pass_on, stop, wake), "stop").start()
    leadership.start()
    try:
        while not stop.is_set():
            if not leadership.held():
                metrics.leading.set(0)
                reconciler.pause()
                stop.wait(STANDBY_SECONDS)
                continue
            metrics.leading.set(1)
            reconciler.resume()
            wake.clear()
            began = time.monotonic()
            try:
                moved = dispatcher.tick()
            except LeadLost:
                continue
            ended = time.monotonic()
            wake.wait(settings.tick_seconds if moved else settings.idle_tick_seconds)
            stop.wait(rest_seconds(ended - began, time.monotonic() - ended, settings.tick_seconds))
    finally:
        listener.close()
        reconciler.stop()
        leadership.give_up()
        broker.close()
        store.close()


def main() -> int:
    logs.set_up()
    settings = load(DispatcherSettings)
    ensure_current(settings.database_url_for(Role.DISPATCHER))
    stop = threading.Event()

    def on_signal(_signal: int, _frame: FrameType | None) -> None:
        # The main thread may be inside stop.wait(), whose lock is not reentrant: another thread sets the event.
        threading.Thread(target=stop.set, daemon=True).start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    if settings.metrics_port is not None:
        serve(metrics.REGISTRY, settings.metrics_host, settings.metrics_port)
    run(settings, stop)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
