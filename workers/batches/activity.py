"""What rows are under way on the lanes of this process, for whoever would do something beside them."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from workers.batches.policy import Work


@dataclass(frozen=True, slots=True)
class Busy:
    """Calls under way, and since when, in seconds, there has been none."""

    interactive: int
    bulk: int
    idle_seconds: float


class Activity:
    """Thread-safe. ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._calls = dict.fromkeys(Work, 0)
        self._changes = 0
        self._idle_since = clock()

    def enter(self, work: Work) -> Callable[[object], None]:
        """A call is under way until what this returns is called, by whatever it is when it is done."""
        with self._changed:
            self._calls[work] += 1
            self._note()
        return lambda _: self.leave(work)

    def leave(self, work: Work) -> None:
        with self._changed:
            self._calls[work] -= 1
            self._note()

    @property
    def now(self) -> Busy:
        with self._changed:
            under_way = any(self._calls.values())
            idle_seconds = 0.0 if under_way else self._clock() - self._idle_since
            return Busy(self._calls[Work.INTERACTIVE], self._calls[Work.BULK], idle_seconds)

    @property
    def somebody_waits(self) -> bool:
        """Whether an interactive row does. Read often, hence without the lock."""
        return self._calls[Work.INTERACTIVE] > 0

    def mark(self) -> int:
        return self._changes

    def quiet_since(self, mark: int) -> bool:
        """Whether no row was on its way at any moment since then."""
        with self._changed:
            return self._changes == mark and not any(self._calls.values())

    def wait(self, seconds: float) -> None:
        """Until a call comes or ends, for so long at most."""
        with self._changed:
            self._changed.wait(seconds)

    def wake(self) -> None:
        """Ends every wait."""
        with self._changed:
            self._changed.notify_all()

    def _note(self) -> None:
        self._changes += 1
        self._idle_since = self._clock()
        self._changed.notify_all()
