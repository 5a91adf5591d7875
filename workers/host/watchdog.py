"""Ends a process whose model never comes back.

A thread inside a native call cannot be stopped, and holds its lane for ever, with the shards whose rows are in its batch. So when one
micro-batch has run for ``hang_seconds``, whatever the other lanes do, or work is under way and none has begun or ended for as long, the
process ends at once: its leases run out, the store counts a crash and finds the row to blame, and a supervisor starts the process again.

A call that keeps the interpreter to itself stops this thread too. For that there is a timer of C's, set anew at each look: when nobody has
for `STARVED_SECONDS` more, it writes where the threads stand, which holds no values, and ends the process (with 1).
"""

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from workers.loop_guard import on_duty

EX_HANG: Final = 75
CHECK_SECONDS: Final = 1.0
STARVED_SECONDS: Final = 10.0  # a machine that is busy may keep the thread from looking for some

log = logging.getLogger("textmill.watchdog")


class Watchdog:
    """``watch`` surrounds each call of the runtime, ``batch`` each run of a micro-batch; a real ``end`` does not return."""

    def __init__(
        self, hang_seconds: float, *, clock: Callable[[], float] = time.monotonic, end: Callable[[int], object] = os._exit
    ) -> None:
        self._hang_seconds = hang_seconds
        self._clock = clock
        self._end = end
        self._lock = threading.Lock()
        self._calls = 0
        self._batches: dict[int, float] = {}  # when each that runs began, by its lane's thread
        self._last_sign = clock()

    def start(self) -> None:
        """Of one watchdog a process: there is one such timer."""
        self._set_timer()
        on_duty(self._run, "watchdog").start()

    @contextmanager
    def watch(self) -> Iterator[None]:
        with self._lock:
            if self._calls == 0:
                self._last_sign = self._clock()
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                self._last_sign = self._clock()

    @contextmanager
    def batch(self) -> Iterator[None]:
        lane = threading.get_ident()
        with self._lock:
            self._batches[lane] = self._last_sign = self._clock()
        try:
            yield
        finally:
            with self._lock:
                del self._batches[lane]
                self._last_sign = self._clock()

    def check(self) -> None:
        with self._lock:
            signs = [*self._batches.values(), *([self._last_sign] if self._calls else [])]
            hangs = bool(signs) and self._clock() - min(signs) > self._hang_seconds
        if hangs:
            log.critical("a micro-batch did not end for %.0f s: the model hangs, and this process ends", self._hang_seconds)
            self._end(EX_HANG)

    def _run(self) -> None:
        while True:
            time.sleep(min(CHECK_SECONDS, self._hang_seconds / 4))
            self.check()
            self._set_timer()

    def _set_timer(self) -> None:
        faulthandler.dump_traceback_later(self._hang_seconds + STARVED_SECONDS, exit=True)
