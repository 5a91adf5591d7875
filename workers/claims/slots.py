"""The shards in flight of one process: a fixed number of slots, whoever wakes them (a message or the poller).

Some more slots are kept for interactive shards, and for newcomers: were all taken by bulk, a small job would wait until a whole shard of it
is done. A newcomer has no need of its own where an ordinary slot is free.
"""

import threading
from collections.abc import Mapping
from typing import Final

from db.queue.shards import Kept

# Beside those of all shards; the poller fills them (a message thread more would only hold a bulk message back).
KEPT_SLOTS: Final = {Kept.INTERACTIVE: 1, Kept.NEWCOMER: 1}


class Slots:
    def __init__(self, count: int, kept: Mapping[Kept, int] | None = None) -> None:
        self.count = count
        self.kept = dict(kept or {})
        self._free = count
        self._kept_free = dict(self.kept)
        self._changed = threading.Condition()
        self._closed = False

    @property
    def in_all(self) -> int:
        return self.count + sum(self.kept.values())

    def take(self) -> bool:
        """Waits for a slot. False once the slots are closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 or self._closed)
            if self._closed:
                return False
            self._free -= 1
            return True

    def take_idle(self) -> int:
        """All slots that are free now, without waiting; not those that are kept."""
        with self._changed:
            taken, self._free = (0, self._free) if self._closed else (self._free, 0)
            return taken

    def take_kept(self, kept: Kept) -> int:
        """All slots kept for such shards that are free now, without waiting. To be given back with `give_kept`."""
        with self._changed:
            free = self._kept_free.get(kept, 0)
            if self._closed or free == 0 or (kept is Kept.NEWCOMER and self._free > 0):
                return 0
            self._kept_free[kept] = 0
            return free

    def give(self, count: int = 1) -> None:
        with self._changed:
            self._free += count
            self._changed.notify_all()

    def give_kept(self, kept: Kept, count: int = 1) -> None:
        if count == 0:
            return
        with self._changed:
            self._kept_free[kept] += count
            self._changed.notify_all()

    def close(self) -> None:
        """No slot is given out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def open(self) -> None:
        """Slots are given out again."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()

    def wait_all_free(self, timeout_seconds: float) -> bool:
        """True when nothing is in flight any more."""
        with self._changed:
            return self._changed.wait_for(lambda: (self._free, self._kept_free) == (self.count, self.kept), timeout_seconds)
