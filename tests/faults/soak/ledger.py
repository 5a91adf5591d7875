"""The jobs that were sent and not yet looked at. Every part of the soak has it in hand; it has a lock of its own.

Whoever looks at a job that has ended, runs it again or deletes it takes it out first: so nobody else does at the same time.
"""

import random
import threading
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tests.faults.counters import Load
from tests.faults.soak.plan import HANDY_ROWS

MAX_ASIDE: Final = 8


@dataclass(frozen=True, slots=True)
class Sent:
    """``cancellable``: small, and of the null model. ``retried``: it was run again, and ends completed."""

    load: Load
    cancellable: bool
    retried: bool = False

    @property
    def is_real(self) -> bool:
        return self.load.answers is not None

    @property
    def handy(self) -> bool:
        """May be run again and deleted."""
        return not self.is_real and len(self.load.texts) <= HANDY_ROWS


class Ledger:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[UUID, Sent] = {}
        self._aside: dict[UUID, Sent] = {}  # ended and looked at, with rows that may run again
        self._takes_aside = True
        self.rows = 0  # of the null model, sent so far
        self.real_rows = 0
        self.jobs = 0

    def add(self, sent: Sent) -> None:
        with self._lock:
            self._open[sent.load.job_id] = sent
            self.jobs += 1
            if sent.is_real:
                self.real_rows += len(sent.load.texts)
            else:
                self.rows += len(sent.load.texts)

    def take(self, job_id: UUID) -> Sent | None:
        """Out of it; None where somebody else has taken it."""
        with self._lock:
            return self._open.pop(job_id, None) or self._aside.pop(job_id, None)

    def put_back(self, sent: Sent) -> None:
        """It runs again."""
        with self._lock:
            self._open[sent.load.job_id] = sent

    def set_aside(self, sent: Sent) -> bool:
        """Whether it is kept, for somebody to run it again: once, and only while that may happen. Of too many the smallest goes."""
        with self._lock:
            if not self._takes_aside or sent.retried or not sent.handy:
                return False
            if len(self._aside) >= MAX_ASIDE:
                smallest = min(self._aside.values(), key=lambda one: len(one.load.texts))
                if len(smallest.load.texts) >= len(sent.load.texts):
                    return False
                self._open[smallest.load.job_id] = self._aside.pop(smallest.load.job_id)
            self._aside[sent.load.job_id] = sent
            return True

    def end_retries(self) -> None:
        """What was kept need not be any longer."""
        with self._lock:
            self._takes_aside = False
            self._open.update(self._aside)
            self._aside.clear()

    def open(self) -> list[Sent]:
        with self._lock:
            return list(self._open.values())

    def cancellable(self, draw: float) -> list[Sent]:
        """Those that may be cancelled, in an order that ``draw`` decides."""
        candidates = [sent for sent in self.open() if sent.cancellable]
        random.Random(draw).shuffle(candidates)
        return candidates

    # In an order that ``draw`` decides, too, but the larger a job is the sooner: most are tiny, and there nothing goes wrong.

    def pausable(self, draw: float) -> list[Sent]:
        return _by_rows(self.open(), draw)

    def retriable(self, draw: float) -> list[Sent]:
        with self._lock:
            return _by_rows(list(self._aside.values()), draw)

    def deletable(self, draw: float) -> list[Sent]:
        with self._lock:
            return _by_rows([sent for sent in (*self._open.values(), *self._aside.values()) if sent.handy], draw)


def _by_rows(candidates: list[Sent], draw: float) -> list[Sent]:
    """Drawn one after the other, each with a chance as large as its rows are many. (Efraimidis and Spirakis, 2006.)"""
    chance = random.Random(draw)
    return sorted(candidates, key=lambda sent: chance.random() ** (1 / len(sent.load.texts)), reverse=True)
