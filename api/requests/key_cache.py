"""API keys that were found good a moment ago, so that a request costs no look-up of its own. Kept by hash, for seconds."""

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

from db.actors import Actor

MAX_KEYS: Final = 10_000


class KeyCache:
    """``seconds`` is how long a revoked key may go on working. Only good keys are kept: guessing fills nothing.

    Thread-safe.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._actors: TTLCache[bytes, Actor] = TTLCache(MAX_KEYS, seconds, timer=clock)

    def get(self, presented: str) -> Actor | None:
        with self._lock:
            return self._actors.get(_hash(presented))

    def put(self, presented: str, actor: Actor) -> None:
        with self._lock:
            self._actors[_hash(presented)] = actor

    def clear(self) -> None:
        """After a revocation in this process: at once."""
        with self._lock:
            self._actors.clear()


def _hash(presented: str) -> bytes:
    return hashlib.sha256(presented.encode()).digest()
