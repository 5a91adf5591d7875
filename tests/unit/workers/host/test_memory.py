import pytest

from workers.host.memory import EX_CEILING, EX_PLANNED, MIB, SETTLED_SECONDS, Ceiling, ceiling_mb, end_at_ceiling, resident_bytes


def test_a_ceiling_is_passed_above_it_and_none_never() -> None:
    assert Ceiling(100).passed_by(100 * MIB + 1)
    assert not Ceiling(100).passed_by(100 * MIB)
    assert not Ceiling(None).passed_by(1 << 60)


@pytest.mark.parametrize(("max_mb", "left"), [(None, 500), (1000, 500), (400, 60), (200, -120)])
def test_a_model_may_take_what_the_machine_has_and_the_ceiling_leaves(max_mb: int | None, left: int) -> None:
    assert Ceiling(max_mb).left(300 * MIB, 500 * MIB) == left * MIB


@pytest.mark.parametrize(
    ("asked_mb", "allowed_bytes", "ceiling"),
    [(None, None, None), (500, None, 500), (500, 100 * MIB, 500), (None, 1000 * MIB, 900)],
)
def test_without_a_ceiling_that_of_the_container_counts(asked_mb: int | None, allowed_bytes: int | None, ceiling: int | None) -> None:
    assert ceiling_mb(asked_mb, allowed_bytes) == ceiling


@pytest.mark.parametrize(
    ("rows", "load_seconds", "ran_seconds", "code"),
    [
        (0, 0.0, 1.0, EX_CEILING),  # the loaded model alone is above it
        (0, 300.0, 299.0, EX_CEILING),
        (64, 20.0, 19.0, EX_CEILING),  # it spends its time with loading
        (64, 20.0, 20.0, EX_PLANNED),
        (1, 0.0, 0.5, EX_PLANNED),
        (0, 20.0, SETTLED_SECONDS, EX_PLANNED),  # it had nothing to do
        (0, 2 * SETTLED_SECONDS, SETTLED_SECONDS, EX_CEILING),
    ],
)
def test_who_worked_no_longer_than_it_loaded_does_not_end_as_planned(rows: int, load_seconds: float, ran_seconds: float, code: int) -> None:
    assert end_at_ceiling(rows, load_seconds=load_seconds, ran_seconds=ran_seconds) == code


def test_what_this_process_holds_is_more_than_nothing() -> None:
    assert resident_bytes() > MIB
