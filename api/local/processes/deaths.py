"""What is done for a worker that the supervisor saw die: its leases are given up at once, not when they run out.

The process was our child and is gone, so nobody waits for it. All of it may fail (the database may be what died): then the leases run out
by themselves, as those of a worker do that nobody watches.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from db.connect import Store, open_store
from db.operators import fleet
from db.queue import recovery
from db.queue.wakeups import ring_once
from db.settings import Role, StoreSettings
from db.sweeps import Place, Unfinished

# What the dead had sent may still be under way in its server process, which holds the shard's lock until it notices.
PATIENCE_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.1

log = logging.getLogger("textmill.up")


class Deaths:
    """Runs on threads of its own: the supervisor's must not wait for a database. ``tell`` gets a line for people."""

    def __init__(self, settings: StoreSettings, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._threads: list[threading.Thread] = []

    def saw(self, worker: str) -> None:
        """A worker of this name (host:pid:start) has ended and was reaped."""
        thread = threading.Thread(target=self._free, args=(worker,), name="death", daemon=True)
        thread.start()
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]

    def close(self) -> None:
        """Waits until what was seen has been dealt with."""
        for thread in self._threads:
            thread.join(2 * PATIENCE_SECONDS)

    def _free(self, worker: str) -> None:
        try:
            with closing(open_store(self._settings, Role.DISPATCHER, pool_size=1)) as store:
                freed = free_leases(store, worker)
        except Exception as error:  # of the driver: its text may quote an address
            log.warning("the leases of %s run out by themselves (%s)", worker, type(error).__name__)
            return
        if freed:
            self._tell(f"{worker} is dead: {freed} shard(s) it held are offered again")


def free_leases(store: Store, worker: str, *, patience_seconds: float = PATIENCE_SECONDS) -> int:
    """Frees what a dead worker holds, wakes the dispatcher, and strikes the worker off the list. Returns how many shards."""
    freed, place = 0, Place()
    until = time.monotonic() + patience_seconds
    while True:
        try:
            reaped = len(recovery.reap_leases(store, place, dead=worker))
        except Unfinished as unfinished:
            reaped = unfinished.done
        if reaped:
            ring_once(store)
        freed += reaped
        if not recovery.holds_leases(store, worker) or time.monotonic() >= until:
            break
        time.sleep(PAUSE_SECONDS)
    fleet.forget(store, worker)
    return freed
