"""How fast a job gets on is told within 1.5 times of what is true, or not at all."""

from datetime import UTC, datetime, timedelta

import pytest

from db.jobs.pace import LEAST_SPAN, WRITES, rows_per_second

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def story(loading: float, every: float, rows: int, shards: int, *, spread: float = 0.05) -> list[tuple[float, int]]:
    """Writes (seconds since the job began, rows) after a model loaded, of ``shards`` in flight together."""
    bursts = range(1, 400)
    return [(loading + at * every + shard * spread, rows) for at in bursts for shard in range(shards)]


@pytest.mark.parametrize("loading", [0.0, 10.0, 120.0])
@pytest.mark.parametrize(("every", "rows", "shards"), [(1.6, 32, 1), (0.2, 64, 4), (5.0, 256, 4), (2.0, 8, 8), (0.9, 100, 2)])
def test_what_is_told_is_true_from_the_first_word_on(loading: float, every: float, rows: int, shards: int) -> None:
    writes = story(loading, every, rows, shards)
    true = rows * shards / every
    told = []
    for tick in range(1, 600):
        now = loading + tick * 0.1
        stored = [write for write in writes if write[0] <= now]
        times = [BEGAN + timedelta(seconds=at) for at, _ in stored[:WRITES]]
        speed = rows_per_second(sum(each for _, each in stored), times, BEGAN + timedelta(seconds=now))
        if speed is not None:
            told.append(speed)
    assert told, "a minute is enough"
    assert all(true / 1.5 <= speed <= true * 1.5 for speed in told)


def test_nothing_is_told_of_a_few_writes_or_of_moments() -> None:
    now = BEGAN + timedelta(seconds=60)
    assert rows_per_second(0, [], now) is None
    assert rows_per_second(100, [BEGAN] * 20, now) is None
    assert rows_per_second(100, [BEGAN + timedelta(seconds=each) for each in range(4)], now) is None
    assert rows_per_second(100, [BEGAN + LEAST_SPAN * each / 10 for each in range(9)], now) is None


def test_a_job_that_stalls_gets_slower() -> None:
    writes = [BEGAN + timedelta(seconds=each) for each in range(6)]
    soon, late = (rows_per_second(60, writes, BEGAN + timedelta(seconds=seconds)) for seconds in (6, 60))
    assert soon == 10
    assert late is not None
    assert late < 1
