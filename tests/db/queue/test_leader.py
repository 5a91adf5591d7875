"""One leader among the dispatchers, with real sessions. With real processes that are stopped: tests/faults/test_clocks_and_leaders.py."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from db.connect import Store, open_store
from db.errors import LeadLost
from db.queue.leader import EX_HANG, LEAD_SECONDS, STALL_BEATS, Leadership, leads
from db.settings import Role, StoreSettings
from tests.db.conftest import AsSuperuser
from tests.waiting import wait_until

Stores = Callable[[Role], Store]
TAKERS = "SELECT count(*) FROM pg_locks WHERE relation = 'leads'::regclass AND mode = 'ExclusiveLock' AND NOT granted"


@dataclass(frozen=True)
class Dispatcher:
    """As much of one as leads."""

    store: Store
    leadership: Leadership

    def held(self) -> bool:
        return self.leadership.held()


@pytest.fixture
def dispatchers(settings: StoreSettings) -> Iterator[tuple[Dispatcher, Dispatcher]]:
    with (
        closing(open_store(settings, Role.DISPATCHER, pool_size=3, start="one")) as one,
        closing(open_store(settings, Role.DISPATCHER, pool_size=3, start="two")) as two,
    ):
        yield Dispatcher(one, Leadership(one, "host:1:one")), Dispatcher(two, Leadership(two, "host:1:two"))


@pytest.fixture
def stop_beating(as_superuser: AsSuperuser) -> Callable[[], None]:
    """As if the leader had been stopped just so long ago that it may be replaced."""

    def stop() -> None:
        as_superuser("UPDATE leads SET beat_at = beat_at - make_interval(secs => %s)", [LEAD_SECONDS])

    return stop


def test_one_leads_and_the_next_takes_over_as_soon_as_it_lets_go(dispatchers: tuple[Dispatcher, Dispatcher], stores: Stores) -> None:
    first, second = dispatchers
    assert not leads(stores(Role.DISPATCHER))
    assert first.held()
    assert leads(stores(Role.DISPATCHER))
    assert not second.held()
    assert first.held()
    first.leadership.give_up()
    assert not leads(stores(Role.DISPATCHER))
    assert second.held()
    assert not first.held()


def test_one_alone_leads_on_however_late_its_beats_come(
    dispatchers: tuple[Dispatcher, Dispatcher], stop_beating: Callable[[], None], stores: Stores
) -> None:
    first, _ = dispatchers
    assert first.held()
    stop_beating()
    assert not leads(stores(Role.DISPATCHER))
    assert first.held()
    first.leadership.beat()
    assert leads(stores(Role.DISPATCHER))
    with first.leadership.guarded().transaction() as conn:
        assert conn.execute(text("SELECT term FROM leads")).scalar_one() == 1


def test_a_leader_that_gives_no_sign_of_life_is_replaced_and_steps_down_when_it_wakes(
    dispatchers: tuple[Dispatcher, Dispatcher], stop_beating: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = dispatchers
    assert first.held()
    assert not second.held()
    stop_beating()
    assert second.held()
    first.leadership.beat()
    assert not first.held()
    assert second.held()
    assert caplog.text.count("another dispatcher leads; this one stands by") == 1


def test_what_a_stopped_leader_had_under_way_is_undone(
    dispatchers: tuple[Dispatcher, Dispatcher], stop_beating: Callable[[], None], as_superuser: AsSuperuser
) -> None:
    """It may hold any lock, and would hold it for as long as it is stopped."""
    first, second = dispatchers
    as_superuser("INSERT INTO workers (worker, device, threads, version) VALUES ('host:9:a', 'cpu', 1, '1')")
    assert first.held()
    with suppress(OperationalError), first.leadership.guarded().transaction() as conn:
        conn.execute(text("UPDATE workers SET asked = 'drain'"))
        stop_beating()
        assert second.held()
    assert as_superuser("SELECT holder, asked FROM leads, workers") == [("host:1:two", None)]


def test_a_leader_whose_connections_are_all_gone_is_replaced_at_once(
    dispatchers: tuple[Dispatcher, Dispatcher], as_superuser: AsSuperuser
) -> None:
    """It was killed, and nobody waits until its beats are late."""
    first, second = dispatchers
    assert first.held()
    as_superuser("UPDATE leads SET beat_at = now() + interval '1 hour'")  # or they would be, in the course of the test
    assert not second.held()
    first.store.close()
    wait_until(second.held, "the server has noticed that the sessions ended")


def test_nothing_of_an_old_term_is_committed_in_a_new_one(dispatchers: tuple[Dispatcher, Dispatcher], as_superuser: AsSuperuser) -> None:
    """A taker waits for what the leader has under way, where it did not end it."""
    first, second = dispatchers
    assert first.held()
    with first.leadership.guarded().transaction():
        as_superuser("UPDATE leads SET holder = NULL, sessions = NULL")  # so that there is nothing to end
        taker = threading.Thread(target=second.held)
        taker.start()
        wait_until(lambda: as_superuser(TAKERS) == [(1,)], "the taker waits")
        assert as_superuser("SELECT term, holder FROM leads") == [(1, None)]
    taker.join()
    assert as_superuser("SELECT term, holder FROM leads") == [(2, "host:1:two")]


def test_what_begins_after_another_took_the_lead_is_refused(
    dispatchers: tuple[Dispatcher, Dispatcher], stop_beating: Callable[[], None]
) -> None:
    first, second = dispatchers
    assert first.held()
    stop_beating()
    assert second.held()
    for store in (first.leadership.guarded(), first.leadership.guarded().hurried(500)):
        reached = False
        with pytest.raises((LeadLost, OperationalError)), store.transaction():
            reached = True
        assert not reached
    with second.leadership.guarded().transaction():
        reached = True
    assert reached


def test_who_never_led_may_do_nothing_of_a_leader(dispatchers: tuple[Dispatcher, Dispatcher]) -> None:
    _, second = dispatchers
    with pytest.raises(LeadLost), second.leadership.guarded().transaction():
        pass


def test_a_lead_whose_taking_was_in_doubt_is_taken_again_by_the_same_process(
    dispatchers: tuple[Dispatcher, Dispatcher], as_superuser: AsSuperuser
) -> None:
    """Its commit came through, the answer did not."""
    first, second = dispatchers
    as_superuser("UPDATE leads SET term = 1, holder = 'host:1:one', sessions = 'textmill-dispatcher one', beat_at = now()")
    with first.store.transaction():  # so that it has a session
        assert not second.held()
        assert first.held()


@pytest.fixture
def ended() -> list[int]:
    return []


@pytest.fixture
def watched(stores: Stores, ended: list[int]) -> Leadership:
    leadership = Leadership(stores(Role.DISPATCHER), "host:1:one", end=ended.append)
    assert leadership.held()
    return leadership


def beat(leadership: Leadership, times: int) -> None:
    for _ in range(times):
        leadership.beat()


def keep_house(leadership: Leadership) -> None:
    with leadership.guarded().transaction():
        pass


def test_a_loop_that_hangs_ends_its_process_and_one_that_works_long_does_not(watched: Leadership, ended: list[int]) -> None:
    beat(watched, STALL_BEATS)
    keep_house(watched)
    beat(watched, STALL_BEATS)
    assert ended == []
    beat(watched, 1)
    assert ended == [EX_HANG]


def test_another_thread_at_work_does_not_hide_that_the_loop_hangs(watched: Leadership, ended: list[int]) -> None:
    beat(watched, STALL_BEATS)
    upkeep = threading.Thread(target=keep_house, args=(watched,))
    upkeep.start()
    upkeep.join()
    beat(watched, 1)
    assert ended == [EX_HANG]
