"""How much of the lanes' time a job could have had: which jobs have a shard in flight in this process, and for how long."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from workers.stages import StageSeconds


@dataclass(slots=True)
class _Presence:
    shards: int
    counted_to: float
    late: StageSeconds


class InFlight:
    """The jobs with a shard in flight in this process, and for how long; shards of one job at the same time count once. Thread-safe.

    Over all workers the seconds, times each worker's lanes, sum to the time that the job could have had of the lanes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[UUID, _Presence] = {}

    def enter(self, job_id: UUID) -> None:
        with self._lock:
            presence = self._jobs.setdefault(job_id, _Presence(0, self._clock(), StageSeconds()))
            presence.shards += 1

    def leave(self, job_id: UUID) -> None:
        with self._lock:
            presence = self._jobs[job_id]
            presence.shards -= 1
            if presence.shards == 0:
                del self._jobs[job_id]

    def come_late(self, job_id: UUID, late: StageSeconds) -> None:
        """What was known only after the write it belongs to (a commit): goes with the job's next write of this process, if there is one."""
        with self._lock:
            self._jobs[job_id].late.add(late)

    def take(self, job_id: UUID) -> tuple[float, StageSeconds]:
        """Seconds in flight since the last call, and what came late. For a job that entered."""
        with self._lock:
            presence, now = self._jobs[job_id], self._clock()
            seconds, presence.counted_to = now - presence.counted_to, now
            late, presence.late = presence.late, StageSeconds()
            return seconds, late
