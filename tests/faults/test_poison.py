"""F15, F16, F17: rows that kill every worker they meet, or hang it: found by halving, and nobody else pays with its result."""

import math
from collections.abc import Collection
from typing import Any

import pytest

from db.lifecycle import MAX_CRASHES
from tests.faults.conftest import Verdict
from tests.faults.counters import Counters, Load
from tests.faults.house import House, Process, texts
from tests.faults.struck import empty_broker
from workers.engines.fake import MARKS
from workers.host.watchdog import EX_HANG

SEGMENTATION_FAULT = 139
WORKERS = 2


class Crew:
    """Workers that are started again when they die, as a supervisor does it, without its pauses. ``deaths``: their exit codes."""

    def __init__(self, house: House, size: int, **environment: Any) -> None:
        self._house = house
        self._environment = environment
        self._workers = [self._start() for _ in range(size)]
        self.deaths: list[int] = []

    def _start(self) -> Process:
        return self._house.start_worker(**self._environment)

    def wait_completed(self, load: Load, timeout_seconds: float) -> None:
        end = "failed" if len(load.failures) == len(load.texts) else "completed"
        self._house.wait_for(lambda: self._tend() and self._house.state(load.job_id) == end, "the job ends", timeout_seconds)

    def _tend(self) -> bool:
        for place, worker in enumerate(self._workers):
            code = worker.popen.poll()
            if code is not None:
                self.deaths.append(code)
                self._workers[place] = self._start()
        return True


def poisoned(house: House, rows: int, places: Collection[int], mark: str) -> Load:
    empty_broker(house)
    documents = [text + MARKS[mark] if at in places else text for at, text in enumerate(texts(rows))]
    return house.load(documents, failures=dict.fromkeys(places, "crashed_worker"))


def most_crashes(rows: int, poisons: int) -> int:
    """Of one shard: those that may be chance, and then one for each piece that holds a poison row, down to that row alone. Pieces of
    several poison rows are shared, near the whole."""
    halvings = math.ceil(math.log2(rows))
    pieces = sum(min(1 << level, poisons) for level in range(halvings + 1))
    return MAX_CRASHES + pieces


@pytest.mark.fault("F15", "one row kills every worker (a small job)")
def test_a_row_that_kills_its_worker_is_found(house: House, verdict: Verdict) -> None:
    _found(house, verdict, rows=4, poisons={2})


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("rows", "poisons"),
    [
        pytest.param(16, {3, 11}, marks=pytest.mark.fault("F16", "two poison rows in one batch")),
        pytest.param(16, {15}, marks=pytest.mark.fault("F16", "the last row is poison")),
        pytest.param(8, set(range(8)), marks=pytest.mark.fault("F16", "every row is poison")),
    ],
)
def test_exactly_the_rows_that_kill_their_worker_fail(house: House, verdict: Verdict, rows: int, poisons: set[int]) -> None:
    _found(house, verdict, rows, poisons)


def _found(house: House, verdict: Verdict, rows: int, poisons: set[int]) -> None:
    load = poisoned(house, rows, poisons, "exit")
    house.start_dispatcher()
    crew = Crew(house, WORKERS)
    crew.wait_completed(load, 120)
    counted = verdict(house.count([load]), crashes=len(crew.deaths), at_most=most_crashes(rows, len(poisons)))
    assert set(crew.deaths) == {SEGMENTATION_FAULT}
    assert len(crew.deaths) <= most_crashes(rows, len(poisons))
    _bounded(counted, rows, len(crew.deaths))


def _bounded(counted: Counters, rows: int, deaths: int) -> None:
    """Each death costs at most the rows that were open once more."""
    assert counted.recomputed <= rows * deaths


@pytest.mark.matrix
@pytest.mark.fault("F15", "one row in 2,000 kills every worker, other shards beside it")
def test_a_row_that_kills_its_worker_costs_no_other_row_its_result(house: House, verdict: Verdict) -> None:
    """Who was beside it twice is suspected too, and done in a worker of its own."""
    load = poisoned(house, 2_000, {1_234}, "exit")
    house.start_dispatcher()
    crew = Crew(house, WORKERS)
    crew.wait_completed(load, 150)
    sizes = {shard.first_idx: shard.end_idx - shard.first_idx for shard in house.shards(load.job_id)}
    assert sizes[1_234] == 1, "it stood alone at the end"
    largest = max(sizes.values())  # the shards that were not halved are as large as that one was
    counted = verdict(house.count([load]), shard_rows=largest, crashes=len(crew.deaths), at_most=most_crashes(largest, 1))
    assert set(crew.deaths) == {SEGMENTATION_FAULT}
    assert len(crew.deaths) <= most_crashes(largest, 1)
    assert counted.recomputed <= largest * (math.log2(largest) + 1)


@pytest.mark.matrix
@pytest.mark.fault("F17", "one row hangs every worker")
def test_a_row_that_hangs_its_worker_is_found(house: House, verdict: Verdict) -> None:
    load = poisoned(house, 4, {2}, "hang")
    house.start_dispatcher()
    crew = Crew(house, WORKERS, TEXTMILL_HANG_SECONDS="1")
    crew.wait_completed(load, 90)
    counted = verdict(house.count([load]), hangs=len(crew.deaths), at_most=most_crashes(4, 1))
    assert set(crew.deaths) == {EX_HANG}
    assert len(crew.deaths) <= most_crashes(4, 1)
    _bounded(counted, 4, len(crew.deaths))
