"""When a calibration may go on beside the work: never where somebody waits, a fifth of the time beside bulk, at once where nothing runs."""

import pytest

from workers.batches.activity import Busy
from workers.engines.calibration.slices import AGAIN_AFTER_SECONDS, SETTLED_SECONDS, wait_seconds

IDLE = Busy(interactive=0, bulk=0, idle_seconds=SETTLED_SECONDS)
BULK = Busy(interactive=0, bulk=3, idle_seconds=0.0)


def test_an_idle_process_goes_on_at_once_and_one_that_just_became_idle_in_a_moment() -> None:
    assert wait_seconds(IDLE, took_seconds=9.0, since_seconds=0.0) == 0
    assert wait_seconds(Busy(0, 0, SETTLED_SECONDS / 4), took_seconds=0.5, since_seconds=9.0) == pytest.approx(SETTLED_SECONDS * 3 / 4)


@pytest.mark.parametrize("bulk", [0, 4])
def test_nothing_begins_while_an_interactive_row_is_under_way(bulk: int) -> None:
    assert wait_seconds(Busy(1, bulk, 0.0), took_seconds=0.5, since_seconds=1_000.0) is None


def test_beside_bulk_slices_take_a_fifth_of_the_time() -> None:
    now, ran = 0.0, 0.0
    for took_seconds in (0.5, 0.1, 1.5, 0.4) * 10:
        ran += took_seconds
        now += took_seconds
        left = wait_seconds(BULK, took_seconds=took_seconds, since_seconds=0.0)
        assert left is not None
        assert wait_seconds(BULK, took_seconds=took_seconds, since_seconds=left) == 0
        now += left
    assert ran / now == pytest.approx(0.2)


def test_what_is_made_again_waits_for_a_quiet_hour() -> None:
    assert wait_seconds(BULK, took_seconds=0.5, since_seconds=1_000.0, only_idle=True) is None
    assert wait_seconds(IDLE, took_seconds=0.5, since_seconds=1_000.0, only_idle=True) == AGAIN_AFTER_SECONDS - SETTLED_SECONDS
    assert wait_seconds(Busy(0, 0, AGAIN_AFTER_SECONDS), took_seconds=0.5, since_seconds=0.0, only_idle=True) == 0
