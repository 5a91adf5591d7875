"""Several calls of the store at once, one statement at a time, in an order that a test decides.

Each call runs on a thread of its own and stops before every statement and every commit. :meth:`Turnstile.step` lets one through. A call
that waits for a lock is left waiting: it goes on by itself once the lock is free, up to its next stop. So between two steps everything
stands still, and at most one transaction has been committed.
"""

import threading
import time
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, event

from db import bulk

LOOK_SECONDS: Final = 0.004  # how long a statement may take before it is asked whether it waits for a lock
PATIENCE_SECONDS: Final = 30.0


class Place(Enum):
    GOING = auto()
    STOPPED = auto()
    OVER = auto()


class Call:
    """One call. When it is over, ``error`` says how it failed, or ``result`` what it returned."""

    def __init__(self, name: str, act: Callable[[], object]) -> None:
        self.name = name
        self.act = act
        self.place = Place.GOING
        self.pid: int | None = None  # of its connection's backend
        self.statement = ""  # before which it stands, or that it is in
        self.result: Any = None
        self.error: BaseException | None = None

    @property
    def over(self) -> bool:
        return self.place is Place.OVER


class Turnstile:
    """``watch``: a connection that sees every lock (a superuser's, autocommit)."""

    def __init__(self, watch: "psycopg.Connection[Any]") -> None:
        self._watch = watch
        self._moved = threading.Condition()
        self._mine = threading.local()
        self._calls: list[Call] = []
        self._threads: list[threading.Thread] = []
        self._open = False

    def stand_before(self, engines: Iterable[Engine], patch: Callable[[object, str, object], None]) -> None:
        """In front of all that these engines execute, and of what goes past them to the driver (``patch`` as monkeypatch.setattr)."""
        for engine in engines:
            event.listen(engine, "before_cursor_execute", lambda conn, _cursor, statement, *_: self._stop(conn, statement))
            event.listen(engine, "commit", lambda conn: self._stop(conn, "COMMIT"))
        for name in ("fetch", "stage"):
            patch(bulk, name, self._stopping(name, getattr(bulk, name)))

    def start(self, name: str, act: Callable[[], object]) -> Call:
        """Runs ``act`` up to its first statement."""
        call = Call(name, act)
        self._calls.append(call)
        thread = threading.Thread(target=self._run, args=(call,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        self._settle()
        return call

    def step(self, call: Call) -> None:
        """Lets a call do one statement, where it is not waiting for a lock; and whoever that sets free, up to its next stop."""
        with self._moved:
            if call.place is Place.STOPPED:
                call.place = Place.GOING
                self._moved.notify_all()
        self._settle()

    def run_to(self, call: Call, statement: str) -> None:
        """Lets a call through until it stands before a statement that has this in it."""
        while statement not in call.statement:
            assert not call.over, call.error
            self.step(call)

    def open(self) -> None:
        """Everything runs to its end, and whatever is started afterwards runs freely."""
        with self._moved:
            self._open = True
            self._moved.notify_all()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), thread.name
        self._threads.clear()
        self._calls.clear()

    def close(self) -> None:
        """Stops calls again."""
        self._open = False

    # The calls' side.

    def _run(self, call: Call) -> None:
        self._mine.call = call
        try:
            call.result = call.act()
        except BaseException as error:
            call.error = error
        with self._moved:
            call.place = Place.OVER
            self._moved.notify_all()

    def _stop(self, conn: Connection, statement: str) -> None:
        call: Call | None = getattr(self._mine, "call", None)
        if call is None:
            return
        driver = conn.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with self._moved:
            if self._open:
                return
            call.pid, call.statement, call.place = driver.info.backend_pid, statement, Place.STOPPED
            self._moved.notify_all()
            self._moved.wait_for(lambda: self._open or call.place is Place.GOING)

    def _stopping(self, name: str, act: Callable[..., object]) -> Callable[..., object]:
        def stop_and_act(conn: Connection, *rest: object) -> object:
            self._stop(conn, name)
            return act(conn, *rest)

        return stop_and_act

    # The scheduler's side.

    def _settle(self) -> None:
        """Until every call has stopped, is over, or waits for a lock."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            with self._moved:
                if self._moved.wait_for(lambda: not self._going(), timeout=LOOK_SECONDS):
                    break
                going = self._going()
            # A lock that is let go is granted to the next in line by whoever lets it go: this view is never behind.
            waiting = {pid for (pid,) in self._watch.execute("SELECT pid FROM pg_locks WHERE NOT granted")}
            if {call.pid for call in going} <= waiting and self._going() == going:
                break
            assert time.monotonic() < until, f"neither done nor waiting: {[call.name for call in going]}"
        self._calls = [call for call in self._calls if not call.over]

    def _going(self) -> list[Call]:
        return [call for call in self._calls if call.place is Place.GOING]
