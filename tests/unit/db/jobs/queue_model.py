"""Workers and the fair order of `db.queue.turns`, shard by shard, on a clock of their own: what a forecast is held against."""

import math
from collections import defaultdict
from dataclasses import dataclass, field

THREADS = 4  # shards in flight of a worker, which share it evenly


@dataclass
class Job:
    """``shards``: worker-seconds of each, as they truly are."""

    tenant: int
    order: tuple[float, ...]
    shards: list[float]
    made_at: float = 0.0
    done_at: float = math.nan


@dataclass
class _Flight:
    job: Job
    left: float


@dataclass
class Simulated:
    workers: int
    now: float = 0.0
    jobs: list[Job] = field(default_factory=list)
    flights: list[list[_Flight]] = field(init=False)

    def __post_init__(self) -> None:
        self.flights = [[] for _ in range(self.workers)]

    def add(self, job: Job) -> None:
        self.jobs.append(job)

    def open_work(self, job: Job) -> float:
        in_flight = sum(each.left for worker in self.flights for each in worker if each.job is job)
        return sum(job.shards) + in_flight

    def run(self, until: float = math.inf) -> None:
        """Up to a moment, or to the end of all jobs."""
        self._claim()
        while any(self.flights) and self.now < until:
            step = min(min(each.left for each in worker) * len(worker) for worker in self.flights if worker)
            step = min(step, until - self.now)
            self.now += step
            for worker in self.flights:
                for each in worker:
                    each.left -= step / len(worker)
                ended = [each for each in worker if each.left <= 1e-9]
                worker[:] = [each for each in worker if each.left > 1e-9]
                for each in ended:
                    if not self.open_work(each.job):
                        each.job.done_at = self.now
            self._claim()
        self.now = max(self.now, until) if math.isfinite(until) else self.now

    def _claim(self) -> None:
        """The next shard goes to whoever has the fewest in flight: of the tenant with the least in work, of it the first job."""
        while any(job.shards for job in self.jobs):
            worker = min(self.flights, key=len)
            if len(worker) == THREADS:
                return
            busy: dict[int, float] = defaultdict(float)
            for each in (each for other in self.flights for each in other):
                busy[each.job.tenant] += 1
            waiting = [job for job in self.jobs if job.shards]
            job = min(waiting, key=lambda each: (busy[each.tenant], each.order))
            worker.append(_Flight(job, job.shards.pop(0)))
