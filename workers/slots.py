"""The shards in flight of one process: a fixed number of slots, whoever wakes them (a message or the poller)."""

import threading


class Slots:
    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
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
        """All slots that are free now, without waiting."""
        with self._changed:
            taken, self._free = (0, self._free) if self._closed else (self._free, 0)
            return taken

    def give(self, count: int = 1) -> None:
        with self._changed:
            self._free += count
            self._changed.notify_all()

    def close(self) -> None:
        """No slot is given out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_all_free(self, timeout_seconds: float) -> bool:
        """True when nothing is in flight any more."""
        with self._changed:
            return self._changed.wait_for(lambda: self._free == self.count, timeout_seconds)
