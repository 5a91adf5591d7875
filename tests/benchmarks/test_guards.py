"""What a share of throughput is told as: pure."""

import math

import pytest

from tests.benchmarks.guards import Cost, Turn, interval_of, share_taken


def test_turns_that_take_a_quarter_longer_lose_a_fifth() -> None:
    cost = Cost(1_000, [Turn(1.25, 2.0)] * 10, [Turn(1.0, 1.0)] * 10)
    assert cost.cost == pytest.approx(0.2)
    assert cost.cpu_cost == pytest.approx(0.5)
    assert cost.interval == pytest.approx((0.2, 0.2))
    assert "MISS" in cost.told


def test_one_turn_that_was_disturbed_moves_nothing() -> None:
    quiet = [math.log(1.02)] * 19
    assert share_taken([*quiet, math.log(9.0)]) == pytest.approx(share_taken([*quiet, quiet[0]]))


def test_few_turns_that_differ_much_settle_nothing() -> None:
    low, high = interval_of([0.3, -0.3, 0.25, -0.2])
    assert low < 0.05 < high
    turns = [Turn(math.exp(log), 1.0) for log in (0.3, -0.3, 0.25, -0.2)]
    assert "inconclusive" in Cost(1_000, turns, [Turn(1.0, 1.0)] * 4).told
