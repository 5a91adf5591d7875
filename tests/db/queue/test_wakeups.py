"""Wake-ups reach whoever listens, and are never needed."""

import threading
from collections.abc import Callable
from contextlib import closing

from sqlalchemy import text

from db.connect import Store
from db.queue.wakeups import Bell, Listener, ring_once
from db.settings import Role

Stores = Callable[[Role], Store]


def test_a_bell_wakes_the_listener(stores: Stores) -> None:
    wake = threading.Event()
    with closing(Listener(stores(Role.DISPATCHER), wake)) as listener:
        assert listener.ready.wait(10)
        for role in (Role.WORKER, Role.API):
            with closing(Bell(stores(role))) as bell:
                wake.clear()
                bell.ring()
                assert wake.wait(10), role


def test_what_was_rung_is_passed_on_before_the_end(stores: Stores) -> None:
    wake = threading.Event()
    with closing(Listener(stores(Role.DISPATCHER), wake)) as listener:
        assert listener.ready.wait(10)
        bell = Bell(stores(Role.WORKER))
        bell.ring()
        bell.close()
        assert wake.wait(10)


def test_a_listener_whose_connection_is_cut_listens_again(stores: Stores) -> None:
    wake = threading.Event()
    with closing(Listener(stores(Role.DISPATCHER), wake)) as listener, closing(Bell(stores(Role.WORKER))) as bell:
        assert listener.ready.wait(10)
        listener.ready.clear()
        with stores(Role.DISPATCHER).transaction() as conn:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
            conn.execute(text(others))
        assert listener.ready.wait(10)
        bell.ring()
        assert wake.wait(10)


def test_a_bell_outlives_a_store_that_is_away(stores: Stores) -> None:
    store = stores(Role.WORKER)
    with closing(Bell(store)) as bell:
        store.engine.dispose()
        bell.ring()


def test_a_word_outlives_a_connection_that_was_lost_in_the_pool(stores: Stores) -> None:
    """Who rings once and goes has no second word."""
    store = stores(Role.WORKER)
    with store.transaction() as conn:
        ring_once(store)  # on another one, which lies in the pool from now on
        others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
        assert conn.execute(text(others)).all()
        ring_once(store)
