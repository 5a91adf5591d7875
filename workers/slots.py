"""The shards in flight of one process: a fixed number of slots, whoever wakes them (a message or the poller).

Some more slots are kept for interactive shards: were all taken by bulk, a small job would wait until a whole shard of it is done.
"""

import threading


class Slots:
    def __init__(self, count: int, *, kept: int = 0) -> None:
        self.count = count
        self.kept = kept
        self._free = count
        self._kept_free = kept
        self._changed = threading.Condition()
        self._closed = False

    def take(self) -> bool:
        """Waits for a slot. False once the slots are closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 or self._closed)
            if self._closed:
                return False
            self._free -= 1
            return True

    def take_idle(self) -> int:
        """All slots that are free now, without waiting; not those kept for interactive shards."""
        with self._changed:
            taken, self._free = (0, self._free) if self._closed else (self._free, 0)
            return taken

    def take_kept(self) -> int:
        """All slots kept for interactive shards that are free now, without waiting. To be given back with `give_kept`."""
        with self._changed:
            taken, self._kept_free = (0, self._kept_free) if self._closed else (self._kept_free, 0)
            return taken

    def give(self, count: int = 1) -> None:
        with self._changed:
            self._free += count
            self._changed.notify_all()

    def give_kept(self, count: int = 1) -> None:
        with self._changed:
            self._kept_free += count
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
