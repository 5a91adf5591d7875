"""What a process keeps of what it saw, so that it need not ask again.

What a transaction saw is kept once that has committed: the event that stands for the look would not outlast a rollback.
"""

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from cachetools import LRUCache
from sqlalchemy import Connection

Key = TypeVar("Key")
Value = TypeVar("Value")
_AFTER_COMMIT: Final = "textmill after commit"


class Recent(Generic[Key, Value]):
    """At most ``size`` values; the least recently used go first. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._values: LRUCache[Key, Value] = LRUCache(size)

    def get(self, key: Key) -> Value | None:
        with self._lock:
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        with self._lock:
            self._values[key] = value

    def put_after(self, conn: Connection, key: Key, value: Value) -> None:
        """Once the transaction on ``conn``, one of the store's, has committed."""
        conn.info[_AFTER_COMMIT].append(lambda: self.put(key, value))

    def drop(self, key: Key) -> None:
        with self._lock:
            self._values.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._values.clear()


def until_commit(conn: Connection) -> list[Callable[[], None]]:
    """What is to be done once the transaction that begins on ``conn`` has committed; more is added to it until then."""
    waiting: list[Callable[[], None]] = []
    conn.info[_AFTER_COMMIT] = waiting
    return waiting
