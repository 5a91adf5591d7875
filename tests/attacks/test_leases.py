"""Whoever logs in as a worker gets no lease that a worker could not get, whatever they write; each beside what a worker does."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from db.actors import Actor
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores

AT_ONCE = "clock_timestamp() + interval '30 seconds'"


@pytest.fixture
def flow(stores: Stores, tenant: Actor) -> Flow:
    flow = Flow(stores)
    flow.job(tenant, 2)
    flow.cut()
    return flow


def write(flow: Flow, change: str) -> int:
    """As the worker's role, past all that its code would say. How many shards changed."""
    with flow.worker.transaction() as conn:
        done: Any = conn.execute(text(f"UPDATE shards SET {change}"))
        return int(done.rowcount)


def refused(flow: Flow, change: str) -> bool:
    with pytest.raises(ProgrammingError) as caught:
        write(flow, change)
    return getattr(caught.value.orig, "sqlstate", None) == "42501"


TAKEN = f"state = 'leased', epoch = epoch + 1, worker = 'me', lease_expires_at = {AT_ONCE}"


def test_what_is_ready_is_taken_one_epoch_further(flow: Flow) -> None:
    assert write(flow, TAKEN) == 1


@pytest.mark.parametrize(
    "change",
    [
        TAKEN.replace("epoch + 1", "epoch + 2"),
        TAKEN.replace("epoch + 1", "epoch"),
        TAKEN.replace("30 seconds", "2 hours"),
        TAKEN.replace(AT_ONCE, "'infinity'"),
        TAKEN.replace(AT_ONCE, "NULL"),
        "state = 'done'",
        "epoch = epoch + 1",
        "last_error = 'x'",
        "completed_count = 2",
    ],
)
def test_what_is_ready_is_taken_no_other_way(flow: Flow, change: str) -> None:
    assert refused(flow, change)


@pytest.mark.parametrize("state", ["done", "cancelled", "expired"])
def test_what_has_ended_is_not_touched(flow: Flow, as_superuser: AsSuperuser, state: str) -> None:
    """As it was, 708 texts of ended shards could be read so, by giving oneself their lease."""
    as_superuser("UPDATE shards SET state = %s", [state])
    for change in (TAKEN, TAKEN.replace("epoch + 1", "epoch"), "state = 'ready'", "epoch = epoch + 1", "completed_count = 0"):
        assert refused(flow, change), change


def test_the_holder_renews_and_lets_go_at_its_epoch(flow: Flow) -> None:
    flow.claim()
    assert write(flow, f"lease_expires_at = {AT_ONCE}, completed_count = 1") == 1
    for change in ("epoch = epoch + 1", "epoch = epoch - 1", TAKEN, "lease_expires_at = clock_timestamp() + interval '2 hours'"):
        assert refused(flow, change), change
    assert write(flow, "state = 'ready', lease_expires_at = NULL, worker = NULL") == 1


def test_an_overdue_lease_is_taken_and_not_renewed(flow: Flow, as_superuser: AsSuperuser) -> None:
    flow.claim()
    as_superuser("UPDATE shards SET lease_expires_at = now() - interval '1 second'")
    for change in (f"lease_expires_at = {AT_ONCE}", "state = 'ready'", "state = 'done'", "completed_count = 2"):
        assert refused(flow, change), change
    assert write(flow, TAKEN) == 1


def test_the_dispatcher_and_the_api_are_not_held_to_a_workers_rules(flow: Flow, as_superuser: AsSuperuser) -> None:
    as_superuser("UPDATE shards SET state = 'done'")
    with flow.dispatcher.transaction() as conn:
        assert conn.execute(text("UPDATE shards SET state = 'ready', epoch = epoch + 1")).rowcount == 1
