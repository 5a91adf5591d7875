"""How long until work goes on."""

import time
from collections.abc import Sequence

from tests.faults.counters import Load
from tests.faults.house import House


def seconds_to_progress(house: House, loads: Sequence[Load], timeout_seconds: float = 60) -> float:
    """From now until one more row of ``loads`` has its result; 0 where all have."""
    before, began = house.open_rows(loads), time.monotonic()
    if before:
        house.wait_for(lambda: house.open_rows(loads) < before, "work goes on", timeout_seconds)
    return round(time.monotonic() - began, 2) if before else 0.0


def wait_rows(house: House, loads: Sequence[Load], count: int, timeout_seconds: float = 60) -> None:
    """Until ``count`` more rows have their results, or all."""
    goal = max(0, house.open_rows(loads) - count)
    house.wait_for(lambda: house.open_rows(loads) <= goal, f"{count} more rows are done", timeout_seconds)
