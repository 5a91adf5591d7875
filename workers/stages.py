"""Where the time of a job goes: seconds by stage, and how much of the lanes' time the job had. No I/O; the clock is passed in.

A shard's thread is in one stage at a time, but for ``model``: that is the lanes' time, shared out by tokens among the calls whose rows were
in a batch, so that it adds up to the time the lanes were busy. With several lanes it may pass the time that the thread waited for them.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

STAGES: Final = ("open", "tokenise", "queue", "model", "seal", "commit")


@dataclass(slots=True)
class StageSeconds:
    """``open``: read the rows under the lease, open and parse them, resolve names. ``tokenise``: texts to ids. ``queue``: waiting for the
    micro-batcher while other rows ran. ``model``: this call's share of its batches' seconds. ``seal``: from the model's numbers to sealed
    answers. ``commit``: the transactions that write them."""

    open: float = 0.0
    tokenise: float = 0.0
    queue: float = 0.0
    model: float = 0.0
    seal: float = 0.0
    commit: float = 0.0

    def add(self, other: "StageSeconds") -> None:
        for stage in STAGES:
            setattr(self, stage, getattr(self, stage) + getattr(other, stage))

    def as_dict(self) -> dict[str, float]:
        """``{"open_seconds": …}``: how the sums are named in a job's metrics."""
        return {metric_of(stage): getattr(self, stage) for stage in STAGES}


def metric_of(stage: str) -> str:
    return f"{stage}_seconds"


def queued(waited_seconds: float, model_seconds: float) -> float:
    """What a call waited beyond its own rows' time on the lanes. None of it, where several lanes did more for it than it waited."""
    return max(0.0, waited_seconds - model_seconds)


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


def stage_seconds(metrics: Mapping[str, float]) -> dict[str, float]:
    """By stage, in the order of the work, from a job's metrics."""
    return {stage: metrics.get(metric_of(stage), 0.0) for stage in STAGES}
