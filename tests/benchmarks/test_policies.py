"""The simulator's own accounting, on costs made up here; then the claim, on the measured ones."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks import costs
from tests.benchmarks.contenders import PACKED, PADDED, Fifo
from tests.benchmarks.costs import PackedCosts, PaddedCosts
from tests.benchmarks.policies import Outcome, misses, run, simulate
from tests.benchmarks.traces import TRACES, trace

LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=150)
TABLE = PaddedCosts((10, 100), (1, 2, 8), ((1.0, 2.0, 4.0), (10.0, 18.0, None)))


def padded_ms(lengths: Sequence[int]) -> float:
    return 1.0 + max(lengths) * len(lengths) / 100


@pytest.mark.parametrize("policy", PADDED)
@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, lanes=st.integers(1, 3), shards=st.integers(1, 4), chunk_rows=st.integers(1, 64))
def test_every_row_runs_once_and_the_time_adds_up(policy: str, lengths: list[int], lanes: int, shards: int, chunk_rows: int) -> None:
    total, delays, batches = simulate(lengths, PADDED[policy](padded_ms), padded_ms, lanes=lanes, shards=shards, chunk_rows=chunk_rows)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    worked = sum(padded_ms([lengths[row] for row in batch]) for batch in batches)
    assert total <= worked + 1e-6, "some lane is busy at every moment"
    assert worked <= lanes * total + 1e-6, "no lane does two things at once"
    assert all(0 < delay <= total + 1e-6 for delay in delays)


@given(LENGTHS)
def test_one_lane_and_one_chunk_take_the_sum_of_the_batches(lengths: list[int]) -> None:
    total, delays, batches = simulate(lengths, Fifo(lambda batch: len(batch) <= 4), padded_ms, lanes=1, shards=1, chunk_rows=1000)
    assert total == pytest.approx(sum(padded_ms([lengths[row] for row in batch]) for batch in batches))
    assert max(delays) == total
    assert [len(batch) for batch in batches[:-1]] == [4] * (len(batches) - 1)


def test_the_next_chunk_comes_when_the_one_before_is_answered() -> None:
    total, delays, batches = simulate([1] * 6, Fifo(lambda batch: len(batch) <= 8), lambda batch: 10.0, lanes=2, shards=1, chunk_rows=2)
    assert (total, delays) == (30.0, [10.0] * 6)
    assert batches == [[0, 1], [2, 3], [4, 5]]


def test_a_measured_shape_costs_what_was_measured_and_others_lie_between() -> None:
    assert TABLE([10]) == 1.0
    assert TABLE([4, 10]) == 2.0
    assert TABLE([10] * 5) == pytest.approx(3.0)
    assert TABLE([55]) == pytest.approx(5.5)
    assert TABLE([100] * 4) == pytest.approx(36.0), "beyond the largest batch of that length, in proportion"
    assert TABLE([3]) == 1.0


def test_a_packed_batch_pays_for_tokens_distinct_lengths_and_pairs() -> None:
    assert PackedCosts(1.0, 0.5, 2.0, 0.01)([3, 3, 4]) == pytest.approx(1 + 5 + 4 + 0.34)


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_the_same_every_time(name: str) -> None:
    assert trace(name) == trace(name)
    assert trace(name, rows=50) == trace(name)[:50]
    assert trace(name) != trace(name, seed=2)
    assert 4 <= min(trace(name)) <= max(trace(name)) <= 512


def test_what_is_slower_than_the_best_by_more_than_two_percent_is_a_miss() -> None:
    def of(policy: str, total_ms: float) -> Outcome:
        return Outcome("padded", policy, "C1", total_ms, 0, 0, 1, 1)

    assert misses([of("textmill", 101.9), of("other", 100)]) == []
    assert misses([of("textmill", 103), of("other", 100)]) == ["padded, C1: 3.0% slower than other"]


def test_ours_is_the_best_or_within_two_percent_of_it_on_every_trace_of_both_engines() -> None:
    found = run(costs.load())
    assert len(found) == len(TRACES) * (len(PADDED) + len(PACKED))
    assert misses(found) == []
