from hypothesis import given
from hypothesis import strategies as st

from workers.shard.pace import Pace


def test_a_chunk_is_cut_at_the_work_of_its_seconds() -> None:
    assert Pace(2.0, speed=50.0).take([40, 40, 40]) == 2


def test_a_row_larger_than_a_chunk_is_a_chunk_alone() -> None:
    assert Pace(1.0, speed=10.0).take([500, 1]) == 1


def test_the_speed_follows_what_was_measured() -> None:
    pace = Pace(2.0, speed=1000.0)
    for _ in range(10):
        pace.report(100, seconds=1.0)
    assert pace.take([100] * 10) == 2


def test_one_lucky_chunk_does_not_make_the_next_one_endless() -> None:
    pace = Pace(1.0, speed=100.0)
    pace.report(10_000_000, seconds=0.001)
    assert pace.take([100] * 50) <= 4


@given(st.lists(st.integers(0, 10_000), min_size=1), st.floats(0.01, 10), st.floats(1, 1e6))
def test_a_chunk_is_never_empty_and_never_more_than_there_is(sizes: list[int], seconds: float, speed: float) -> None:
    assert 1 <= Pace(seconds, speed).take(sizes) <= len(sizes)
