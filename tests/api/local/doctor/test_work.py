"""`textmill doctor` looks at the work, and tells an operator what to do."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import pytest
import redis

from api.local.doctor.doctor import examine
from api.local.doctor.finding import Finding
from api.local.doctor.place import Place
from api.local.doctor.work import examine_work
from api.local.home.home import Home
from db.actors import Actor
from db.connect import Store
from db.operators import fleet
from db.queue.dispatch import pick_dispatchable
from db.queue.leader import Leadership
from db.settings import Role, StoreSettings
from tests.db.flow import Flow
from workers import app as messages
from workers.dispatch.broker import CeleryBroker

Stores = Callable[[Role], Store]
Examine = Callable[[], dict[str, Finding]]


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


@pytest.fixture
def look(settings: StoreSettings, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Examine]:
    """What is found in the test's database, by check."""
    monkeypatch.setenv("TEXTMILL_HOME", str(settings.home))
    monkeypatch.setenv("TEXTMILL_DATABASE_URL", str(settings.database_url))
    monkeypatch.setenv("TEXTMILL_REDIS_URL", str(settings.redis_url))
    with closing(redis.Redis.from_url(valkey)) as client:
        client.delete(messages.QUEUE)
        yield lambda: {found.check: found for found in examine_work(Place.of(Home(settings.home)))}
        client.delete(messages.QUEUE)


def bad(found: Sequence[Finding]) -> list[Finding]:
    wrong = [each for each in found if not each.ok]
    assert all(each.todo for each in wrong), "each says what to do"
    assert not any(each.todo for each in found if each.ok)
    return wrong


def test_with_nothing_to_do_all_is_well_but_for_the_tests_own_server(look: Examine) -> None:
    found = look()
    assert [each.check for each in bad(list(found.values()))] == ["durability"]
    assert set(found) == {"durability", "dispatcher", "workers", "jobs", "leases", "shards", "counts", "messages", "sealed values"}


def test_work_that_nobody_does_is_found(look: Examine, flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 30)
    found = look()
    assert "1 job(s) are live" in found["dispatcher"].found
    assert "textmill dispatcher" in found["dispatcher"].todo
    assert "textmill worker" in found["workers"].todo
    leadership = Leadership(flow.dispatcher, "host:1:one")
    assert leadership.held()
    fleet.register(flow.worker, "host:1", device="cpu", threads=1, version="1")
    found = look()
    assert found["dispatcher"].ok
    assert found["workers"].ok
    fleet.beat(flow.worker, "host:1", fleet.Beat("drained", 0.0, 0, 0, 0))
    assert "resume --all" in look()["workers"].todo
    leadership.give_up()


def test_a_lease_that_nobody_took_up_is_found(look: Examine, flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 10)
    flow.claim()
    assert look()["leases"].ok
    flow.change_shards("lease_expires_at = now() - interval '2 minutes'")
    assert "1 ran out over a minute ago" in look()["leases"].found


def test_messages_that_nobody_takes_are_found(look: Examine, flow: Flow, tenant: Actor, settings: StoreSettings) -> None:
    flow.job(tenant, 20)
    messages.connect(settings)
    broker = CeleryBroker(settings.broker_url())
    offered = pick_dispatchable(flow.dispatcher, 2)
    broker.publish(offered)
    found = look()["messages"]
    assert (found.ok, found.found) == (True, "2 wait, 2 shards are ready")
    broker.publish([(uuid.uuid4(), 0) for _ in range(15)])
    found = look()["messages"]
    assert not found.ok
    assert "of 17 looked at, 15 name no ready shard" in found.found
    assert messages.QUEUE in found.todo
    broker.close()


def test_a_broker_that_is_away_is_left_to_the_check_that_says_so(look: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_REDIS_URL", "redis://127.0.0.1:1/0")
    assert "messages" not in look()


def test_what_cannot_be_asked_is_told_once(look: Examine, settings: StoreSettings) -> None:
    (settings.home / "secrets" / "db-dispatcher").write_text("a-wrong-password\n")
    found = examine(Home(settings.home))
    assert [each.check for each in found if not each.ok and each.check in {"postgres", "work", "tables"}] == ["postgres"]
    assert not {"leases", "dispatcher"} & {each.check for each in found}
    assert "a-wrong-password" not in str(found)
