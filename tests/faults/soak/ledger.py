"""The jobs that were sent and not yet looked at. Every part of the soak has it in hand; it has a lock of its own."""

import random
import threading
from dataclasses import dataclass
from uuid import UUID

from tests.faults.counters import Load


@dataclass(frozen=True, slots=True)
class Sent:
    """``cancellable``: small, and of the null model."""

    load: Load
    cancellable: bool

    @property
    def is_real(self) -> bool:
        return self.load.answers is not None


class Ledger:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[UUID, Sent] = {}
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

    def remove(self, job_id: UUID) -> None:
        with self._lock:
            del self._open[job_id]

    def open(self) -> list[Sent]:
        with self._lock:
            return list(self._open.values())

    def cancellable(self, draw: float) -> list[Sent]:
        """Those that may be cancelled, in an order that ``draw`` decides."""
        candidates = [sent for sent in self.open() if sent.cancellable]
        random.Random(draw).shuffle(candidates)
        return candidates
