"""Runs take turns, keep to their allowance, and are told as medians."""

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.agreement import compare
from tests.benchmarks.interactive import percentile
from tests.benchmarks.turns import Run, Series, in_turns, ratio


def quiet(_line: str) -> None:
    pass


def test_they_run_a_b_a_b() -> None:
    seen: list[str] = []

    def of(name: str) -> Callable[[], Run]:
        return lambda: seen.append(name) or Run(10, 1.0, 1.0)  # type: ignore[func-returns-value]

    done = in_turns({"a": of("a"), "b": of("b")}, turns=3, say=quiet)
    assert seen == ["a", "b"] * 3
    assert {name: len(series.runs) for name, series in done.items()} == {"a": 3, "b": 3}


def test_a_turn_that_would_pass_the_allowance_is_left_out_but_never_the_first() -> None:
    clock = (float(second) for second in count(0, 10))
    said: list[str] = []
    done = in_turns({"a": lambda: Run(1, 1.0, 1.0)}, turns=3, allowance_seconds=5, clock=lambda: next(clock), say=said.append)
    assert len(done["a"].runs) == 1
    assert "1 of 3 turns" in said[-1]


def test_a_ratio_is_of_the_medians_and_tells_its_range() -> None:
    ours = Series([Run(100, 2.0, 4.0), Run(100, 1.0, 4.0), Run(100, 4.0, 4.0)])
    other = Series([Run(100, 1.0, 2.0), Run(100, 1.0, 2.0), Run(100, 1.0, 2.0)])
    found = ratio(ours, other)
    assert (found.value, found.least, found.greatest, found.by_cpu) == (0.5, 0.25, 1.0, 0.5)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_the_least_value_that_so_many_do_not_pass(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_the_p99_of_a_hundred_values_is_the_ninety_ninth() -> None:
    assert percentile([float(value) for value in range(1, 101)], 0.99) == 99


def answers(labels: list[str | None], scores: list[list[float] | None]) -> dict[str, object]:
    return {"labels": labels, "scores": scores, "model_version": "m"}


def test_agreement_counts_labels_and_finds_the_greatest_difference() -> None:
    found = compare(answers(["a", "b"], [[0.9, 0.1], [0.4, 0.6]]), answers(["a", "a"], [[0.8, 0.2], [0.55, 0.45]]))
    assert found.same == 0.5
    assert found.max_difference == pytest.approx(0.15)


def test_a_text_that_failed_agrees_with_nothing() -> None:
    found = compare(answers([None], [None]), answers([None], [None]))
    assert (found.same, found.max_difference) == (0.0, 1.0)
