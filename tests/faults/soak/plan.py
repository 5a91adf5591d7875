"""What happens in a soak, from its seed alone: which fault after which pause, and which job after which. Pure."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from db.lifecycle import INTERACTIVE_PRIORITY, MAX_INTERACTIVE_ROWS
from workers.engines.fake import MARKS

TENANTS: Final = 4
MIN_PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 4.0
SMALL_ROWS: Final = 500  # a job of no more than these may be cancelled
HANDY_ROWS: Final = 8_000  # and one of no more than these run again or deleted: what is looked at twice, or for nothing, must not be much
SPOILT_JOBS: Final = 0.3
BAD_EVERY: Final = 300  # rows of a spoilt job: one of these fails, and one at least
BAD_MARK: Final = "nan"
BAD_CODE: Final = "non_finite_output"


class Kind(StrEnum):
    """A fault, as the report names it."""

    KILL_WORKER = "kill -9 of a worker"
    FREEZE_WORKER = "a worker stopped for longer than its lease"
    DRAIN_WORKER = "SIGTERM to a worker"
    KILL_DISPATCHER = "kill -9 of the dispatcher"
    FLUSH_QUEUE = "FLUSHALL of Valkey"
    RESTART_QUEUE = "kill -9 of Valkey, an empty one after it"
    POISON_QUEUE = "forged, doubled and broken messages"
    CUT_CONNECTIONS = "all connections of workers and dispatcher cut"
    RESTART_STORE = "restart of Postgres, fast"
    CRASH_STORE = "restart of Postgres, immediate"
    KILL_STORE = "kill -9 of Postgres"
    LOCK_TABLE = "a table locked by an admin for 6 s"
    CANCEL_JOB = "a small job cancelled"
    PAUSE_JOB = "a job paused for 5 s"
    RETRY_JOB = "a job run again where it failed or was cancelled"
    DELETE_JOB = "a job deleted, running or ended"


@dataclass(frozen=True, slots=True)
class Fault:
    """``pause_seconds``: after the one before. ``draw``, of [0, 1): what the kind leaves open, such as which worker."""

    kind: Kind
    pause_seconds: float
    draw: float


def faults(seed: int) -> Iterator[Fault]:
    """Without an end. Of every kind one in each round, so that a short run meets all of them, in an order that nobody chose."""
    chance = random.Random(f"{seed}:faults")
    while True:
        kinds = list(Kind)
        chance.shuffle(kinds)
        for kind in kinds:
            yield Fault(kind, chance.uniform(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS), chance.random())


@dataclass(frozen=True, slots=True)
class JobPlan:
    """``number`` is part of its texts, so that no text of the soak is there twice. ``spoilt``: some of its rows must fail."""

    number: int
    tenant: int
    rows: int
    priority: int
    spoilt: bool = False

    @property
    def small(self) -> bool:
        return self.rows <= SMALL_ROWS


# How often a job has how many rows: most are small, most rows are in large ones. Some 3,000 rows a job.
SHAPES: Final = (
    (30, 1, 1, 0),
    (20, 1, MAX_INTERACTIVE_ROWS, INTERACTIVE_PRIORITY),
    (30, 2, SMALL_ROWS, 0),
    (12, 1_000, 8_000, 0),
    (8, 15_000, 40_000, 0),
)


def jobs(seed: int) -> Iterator[JobPlan]:
    """Without an end."""
    chance = random.Random(f"{seed}:jobs")
    number = 0
    while True:
        ((_, least, most, priority),) = chance.choices(SHAPES, weights=[shape[0] for shape in SHAPES])
        yield JobPlan(number, chance.randrange(TENANTS), chance.randint(least, most), priority, chance.random() < SPOILT_JOBS)
        number += 1


def texts_of(job: JobPlan) -> list[str]:
    texts = [f"job {job.number}: document {at} about something that happened on day {at * 7919 % 365}" for at in range(job.rows)]
    for at in failures_of(job):
        texts[at] += f" {MARKS[BAD_MARK]}"
    return texts


def failures_of(job: JobPlan) -> dict[int, str]:
    """The rows that the model must fail on, however often they are tried, and the code."""
    if not job.spoilt:
        return {}
    return dict.fromkeys(range(job.number * 7919 % min(job.rows, BAD_EVERY), job.rows, BAD_EVERY), BAD_CODE)


def cut(seed: int, total: int, parts: int) -> list[tuple[int, int]]:
    """``total`` texts in so many jobs of different sizes: (first, end) of each."""
    chance = random.Random(f"{seed}:real")
    borders = sorted(chance.sample(range(1, total), parts - 1))
    return list(zip([0, *borders], [*borders, total], strict=True))


@dataclass(frozen=True, slots=True)
class Schedule:
    """When what happens, in seconds since the first row. The real model's reference run comes before."""

    undisturbed_seconds: float
    warm_up_seconds: float  # the first of these; until then shards are sized by a guess
    faults_end: float
    faults_end_latest: float  # where the rows are not through by then
    end: float
    rows: int
    real_rows: int


ROWS_A_MINUTE: Final = 50_000  # a million in twenty minutes
REAL_ROWS_A_MINUTE: Final = 275
LONGER: Final = 1.5
DRAIN_SECONDS: Final = 30.0  # about what the rows take that are open when the last fault is given


def schedule(minutes: float) -> Schedule:
    seconds = minutes * 60
    drain = min(DRAIN_SECONDS, seconds / 4)
    return Schedule(
        undisturbed_seconds=min(90.0, seconds / 4),
        warm_up_seconds=min(90.0, seconds / 4) / 3,
        faults_end=seconds - drain,
        faults_end_latest=seconds * LONGER - drain,
        end=seconds,
        rows=round(minutes * ROWS_A_MINUTE),
        real_rows=max(50, round(minutes * REAL_ROWS_A_MINUTE)),
    )
