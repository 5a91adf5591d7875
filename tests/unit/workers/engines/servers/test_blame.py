import random
from collections.abc import Callable
from functools import partial

from workers.engines.servers.blame import LEAST_BUSY_SECONDS, Blame, Suspicion, pause_seconds

Fails = Callable[[Blame, float, Suspicion], object]


def asked_until(blame: Blame, rng: random.Random, rate: float, *, others: int = 3, most: int = 3_000) -> tuple[bool, int]:
    """One request that always fails, among ``others`` that fail at ``rate``: whether it was found to be to blame, and after how often."""
    suspicion, now = Suspicion(), 0.0
    for times in range(most):
        now += 1
        blame.failed(now, suspicion, lost=False, alone=False)
        if suspicion.certain:
            return True, times + 1
        for _ in range(others):
            now += 1
            if rng.random() < rate:
                blame.failed(now, Suspicion(), lost=False, alone=False)
            else:
                blame.succeeded(now)
    return False, most


def test_a_request_that_fails_among_answered_ones_is_to_blame_after_ten_times() -> None:
    found, times = asked_until(Blame(), random.Random(1), 0.0)
    assert found
    assert 8 <= times <= 12


def test_where_half_of_all_fails_it_takes_longer() -> None:
    found, times = asked_until(Blame(), random.Random(1), 0.5)
    assert found
    assert 20 <= times <= 60


def blamed(rng: random.Random, rate: float, count: int, seconds: float, fails: Fails) -> int:
    """How many of ``count`` requests are to blame, asked in any order until each is answered, by a server that ``fails`` at ``rate``; one
    each so many seconds."""
    blame, now, found = Blame(), 0.0, 0
    waiting = [Suspicion() for _ in range(count)]
    while waiting:
        suspicion = waiting.pop(rng.randrange(len(waiting)))
        now += seconds
        if rng.random() >= rate:
            blame.succeeded(now)
            continue
        fails(blame, now, suspicion)
        found += suspicion.certain
        if not suspicion.certain:
            waiting.append(suspicion)
    return found


def test_a_server_that_fails_at_random_costs_no_request_its_answer() -> None:
    for rate in (0.05, 0.3, 0.5, 0.8):
        fails: Fails = partial(Blame.failed, lost=False, alone=False)
        assert blamed(random.Random(7), rate, 2_000, 1, fails) == 0, rate


def test_a_server_that_answers_nothing_is_to_blame_however_long_it_lasts() -> None:
    blame, suspicion = Blame(), Suspicion()
    for second in range(100):
        blame.succeeded(second)
    for second in range(100, 10_000):
        blame.failed(second, suspicion, lost=False, alone=False)
    assert not suspicion.certain
    assert blame.needs_control(suspicion)


def test_what_was_under_way_when_a_server_died_counts_only_alone() -> None:
    blame, suspicion = Blame(), Suspicion()
    for second in range(0, 400, 2):
        blame.failed(second, suspicion, lost=True, alone=False)
        blame.succeeded(second + 1)
    assert suspicion.alone
    assert not suspicion.certain
    for second in range(400, 430, 2):
        blame.failed(second, suspicion, lost=True, alone=True)
        blame.succeeded(second + 1)
    assert suspicion.certain


def test_what_a_server_has_too_much_to_do_for_is_to_blame_only_alone_and_after_a_quarter_of_an_hour() -> None:
    blame, suspicion, alone_since = Blame(), Suspicion(), 0.0
    for now in range(0, 10_000, 20):
        was_alone = suspicion.alone
        assert was_alone or not suspicion.evidence
        blame.busy(now, suspicion)
        if suspicion.certain:
            break
        alone_since = now if not was_alone else alone_since
        blame.succeeded(now + 1)
    assert suspicion.certain
    assert suspicion.failed_at - alone_since >= LEAST_BUSY_SECONDS - 20
    assert suspicion.busies > 12


def test_a_server_that_has_too_much_to_do_now_and_then_costs_no_request_its_answer() -> None:
    for rate in (0.1, 0.5, 0.8):
        assert blamed(random.Random(11), rate, 500, 30, Blame.busy) == 0, rate


def test_a_server_that_has_too_much_to_do_for_all_blames_none_however_long_it_lasts() -> None:
    blame, suspicions = Blame(), [Suspicion() for _ in range(4)]
    blame.succeeded(0.0)
    for second in range(1, 20_000):
        blame.busy(second, suspicions[second % 4])
    assert not any(suspicion.certain or suspicion.alone for suspicion in suspicions)


def test_pauses_double_to_a_bound() -> None:
    assert pause_seconds(1, 5.0, 1.0) == 0.25
    assert pause_seconds(2, 5.0, 1.0) == 0.5
    assert pause_seconds(50, 5.0, 1.0) == 5.0
    assert pause_seconds(50, 5.0, 0.0) == 2.5
