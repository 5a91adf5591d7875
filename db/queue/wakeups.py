"""Words from one component to another that there is something to do, by NOTIFY: hints that may be lost, and that carry nothing.

The dispatcher looks once a second anyway. With a word it looks at once: a job neither waits for its first shard to be cut nor, when its
last row is written, for somebody to notice.
"""

import logging
import threading
from typing import Final

from psycopg import Connection as DriverConnection
from sqlalchemy import text

from db.connect import Store

CHANNEL: Final = "textmill_work"
# The first word goes at once, and those that come within this after it are one. A notifying transaction holds a lock of the whole server
# while it commits, so none goes with the work itself.
REST_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 1.0  # how late a listener notices that it should end

_LISTEN: Final = text(f"LISTEN {CHANNEL}")
# Nothing is stored, so there is nothing to wait for on the disk.
_NOTIFY: Final = text(f"SELECT set_config('synchronous_commit', 'off', true), pg_notify('{CHANNEL}', '')")

log = logging.getLogger("textmill.store")


def ring_once(store: Store) -> None:
    """For who rings once and goes. Raises what the store raises."""
    with store.transaction() as connection:  # which does not stumble over a connection that was lost in the pool
        connection.execute(_NOTIFY)


class Bell:
    """Rung after a commit; a thread of its own passes it on, and drops it where the store is away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rung = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._thread.start()

    def ring(self) -> None:
        self._rung.set()

    def close(self) -> None:
        """Passes on what was rung before, and ends."""
        self._closing.set()
        self._rung.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._rung.wait()
            self._rung.clear()
            last = self._closing.is_set()
            try:
                ring_once(self._store)
            except Exception as error:  # a bell that ended would make everything slower, and nobody would know why
                log.info("a wake-up was lost (%s)", type(error).__name__)
            if last:
                return
            self._closing.wait(REST_SECONDS)


class Listener:
    """Sets ``wake`` whenever somebody rang, on a connection of its own, which it makes again where it breaks."""

    def __init__(self, store: Store, wake: threading.Event) -> None:
        self._store = store
        self._wake = wake
        self._closing = threading.Event()
        self.ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(2 * CHECK_SECONDS)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except Exception as error:  # a listener that ended would make everything a second slower, and nobody would know why
                log.info("nobody listens for wake-ups for a moment (%s)", type(error).__name__)
                self._closing.wait(RETRY_SECONDS)

    def _listen(self) -> None:
        with self._store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, DriverConnection)
            try:
                connection.execute(_LISTEN)
                self.ready.set()
                while not self._closing.is_set():
                    for _ in driver.notifies(timeout=CHECK_SECONDS, stop_after=1):
                        self._wake.set()
            finally:
                connection.invalidate()  # it must not go back to the pool listening
