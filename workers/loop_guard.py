"""What keeps the threads of a process going: an error in one round of a loop is told by type and place, once, and the next round comes.
Where a thread ends all the same, so does the process, and whoever supervises it starts it again: none goes on without one of its duties.
"""

import logging
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from workers.logs import place_of

EX_SOFTWARE: Final = 70  # whoever supervises starts it again

log = logging.getLogger("textmill")


def on_duty(work: Callable[[], None], name: str, *, end: Callable[[int], object] = os._exit) -> threading.Thread:
    """A thread that the process is nothing without, not yet started. An error that ends ``work`` ends the process, as a kill would: leases
    and the lead run out."""

    def run() -> None:
        try:
            work()
        except BaseException as error:
            log.critical("thread %s ended by %s at %s, and this process ends with it", name, type(error).__name__, place_of(error))
            end(EX_SOFTWARE)

    return threading.Thread(target=run, name=name, daemon=True)


class Guard:
    """Surrounds one round. ``what`` failed, in words. Not for work whose failure somebody else must hear of."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._failing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> bool:
        if error is None:
            if self._failing:
                self._log.info("%s works again", self._what)
            self._failing = False
            return False
        if not isinstance(error, Exception):
            return False
        if not self._failing:
            self._log.error("%s failed: %s at %s; it is tried again", self._what, type(error).__name__, place_of(error))
        self._failing = True
        return True
