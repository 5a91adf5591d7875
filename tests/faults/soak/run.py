"""A soak from its start to its report: the reference run of the real model, an undisturbed minute, faults, and the end of everything."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from db.actors import Actor
from db.connect import Store, open_store
from db.operators.api_keys import SCOPES
from db.operators.tenants import create_tenant
from db.settings import Role
from tests.benchmarks.machine import describe_machine
from tests.faults.house import FAST, House
from tests.faults.soak import plan, reference
from tests.faults.soak.breaking import Breaker, left_of
from tests.faults.soak.checking import Checker
from tests.faults.soak.feeding import Feeder, RealJob
from tests.faults.soak.keeping import Keeper
from tests.faults.soak.ledger import Ledger
from tests.faults.soak.plan import Kind, Schedule
from tests.faults.soak.report import Report
from tests.faults.soak.servers import Servers, running
from tests.faults.soak.watching import Overview, Watch

# The fake model's tokens are bytes: the encoder's budget would be batches of a dozen texts. The real model runs in fp32, so that the order
# in which rows come together changes no label.
ENVIRONMENT: Final = {"TEXTMILL_ENGINE": "torch", "TEXTMILL_DTYPE": "exact", "TEXTMILL_BUDGET_TOKENS": "16384"}
FREEZE_SECONDS: Final = 1.75 * float(FAST["TEXTMILL_LEASE_SECONDS"])
REAL_JOBS: Final = 12
DRAIN_LIMIT_SECONDS: Final = 240.0  # for the rows that are open then, some 100,000; what comes to no end by then never does
SIZE_EVERY_SECONDS: Final = 10.0
LATE_SECONDS: Final = 20.0  # a last pause and a last fault
Say = Callable[[str], None]


def soak(minutes: float, seed: int, folder: Path, say: Say) -> Report:
    """``folder`` must be empty. Main thread only."""
    times = plan.schedule(minutes)
    with ExitStack() as held:
        servers = held.enter_context(running(folder / "home"))
        api = held.enter_context(_store(servers, Role.API, pool_size=8))
        overview = Overview(held.enter_context(_store(servers, Role.DISPATCHER, pool_size=4)))
        return _Soak(times, minutes, seed, folder, servers, api, overview, say).run()


class _Soak:
    def __init__(
        self, times: Schedule, minutes: float, seed: int, folder: Path, servers: Servers, api: Store, overview: Overview, say: Say
    ) -> None:
        self._times = times
        self._minutes = minutes
        self._seed = seed
        self._servers = servers
        self._api = api
        self._overview = overview
        self._say = say
        self._tenants = [Actor(create_tenant(api, f"tenant {number}"), uuid4(), None, SCOPES) for number in range(plan.TENANTS)]
        self._house = House(servers.settings, api, self._tenants[0], folder, servers.settings.broker_url())
        self._keeper = Keeper(self._house, ENVIRONMENT)
        self._ledger = Ledger()
        self._watch = Watch(overview, say)
        self._checker = Checker(api, self._ledger, overview.states, say)
        self._breaker = Breaker(servers, self._keeper, self._ledger, self._watch, api, freeze_seconds=FREEZE_SECONDS)
        self._given: Counter[Kind] = Counter()
        self._peak_bytes = 0
        self._size_at = 0.0

    def run(self) -> Report:
        machine = describe_machine()
        try:
            return self._run(machine)
        finally:
            self._breaker.end()
            self._house.stop()

    def _run(self, machine: dict[str, object]) -> Report:
        times = self._times
        started = time.monotonic()
        self._keeper.start_all()
        self._say(f"seed {self._seed}; {times.real_rows:,} rows of the real model, undisturbed")
        texts, labels = reference.run_reference(self._api, self._tenants[0], times.real_rows, self._overview.states)
        with Duties() as duties:
            began = time.monotonic()
            feeder = self._feeder(began, texts, labels)
            duties.start(self._keeper.run)
            duties.start(self._watch.run)
            duties.start(self._checker.run)
            feeding = duties.start(feeder.run)
            self._say(f"undisturbed for {times.undisturbed_seconds:.0f} s")
            self._wait(began + times.undisturbed_seconds, duties)
            broken_at = time.monotonic()
            undisturbed = self._watch.progress.rate(began + times.warm_up_seconds, broken_at)
            ended_at = self._break(began, duties)
            self._ledger.end_retries()
            disturbed = self._watch.progress.rate(broken_at, ended_at)
            duties.stop(feeding)
            drained_at = self._drain(ended_at, duties)
        self._keeper.look()
        self._say("counting the calls of the model")
        counters = self._checker.counters(self._house.calls, self._late_rows())
        progress = self._watch.progress
        return Report(
            seed=self._seed,
            asked_minutes=self._minutes,
            minutes=(time.monotonic() - started) / 60,
            went_on=ended_at - began > times.faults_end + LATE_SECONDS,
            asked_rows=times.rows,
            asked_real_rows=times.real_rows,
            rows=self._checker.rows,
            real_rows=self._checker.real_rows,
            ended=dict(self._checker.ended),
            counters=counters,
            left_of_deleted=self._left_of_deleted(),
            fenced=self._house.fenced(),
            faults=dict(self._given),
            recoveries=progress.recoveries,
            longest_stall_seconds=progress.longest_stall,
            undisturbed_rate=undisturbed,
            disturbed_rate=disturbed,
            drain_seconds=drained_at - ended_at,
            drain_limit_seconds=DRAIN_LIMIT_SECONDS,
            starts=self._keeper.starts,
            drain_codes=dict(self._keeper.drain_codes),
            unexpected_ends=dict(self._keeper.codes),
            peak_disk_bytes=self._peak_bytes,
            machine=machine,
        )

    def _feeder(self, began: float, texts: list[str], labels: list[str]) -> Feeder:
        times = self._times
        parts = plan.cut(self._seed, len(texts), REAL_JOBS)
        gap = (times.faults_end - times.undisturbed_seconds) / len(parts)
        real = [
            RealJob(began + times.undisturbed_seconds + number * gap, texts[first:end], labels[first:end])
            for number, (first, end) in enumerate(parts)
        ]
        jobs = plan.jobs(self._seed)
        return Feeder(self._api, self._tenants, self._ledger, jobs, lambda: self._overview.look().open, reference.MODEL, real)

    def _break(self, began: float, duties: "Duties") -> float:
        """Until it is time, and longer where the rows are not through by then. Returns when the last fault was over."""
        times = self._times
        self._say("faults from here on")
        for fault in plan.faults(self._seed):
            self._wait(time.monotonic() + fault.pause_seconds, duties)
            now = time.monotonic() - began
            if now >= times.faults_end_latest or (now >= times.faults_end and self._watch.last.done >= times.rows):
                break
            if (done := self._breaker.give(fault)) is not None:
                self._given[fault.kind] += 1
                self._watch.tell(f"{fault.kind} ({done})")
        self._breaker.end()
        return time.monotonic()

    def _drain(self, since: float, duties: "Duties") -> float:
        """Until every job has ended and was looked at. Returns when the last row was done."""
        self._say("no more faults, no more jobs")
        until = since + DRAIN_LIMIT_SECONDS
        drained_at = 0.0
        while self._ledger.open() and (drained_at or time.monotonic() < until):
            self._wait(time.monotonic() + 0.2, duties)
            if not drained_at and self._watch.last.open == 0 and not self._live_jobs():
                drained_at = time.monotonic()
        duties.stop_all()
        self._checker.give_up()
        return drained_at or time.monotonic()

    def _live_jobs(self) -> bool:
        states = self._overview.states([sent.load.job_id for sent in self._ledger.open()])
        return any(state in {"validating", "in_progress", "finalizing", "cancelling"} for state in states.values())

    def _late_rows(self) -> int:
        """Results of jobs that had been looked at and removed."""
        kept: list[UUID] = [*self._checker.kept, *(sent.load.job_id for sent in self._ledger.open())]
        with self._servers.superuser() as connection:
            found = connection.execute("SELECT count(*) FROM results WHERE NOT job_id = ANY(%s)", (kept,)).fetchone()
        assert found is not None
        return int(found[0])

    def _left_of_deleted(self) -> int:
        with self._servers.superuser() as connection:
            return left_of(connection, self._breaker.deleted)

    def _wait(self, until: float, duties: "Duties") -> None:
        while True:
            duties.raise_if_failed()
            if time.monotonic() >= self._size_at:
                self._peak_bytes = max(self._peak_bytes, self._servers.size_bytes() + _size_of(self._house.calls))
                self._size_at = time.monotonic() + SIZE_EVERY_SECONDS
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.5))


Duty = Callable[[threading.Event], None]


class Duties:
    """Threads that run until they are told to stop. What one of them raises, the main thread raises."""

    def __init__(self) -> None:
        self._stops: dict[threading.Thread, threading.Event] = {}
        self._errors: list[BaseException] = []

    def __enter__(self) -> "Duties":
        return self

    def __exit__(self, *_: object) -> None:
        for stop in self._stops.values():
            stop.set()

    def start(self, duty: Duty) -> threading.Thread:
        stop = threading.Event()

        def run() -> None:
            try:
                duty(stop)
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._stops[thread] = stop
        thread.start()
        return thread

    def stop(self, thread: threading.Thread) -> None:
        self._stops[thread].set()
        thread.join()
        self.raise_if_failed()

    def stop_all(self) -> None:
        for thread in self._stops:
            self.stop(thread)

    def raise_if_failed(self) -> None:
        if self._errors:
            raise self._errors[0]


@contextmanager
def _store(servers: Servers, role: Role, *, pool_size: int) -> Iterator[Store]:
    store = open_store(servers.settings, role, pool_size=pool_size)
    try:
        yield store
    finally:
        store.close()


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
