"""Exact duplicates of a job's texts are computed once: what was answered for the same tokens lately, in the memory of this process only.

Keys are hashes under a secret of the process, bound to the job: a hash says nothing about a text to whoever finds it in a dump, and what
one job sent never decides how fast another is answered. Every row still gets its own result, sealed and audited like any other.
"""

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Ids, Vectors

CAPACITY_BYTES: Final = 32 * 2**20  # some 17,000 answers of MiniLM: several shards' worth
ENTRY_BYTES: Final = 320  # what Python takes for a key, an array and their place, beside the array's numbers


class Duplicates:
    """Answers by (job, model and how it was run, tokens), least recently used out first. Thread-safe.

    Not cachetools' LRUCache: on the way of every row it takes 4.3 µs a row to look up and keep, this 1.8 (256 rows of 384 numbers, full).
    """

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._secret = secrets.token_bytes(32)
        self._capacity_bytes = capacity_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._answers: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()

    def keys(self, job: bytes | None, model_version: str, texts: Sequence[Ids]) -> list[bytes]:
        """One for each text; equal for equal tokens of the same job and model version, about a microsecond each. Without a job none are."""
        if job is None:
            return [place.to_bytes(8) for place in range(len(texts))]
        head = hashlib.blake2b(len(job).to_bytes(4) + job + model_version.encode(), key=self._secret, digest_size=16)
        keys = []
        for ids in texts:
            one = head.copy()
            one.update(ids.tobytes())
            keys.append(one.digest())
        return keys

    def find(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Those that are known."""
        with self._lock:
            found = {key: self._answers[key] for key in keys if key in self._answers}
            for key in found:
                self._answers.move_to_end(key)
        return found

    def keep(self, keys: Sequence[bytes], answers: Vectors) -> None:
        """`answers` [n, d], one a key."""
        with self._lock:
            for key, answer in zip(keys, answers, strict=True):
                if key not in self._answers:
                    self._answers[key] = answer.copy()  # a view would keep the whole batch alive
                    self._bytes += ENTRY_BYTES + answer.nbytes
            while self._bytes > self._capacity_bytes:
                self._bytes -= ENTRY_BYTES + self._answers.popitem(last=False)[1].nbytes
