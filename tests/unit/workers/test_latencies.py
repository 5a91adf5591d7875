from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.latencies import metric_of, quantile


@given(st.lists(st.floats(0.001, 10_000), min_size=1), st.sampled_from([0.5, 0.95]))
def test_a_quantile_out_of_buckets_is_right_within_a_factor(seconds: list[float], share: float) -> None:
    found = quantile(Counter(metric_of("first_token", each) for each in seconds), "first_token", share)
    true = sorted(seconds)[max(0, -(-int(share * 100) * len(seconds) // 100) - 1)]
    assert found is not None
    assert true / 2**0.5001 <= found <= true * 2**0.5001


def test_sums_of_shards_are_read_as_one_and_kinds_apart() -> None:
    one, other = ({metric_of("next_token", each): 1.0} for each in (0.01, 0.1))
    both = {**one, **other, "tokens": 9.0}
    assert quantile(both, "next_token", 0.5) == pytest.approx(0.01, rel=0.4)
    assert quantile(both, "next_token", 1.0) == pytest.approx(0.1, rel=0.4)
    assert quantile(both, "first_token", 0.5) is None


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e9])
def test_what_is_beyond_all_buckets_counts_in_the_last_one(seconds: float) -> None:
    assert quantile({metric_of("first_token", seconds): 3.0}, "first_token", 0.5) is not None
