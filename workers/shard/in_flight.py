"""How much of this process's time went into a job: which jobs have a shard in flight in it, and for how long."""

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
    counted_each: float
    worker_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Taken:
    """Of a job since the last look. ``held_seconds``: in which it had shards in flight; ``worker_seconds``: its part of them, where shards
    in flight together share the process evenly: over all jobs they sum to the time that the process was busy. ``late``: what came late."""

    held_seconds: float
    worker_seconds: float
    late: StageSeconds


class InFlight:
    """The jobs with a shard in flight in this process, and for how long; shards of one job at the same time count once. Thread-safe.

    Over all workers the seconds, times each worker's lanes, sum to the time that the job could have had of the lanes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[UUID, _Presence] = {}
        self._shards = 0
        self._each = 0.0  # seconds that a shard would have had that was always in flight
        self._each_to = clock()

    def enter(self, job_id: UUID) -> None:
        with self._lock:
            now = self._settle(job_id)
            presence = self._jobs.setdefault(job_id, _Presence(0, now, StageSeconds(), self._each))
            presence.shards += 1
            self._shards += 1

    def leave(self, job_id: UUID) -> None:
        with self._lock:
            self._settle(job_id)
            presence = self._jobs[job_id]
            presence.shards -= 1
            self._shards -= 1
            if presence.shards == 0:
                del self._jobs[job_id]

    def loaded(self, job_id: UUID) -> None:
        """What it waited for was a model that loaded: no part of what its rows take."""
        with self._lock:
            self._settle(job_id)
            self._jobs[job_id].worker_seconds = 0.0

    def come_late(self, job_id: UUID, late: StageSeconds) -> None:
        """What was known only after the write it belongs to (a commit): goes with the job's next write of this process, if there is one."""
        with self._lock:
            self._jobs[job_id].late.add(late)

    def take(self, job_id: UUID) -> Taken:
        """Since the last call. For a job that entered."""
        with self._lock:
            now, presence = self._settle(job_id), self._jobs[job_id]
            taken = Taken(now - presence.counted_to, presence.worker_seconds, presence.late)
            presence.counted_to, presence.worker_seconds, presence.late = now, 0.0, StageSeconds()
            return taken

    def _settle(self, job_id: UUID) -> float:
        """Counts up to now, which it returns."""
        now = self._clock()
        if self._shards:
            self._each += (now - self._each_to) / self._shards
        self._each_to = now
        if (presence := self._jobs.get(job_id)) is not None:
            presence.worker_seconds += presence.shards * (self._each - presence.counted_each)
            presence.counted_each = self._each
        return now
