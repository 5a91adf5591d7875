"""When a job will be done: the queue as it is now, run forward. Pure, no I/O; what was measured and what waits are arguments.

The unit is a **worker-second**: a second of one worker, all of it (see :mod:`workers.shard.in_flight`). What the rows of one task and model
take of it was measured on shards that ended lately, whatever ran beside them. The order is that of :mod:`db.queue.turns`: tenants share
the workers evenly, and of one tenant the jobs come one after the other, as far as there are shards for all that a worker holds at once.
What nobody knows yet (jobs that come, a worker that goes) is left out.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

ROUND_SECONDS: Final = 0.5  # to be cut into shards and to be ended, each at a round of the dispatcher's
LEAST_SECONDS: Final = 0.5  # of worker-seconds: less says nothing of a speed
READ_COST: Final = 1 / 40  # of a character of a prompt, in tokens that are written: some 4 make a token, which is read 10 times as fast
THREADS: Final = 4  # shards that a worker holds at once, by default
MOST_JOBS: Final = 64  # of a queue that is run forward
NOTHING: Final = 1e-9  # of a shard: what is left by rounding
MOST_SECONDS: Final = 10 * 365 * 86_400.0
LIMITED: Final = 0.9  # of what answers may have: where they have so much of it, it is the limit that ends them


@dataclass(frozen=True, slots=True)
class Measured:
    """Sums over shards of one task and model that ended lately. ``limit_tokens``: what their answers might have had at most;
    ``shard_seconds``: those of the threads that ran them."""

    worker_seconds: float
    rows: float
    chars: float
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    limit_tokens: float = 0.0
    shard_seconds: float = 0.0

    @property
    def tells(self) -> bool:
        return self.worker_seconds >= LEAST_SECONDS and self.rows > 0 and self.chars > 0


@dataclass(frozen=True, slots=True)
class Size:
    """Of a job's input. ``answer_tokens``: what a row's answers may have at most, where that is known and texts are written."""

    rows: int
    chars: int
    answer_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """``seconds``: until the job is done; None where it is not known. ``worker_seconds``: that it takes."""

    seconds: float | None = None
    worker_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a job takes."""

    worker_seconds: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Live:
    """A job that is not done. ``order``: among those of its tenant; the least is the next. ``reach``: the part of the workers that could
    run it and that the job in question waits for, too. ``shards``: that of it are open."""

    tenant: int
    worker_seconds: float
    order: tuple[float, ...] = ()
    reach: float = 1.0
    shards: int = 1


def forecast(measured: Measured | None, size: Size) -> Forecast | None:
    """None where nothing like it was measured yet."""
    if measured is None or not measured.tells:
        return None
    input_tokens = measured.input_tokens / measured.chars * size.chars
    output_tokens = size.rows * tokens_of_answer(measured, size.answer_tokens)
    seconds = _units(size.chars, output_tokens) * measured.worker_seconds / _units(measured.chars, measured.output_tokens)
    return Forecast(seconds, round(input_tokens), round(output_tokens))


def tokens_of_answer(measured: Measured, limit: int | None) -> float:
    """Of a row: as many as its limit, where limits are what ends such answers; else as many as they had, but no more than it may have."""
    usual = measured.output_tokens / measured.rows
    if limit is None:
        return usual
    if measured.limit_tokens and measured.output_tokens >= LIMITED * measured.limit_tokens:
        return limit * measured.output_tokens / measured.limit_tokens
    return min(float(limit), usual)


def seconds_until_done(own: Live, live: Iterable[Live], *, workers: int) -> float:
    """From now on, until all of ``own`` is done: as many shards are in flight as the workers hold, of the tenant with the fewest the next
    one of its first job, and those of a worker share it evenly. Of several jobs that are far from ``own`` in its tenant's order, or of a
    tenant that is one of many, only the sum counts."""
    mine = _Running(own.tenant, own.order, own.worker_seconds, own.shards)
    others = [_Running(each.tenant, each.order, each.worker_seconds * each.reach, each.shards) for each in live]
    queue = sorted([mine, *_lumped(others)], key=lambda job: (job.tenant, job.order))
    now = 0.0
    while mine.left > 0 and now < MOST_SECONDS:
        _fill(queue, workers * THREADS)
        in_flight = [job for job in queue if job.in_flight]
        used = sum(job.in_flight for job in in_flight)
        speed = min(workers, used) / used
        step = min(job.left / (job.in_flight * speed) for job in in_flight)
        now += step
        for job in in_flight:
            job.left -= step * job.in_flight * speed
            if job.left <= NOTHING * job.size:
                job.left = 0.0
        queue = [job for job in queue if job.left > 0]
    return min(MOST_SECONDS, ROUND_SECONDS + now)


@dataclass(slots=True, eq=False)
class _Running:
    """A job on its way. ``size``: of a shard, in worker-seconds."""

    tenant: int
    order: tuple[float, ...]
    left: float
    shards: int
    in_flight: int = 0
    size: float = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.left / max(1, self.shards)

    @property
    def open_shards(self) -> int:
        return math.ceil(self.left / self.size - 1e-9) if self.size else 0


def _fill(queue: Sequence[_Running], slots: int) -> None:
    """``queue``: by tenant, and of each in its order."""
    waiting: dict[int, list[list[_Running | int]]] = {}
    for job in queue:
        job.in_flight = 0
        waiting.setdefault(job.tenant, []).append([job, max(1, job.open_shards)])
    turns = [(0, tenant) for tenant in waiting]
    heapq.heapify(turns)
    for _ in range(max(slots, len(turns))):  # where there are fewer, tenants take turns at them
        if not turns:
            return
        held, tenant = heapq.heappop(turns)
        first = waiting[tenant][0]
        first[0].in_flight += 1  # type: ignore[union-attr]
        first[1] -= 1  # type: ignore[operator]
        if not first[1]:
            waiting[tenant].pop(0)
        if waiting[tenant]:
            heapq.heappush(turns, (held + 1, tenant))


def _lumped(jobs: Sequence[_Running]) -> list[_Running]:
    """At most so many that the queue is run forward in milliseconds: of a tenant with more, those that follow each other are one."""
    by_tenant: dict[int, list[_Running]] = {}
    for job in sorted((job for job in jobs if job.left > 0), key=lambda job: job.order):
        by_tenant.setdefault(job.tenant, []).append(job)
    each = max(1, MOST_JOBS // max(1, len(by_tenant)))
    lumped: list[_Running] = []
    for tenant, own in by_tenant.items():
        step = -(-len(own) // each)
        for first in range(0, len(own), step):
            part = own[first : first + step]
            lumped.append(_Running(tenant, part[0].order, sum(job.left for job in part), sum(job.shards for job in part)))
    return lumped


def reach(models: Sequence[frozenset[str] | None], model: str | None, other: str | None) -> float:
    """Of the workers that have ``other``, the part that has ``model`` too. ``models``: of each worker what it could run; None: it did not
    say. Where a job needs no model, any worker does."""
    having = [each for each in models if _has(each, other)]
    return sum(_has(each, model) for each in having) / len(having) if having else 0.0


def workers_with(models: Sequence[frozenset[str] | None], model: str | None) -> int:
    return sum(_has(each, model) for each in models)


def _has(models: frozenset[str] | None, model: str | None) -> bool:
    return models is None or model is None or model in models


def _units(chars: float, output_tokens: float) -> float:
    """What work is counted in, within one task and model: characters; where texts are written, their tokens and what is read for them."""
    return output_tokens + chars * READ_COST if output_tokens else chars
