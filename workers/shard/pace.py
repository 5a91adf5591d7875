"""How much of a shard to run between two writes: about ``seconds`` of work, by what was measured last. Pure; the clock is the caller's.

Results are written chunk by chunk. A long chunk loses more when the worker dies or the job is cancelled, and delays a drain; a short one
costs transactions and gives the micro-batcher less to sort. The measured speed is a shard's own, with the others in flight beside it.
"""

from collections.abc import Sequence
from typing import Final

WEIGHT: Final = 0.5  # of the newest measurement: two chunks are enough to forget a wrong guess
GROWTH: Final = 4.0  # a chunk grows by this much at most: the first one may have met a cold cache, or a batch it shared


class Pace:
    """Parameters: ``seconds`` a chunk should take, and a first guess at the speed (the unit of size is the caller's)."""

    def __init__(self, seconds: float, speed: float) -> None:
        self._seconds = seconds
        self._speed = speed

    def take(self, sizes: Sequence[int]) -> int:
        """How many of the next rows make one chunk: one at least."""
        budget = self._seconds * self._speed
        total = 0
        for count, size in enumerate(sizes):
            total += size
            if total > budget and count:
                return count
        return len(sizes)

    def report(self, size: int, seconds: float) -> None:
        """A chunk of ``size`` took ``seconds``."""
        measured = size / max(seconds, 1e-3)
        self._speed = max(1.0, (1 - WEIGHT) * self._speed + WEIGHT * min(measured, GROWTH * self._speed))
