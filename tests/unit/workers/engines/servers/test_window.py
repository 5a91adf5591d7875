"""How many requests a server is given: a simulated one that serves so many at once, and refuses beyond what it holds."""

import pytest

from workers.engines.servers.window import FEWER, FIRST, MOST, Window


def run(window: Window, rounds: int, *, served_at_once: int, holds: int | None = None, full: bool = True, now: float = 0.0) -> float:
    """``served_at_once`` requests take a second together, however many wait beside them. Returns the time at the end."""
    window.begin(now)
    for _ in range(rounds):
        for _ in range(max(window.width, 8)):
            if holds is not None and window.width > holds:
                window.refused(now)
            now += 1.0 / min(window.width, served_at_once)
            window.answered(now, 10.0, full=full)
    return now


@pytest.mark.parametrize("served_at_once", [1, 4, 32, 200])
def test_the_window_comes_to_what_the_server_does_at_once(served_at_once: int) -> None:
    window = Window()
    run(window, 40, served_at_once=served_at_once)
    assert served_at_once / 1.3 <= window.width <= 4 * max(FIRST, served_at_once)


def test_a_window_that_is_not_full_teaches_nothing() -> None:
    window = Window()
    run(window, 40, served_at_once=1_000, full=False)
    assert window.width == FIRST


def test_a_server_that_grows_faster_is_found_to_be() -> None:
    window = Window()
    now = run(window, 40, served_at_once=8)
    narrow = window.width
    run(window, 300, served_at_once=400, now=now)
    assert window.width >= 4 * narrow


def test_a_refusal_narrows_the_window_once_a_round_and_never_to_nothing() -> None:
    window = Window()
    window.width = 100
    for _ in range(5):
        window.refused(0.0)
    assert window.width == int(100 * FEWER)
    for _ in range(50):
        run(window, 1, served_at_once=1, full=False)
        window.refused(0.0)
    assert window.width == 1


def test_a_server_that_refuses_beyond_what_it_holds_is_kept_near_that() -> None:
    window = Window()
    run(window, 200, served_at_once=1_000, holds=50)
    assert 25 <= window.width <= 60


def test_the_window_has_an_end() -> None:
    window = Window()
    run(window, 30, served_at_once=1 << 30)
    assert window.width <= MOST


def test_a_server_that_does_less_the_more_it_is_given_is_given_less() -> None:
    window, now = Window(), 0.0
    window.width = 64
    window._starting = False
    window.begin(now)
    for _ in range(20_000):
        now += 0.01 * max(1, window.width / 8)  # it thrashes beyond eight
        window.answered(now, 10.0, full=True)
    assert window.width <= 16
