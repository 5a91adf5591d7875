"""What keeps a thread of the process going: an error in one round of its loop is told by type and place, once, and the next round comes."""

import logging
from types import TracebackType
from typing import Self

from workers.logs import place_of


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
