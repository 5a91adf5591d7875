"""Interactive rows beside bulk, on paper: how long somebody waits, and what bulk loses by it. No model runs, no clock.

`python -m tests.benchmarks.classes` prints one table. Bulk never ends; single interactive rows come at random. Compared: no classes at all;
interactive batches alone (what the worker does); and such batches filled up with bulk rows to a quarter of the budget, or to all of it.
Costs are those of `costs.json`: two lanes of the padded engine, batches as `workers.batches.queue` cuts them. The bulk rows that fill a
batch up are the oldest, whatever their length: a choice by length would lose less, but the wait would stay.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from tests.benchmarks import costs
from tests.benchmarks.traces import trace
from workers.batches.policy import Policy, Work, cost_tokens, turns
from workers.batches.queue import Waiting

POLICY: Final = Policy(budget_tokens=1024, padded=True, max_rows=512)
LANES: Final = 2
SECONDS: Final = 200.0
BULK_ROWS: Final = 1024  # in flight, as four shards hand them in
RATES: Final = (5, 20)  # interactive rows a second
LOSS_GOAL: Final = 0.10
WAIT_GOAL: Final = 2.0  # batch times, of 99 % of the interactive rows


@dataclass(frozen=True, slots=True)
class Waited:
    """`bulk_rate` in tokens a second; waits in milliseconds from a row's arrival to its answer, shortest first."""

    bulk_rate: float
    waits: list[float]
    batch_ms: float  # of bulk's batches, on average

    def wait(self, share: float) -> float:
        return self.waits[int(share * (len(self.waits) - 1))]


def simulate(table: costs.PaddedCosts, rate: float, *, classes: bool = True, top_up: float = 0.0, seconds: float = SECONDS) -> Waited:
    """`top_up`: the part of the budget up to which an interactive batch is filled with bulk rows."""
    chance = random.Random(rate)
    lengths = cycle(trace("C3 lognormal, mean 50"))
    waiting: dict[Work, Waiting[tuple[Work, int]]] = {work: Waiting(POLICY) for work in Work}
    arrivals = _arrivals(chance, rate)
    next_arrival = next(arrivals)
    came: dict[int, float] = {}  # arrival number in its queue -> time, of interactive rows
    numbers = dict.fromkeys(Work, 0)
    own_queue = Work.INTERACTIVE if classes else Work.BULK
    free, waits, bulk_tokens, bulk_batches, in_a_row = [0.0] * LANES, [], 0, [], 0

    def add(queue: Work, some: list[int], work: Work) -> None:
        waiting[queue].add(some, (work, numbers[queue]))
        numbers[queue] += len(some)

    while (now := min(free)) < seconds * 1000:
        while next_arrival <= now:
            came[numbers[own_queue]] = next_arrival
            add(own_queue, [next(lengths)], Work.INTERACTIVE)
            next_arrival = next(arrivals)
        add(Work.BULK, list(islice(lengths, max(0, BULK_ROWS - len(waiting[Work.BULK])))), Work.BULK)
        work = next(one for one in turns(in_a_row) if waiting[one])
        in_a_row = in_a_row + 1 if work is Work.INTERACTIVE else 0
        batch = waiting[work].take(POLICY.budget_tokens, idle_lanes=1)
        left = round(top_up * POLICY.budget_tokens) - cost_tokens([row[0] for row in batch], padded=True)
        if work is Work.INTERACTIVE and left > 0:
            batch = batch + waiting[Work.BULK].take(left, idle_lanes=1)
        took = table([row[0] for row in batch])
        free[free.index(now)] = now + took
        bulk_tokens += sum(row[0] for row in batch if row[3][0] is Work.BULK)
        waits += [now + took - came.pop(row[3][1]) for row in batch if row[3][0] is Work.INTERACTIVE]
        if work is Work.BULK:
            bulk_batches.append(took)
    return Waited(bulk_tokens / seconds, sorted(waits), sum(bulk_batches) / len(bulk_batches))


def _arrivals(chance: random.Random, rate: float) -> Iterator[float]:
    now = 0.0
    while True:
        now += chance.expovariate(rate) * 1000
        yield now


def main() -> int:
    table = costs.load().padded
    alone = simulate(table, 1e-9)
    print(f"bulk alone: {alone.bulk_rate:.0f} tokens/s, {alone.batch_ms:.0f} ms a batch")
    missed = False
    for rate in RATES:
        for name, classes, top_up in (
            ("no classes", False, 0.0),
            ("interactive batches alone", True, 0.0),
            ("filled to a quarter", True, 0.25),
            ("filled up", True, 1.0),
        ):
            found = simulate(table, rate, classes=classes, top_up=top_up)
            loss, batches = 1 - found.bulk_rate / alone.bulk_rate, found.wait(0.99) / alone.batch_ms
            print(
                f"{rate:3d} rows/s, {name:26s} p50 {found.wait(0.5):6.0f} ms, p99 {found.wait(0.99):6.0f} ms = {batches:5.2f} batch times, "
                f"bulk loses {loss:5.1%}"
            )
            if rate == RATES[0] and classes and top_up == 0:
                missed = loss > LOSS_GOAL or batches > WAIT_GOAL
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
