"""Two workers and a dispatcher, each started again when it has ended, as a supervisor would. One thread."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.faults.house import House, Process

WORKERS: Final = ("first worker", "second worker")
DISPATCHER: Final = "dispatcher"
LOOK_SECONDS: Final = 0.2
DRAIN_LIMIT_SECONDS: Final = 45.0  # its own limit, and some: then a supervisor kills


@dataclass(slots=True)
class Kept:
    process: Process
    told_to_end_at: float | None = None
    killed: bool = False


class Keeper:
    """``codes``: how those ended that nobody had killed or told to; ``starts``: of all."""

    def __init__(self, house: House, environment: Mapping[str, str]) -> None:
        self._house = house
        self._environment: dict[str, Any] = dict(environment)
        self._lock = threading.Lock()
        self._kept: dict[str, Kept] = {}
        self.starts = 0
        self.codes: Counter[int] = Counter()
        self.drain_codes: Counter[int] = Counter()

    def start_all(self) -> None:
        with self._lock:
            for name in (DISPATCHER, *WORKERS):
                self._start(name)

    def kill(self, name: str) -> None:
        with self._lock:
            kept = self._kept[name]
            kept.killed = True
            kept.process.popen.kill()

    def drain(self, name: str) -> None:
        with self._lock:
            kept = self._kept[name]
            kept.told_to_end_at = kept.told_to_end_at or time.monotonic()
            kept.process.popen.terminate()

    def process(self, name: str) -> Process:
        with self._lock:
            return self._kept[name].process

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        with self._lock:
            for name, kept in self._kept.items():
                code = kept.process.popen.poll()
                if code is None:
                    if kept.told_to_end_at is not None and time.monotonic() - kept.told_to_end_at > DRAIN_LIMIT_SECONDS:
                        kept.process.popen.kill()
                    continue
                if kept.told_to_end_at is not None and not kept.killed:
                    self.drain_codes[code] += 1
                elif not kept.killed:
                    self.codes[code] += 1
                self._start(name)

    def _start(self, name: str) -> None:
        started = self._house.start_dispatcher(**self._environment) if name == DISPATCHER else self._house.start_worker(**self._environment)
        self._kept[name] = Kept(started)
        self.starts += 1
