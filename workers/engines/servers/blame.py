"""Whose fault it is that a request failed: the server's, or what was asked. Pure.

A server that fails at random, hangs or dies must cost no row its answer; a row that the server fails on each time must not keep its job
from ending. So a failure counts against what was asked only where the server has answered something else since the last one did, and by how
unlikely it is for a server that fails as often as this one does. Where that makes less than one in a billion, it is the row.

What was under way when a server died or hung is only suspected: it is asked alone from its second time on, and only then it counts.

That a server has too much to do is nobody's fault, unless it says so of one request for a quarter of an hour, time and again, with nothing
beside it, while it answers others: what is larger than a quota will ever be looks like that.
"""

import math
from dataclasses import dataclass
from typing import Final

CERTAIN: Final = math.log(1e9)
LEAST_RATE: Final = 0.1  # at which any server may fail: nine failures in a row are one in a billion
FORGETTING: Final = 0.98  # the rate is that of the last fifty requests or so
ALONE_AFTER: Final = 2
ALONE_AFTER_BUSY: Final = 4
LEAST_BUSY_SECONDS: Final = 900.0  # quotas are refilled by the minute, and what others ask of the server ends
FIRST_PAUSE_SECONDS: Final = 0.25


@dataclass(slots=True)
class Suspicion:
    """Against one request: ``losses`` it was under way for, ``failures``, ``busies`` (the server had too much to do, and had answered
    others since the last time; alone since ``busy_since``), ``evidence`` (natural logarithm), and when it failed last; ``part``: its own in
    what the server's rate is made of, as of the ``counted``-th event."""

    losses: int = 0
    failures: int = 0
    busies: int = 0
    busy_since: float = -math.inf
    evidence: float = 0.0
    failed_at: float = -math.inf
    part: float = 0.0
    counted: int = 0

    @property
    def alone(self) -> bool:
        """Whether it must be asked alone."""
        return self.losses >= ALONE_AFTER or self.busies >= ALONE_AFTER_BUSY

    @property
    def certain(self) -> bool:
        return self.evidence >= CERTAIN and self.failed_at - self.busy_since >= LEAST_BUSY_SECONDS


class Blame:
    """Of one server. ``good_at``: when it last answered anything."""

    def __init__(self) -> None:
        self._good = 0.0
        self._bad = 0.0
        self._events = 0
        self.good_at = -math.inf

    def rate(self, suspicion: Suspicion) -> float:
        """Of other requests, those that fail; 1 where nothing is known."""
        bad = max(0.0, self._bad - self._part(suspicion))
        return max(LEAST_RATE, (bad + 1) / (self._good + bad + 1))

    def succeeded(self, now: float) -> None:
        self.good_at = now
        self._count(good=1.0)

    def failed(self, now: float, suspicion: Suspicion, *, lost: bool, alone: bool) -> None:
        """``lost``: the connection ended or the server hung; ``alone``: nothing else was under way."""
        self._note(now, suspicion, counts=not lost or alone)
        suspicion.losses += lost
        suspicion.failures += 1

    def busy(self, now: float, suspicion: Suspicion) -> None:
        """The server has too much to do; which counts against what was asked alone for it."""
        if suspicion.busies >= ALONE_AFTER_BUSY and suspicion.busy_since == -math.inf:
            suspicion.busy_since = now
        answered_since = self.good_at > suspicion.failed_at
        self._note(now, suspicion, counts=suspicion.busies >= ALONE_AFTER_BUSY)
        suspicion.busies += answered_since

    def _note(self, now: float, suspicion: Suspicion, *, counts: bool) -> None:
        if counts and self.good_at > suspicion.failed_at > -math.inf:
            suspicion.evidence -= math.log(self.rate(suspicion))
        self._count(bad=1.0)
        suspicion.part, suspicion.counted = self._part(suspicion) + 1.0, self._events
        suspicion.failed_at = now

    def _count(self, good: float = 0.0, bad: float = 0.0) -> None:
        self._events += 1
        self._good, self._bad = self._good * FORGETTING + good, self._bad * FORGETTING + bad

    def _part(self, suspicion: Suspicion) -> float:
        return suspicion.part * FORGETTING ** (self._events - suspicion.counted)

    def needs_control(self, suspicion: Suspicion) -> bool:
        """Whether something harmless should be asked first, because nothing has been answered since the last failure."""
        was_only_busy = suspicion.failures == 0 and suspicion.failed_at > -math.inf
        return (suspicion.failures >= ALONE_AFTER or was_only_busy) and self.good_at <= suspicion.failed_at


def pause_seconds(failures: int, longest_seconds: float, jitter: float) -> float:
    """Before what failed so often is tried again; doubles, and half of it is drawn. ``jitter`` in [0, 1)."""
    whole = min(longest_seconds, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
    return whole * (0.5 + jitter / 2)
