import pytest

from tests.benchmarks import costs
from tests.benchmarks.classes import LOSS_GOAL, WAIT_GOAL, simulate

SECONDS = 60.0


@pytest.fixture(scope="module")
def alone() -> tuple[float, float]:
    """Bulk's tokens a second without any interactive rows, and its batch time in ms."""
    found = simulate(costs.load().padded, 1e-9, seconds=SECONDS)
    assert found.waits == []
    return found.bulk_rate, found.batch_ms


def test_a_light_stream_waits_two_batch_times_at_most_and_costs_bulk_less_than_a_tenth(alone: tuple[float, float]) -> None:
    found = simulate(costs.load().padded, 5, seconds=SECONDS)
    assert len(found.waits) > 4 * SECONDS
    assert found.wait(0.99) <= WAIT_GOAL * alone[1]
    assert found.bulk_rate >= (1 - LOSS_GOAL) * alone[0]


def test_without_classes_they_wait_behind_the_window_of_bulk(alone: tuple[float, float]) -> None:
    assert simulate(costs.load().padded, 5, classes=False, seconds=SECONDS).wait(0.5) > 10 * alone[1]


def test_a_batch_that_is_filled_up_with_bulk_makes_somebody_wait_longer() -> None:
    own, filled = (simulate(costs.load().padded, 5, top_up=top_up, seconds=SECONDS) for top_up in (0.0, 1.0))
    assert own.wait(0.99) < filled.wait(0.99)
