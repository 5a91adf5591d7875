"""When a job will be done: the queue as it is now, run forward. Pure, no I/O; what was measured and what waits are arguments.

The unit is a **worker-second**: a second of one worker, all of it (see :mod:`workers.shard.in_flight`). What the rows of one task and model
take of it was measured on shards that ended lately, whatever ran beside them. The order is that of :mod:`db.queue.turns`: tenants share
the workers evenly, and of one tenant the jobs come one after the other. So while a tenant has work left, each other has as much done, or
all of its own where that is less: water that fills vessels. What nobody knows yet (jobs that come, a worker that goes) is left out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

ROUND_SECONDS: Final = 0.5  # to be cut into shards and to be ended, each at a round of the dispatcher's
LEAST_SECONDS: Final = 0.5  # of worker-seconds: less says nothing of a speed
READ_COST: Final = 1 / 40  # of a character of a prompt, in tokens that are written: some 4 make a token, which is read 10 times as fast
MOST_SECONDS: Final = 10 * 365 * 86_400.0
LIMITED: Final = 0.9  # of what answers may have: where they have so much of it, it is the limit that ends them


@dataclass(frozen=True, slots=True)
class Measured:
    """Sums over shards of one task and model that ended lately. ``limit_tokens``: what their answers might have had at most."""

    worker_seconds: float
    rows: float
    chars: float
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    limit_tokens: float = 0.0

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
    run it and that the job in question waits for, too."""

    tenant: int
    worker_seconds: float
    order: tuple[float, ...] = ()
    reach: float = 1.0


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


def seconds_until_done(own: float, order: tuple[float, ...], live: Iterable[Live], *, tenant: int, workers: int, at_once: int) -> float:
    """From now on. ``own``: the worker-seconds of the job; ``at_once``: how many workers it can use."""
    mine, others = own, dict[int, float]()
    for each in live:
        if each.tenant == tenant:
            mine += each.worker_seconds * each.reach if each.order < order else 0.0
        else:
            others[each.tenant] = others.get(each.tenant, 0.0) + each.worker_seconds * each.reach
    served = mine + sum(min(mine, theirs) for theirs in others.values())
    return min(MOST_SECONDS, ROUND_SECONDS + max(served / workers, own / min(workers, max(1, at_once))))


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
