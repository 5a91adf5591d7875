"""Sizes of result files that were counted before, so that each is counted once a process."""

import threading
from typing import Final

from cachetools import LRUCache

from db.jobs.file_lists import ResultFile

MAX_FILES: Final = 100_000


class SizeCache:
    """Of files that do not change any more: those of jobs that have ended, by job, file and run; in bytes. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: LRUCache[ResultFile, int] = LRUCache(MAX_FILES)

    def get(self, file: ResultFile) -> int | None:
        with self._lock:
            return self._sizes.get(file)

    def put(self, file: ResultFile, size_bytes: int) -> None:
        with self._lock:
            self._sizes[file] = size_bytes
