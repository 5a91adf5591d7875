"""Calls of a tokenizer, each within a time that its texts could take.

A thread that is inside a pattern cannot be stopped. So the call has one of its own, and whoever waits goes on without it: the model is not
used any more, and other models' rows are not held up.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar

from db.errors import TextmillError
from workers.engines.folders.files import broken

FIRST_SECONDS: Final = 15.0  # whatever the length: the machine may be busy
LEAST_CHARS_PER_SECOND: Final = 20_000  # a fiftieth of what tokenizers do on one busy core
T = TypeVar("T")


class TimeLimit:
    """Of one model's tokenizer. Thread-safe."""

    def __init__(self, folder: Path, *, first_seconds: float = FIRST_SECONDS) -> None:
        self._folder = folder
        self._first_seconds = first_seconds
        self._is_stuck = False

    def run(self, call: Callable[[], T], chars: int) -> T:
        """What ``call`` returns or raises. Raises TextmillError "model_broken" where it gives up, or does not end in time; after that
        at once."""
        if self._is_stuck:
            raise self._told()
        done: Future[T] = Future()
        threading.Thread(target=_fulfil, args=(done, call), name="tokenizer", daemon=True).start()
        try:
            return done.result(self._first_seconds + chars / LEAST_CHARS_PER_SECOND)
        except TimeoutError:
            self._is_stuck = True
            raise self._told() from None
        except _GaveUp:
            raise self._told() from None

    def _told(self) -> TextmillError:
        return broken(self._folder, "its tokenizer did not come to an end over a text: a pattern in tokenizer.json takes too long.")


class _GaveUp(Exception):
    """A panic of the library: a pattern took more tries than it gets."""


def _fulfil(done: "Future[T]", call: Callable[[], T]) -> None:
    try:
        done.set_result(call())
    except Exception as error:
        done.set_exception(error)
    except BaseException:  # no Exception: it would end the thread, and a worker's with it
        done.set_exception(_GaveUp())
