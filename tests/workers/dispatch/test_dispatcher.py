from collections.abc import Callable
from uuid import UUID

import pytest
import redis
from sqlalchemy import select

from db.actors import Actor
from db.connect import Store
from db.errors import LeadLost
from db.jobs import jobs
from db.queue import endings
from db.queue.leader import Leadership
from db.schema import shards
from db.settings import Role, StoreSettings
from db.sweeps import Place, Unfinished
from tests.workers.submitting import row, submit
from workers import app as messages
from workers.app import QUEUE
from workers.dispatch.broker import CeleryBroker
from workers.dispatch.dispatcher import Dispatcher, rest_seconds
from workers.dispatch.metrics import REGISTRY
from workers.dispatch.sizing import MIN_CHARS
from workers.settings import DispatcherSettings

Stores = Callable[[Role], Store]
WORDS = "some words " * (MIN_CHARS // 11)  # a shard is eight rows, the least there is


@pytest.fixture(autouse=True)
def connected(settings: StoreSettings) -> None:
    messages.connect(settings)


@pytest.fixture
def queue(valkey: str) -> "redis.Redis":
    client = redis.Redis.from_url(valkey)
    client.delete(QUEUE)
    return client


def a_dispatcher(stores: Stores, url: str, *, window: int = 64, clock: Callable[[], float] = lambda: 0.0) -> Dispatcher:
    settings = DispatcherSettings(window=window, shard_seconds=0.01)
    return Dispatcher(stores(Role.DISPATCHER), settings, CeleryBroker(url), clock=clock)


def a_job(stores: Stores, tenant: Actor, row_count: int) -> UUID:
    return submit(stores(Role.API), tenant, [row(at, {"input": WORDS}) for at in range(row_count)])


def test_a_job_is_cut_and_offered(
    stores: Stores, tenant: Actor, valkey: str, queue: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_ENGINE", "1")
    job_id = a_job(stores, tenant, 40)
    dispatcher = a_dispatcher(stores, valkey)
    assert dispatcher.tick()
    assert jobs.get_job(stores(Role.API), tenant, job_id).state == "in_progress"
    with stores(Role.DISPATCHER).transaction() as connection:
        cut = connection.execute(select(shards.c.shard_id).where(shards.c.job_id == job_id)).all()
    assert len(cut) > 1
    assert queue.llen(QUEUE) == len(cut)
    assert not dispatcher.tick(), "nothing is offered twice"


def test_a_message_names_a_shard_and_an_epoch_and_nothing_else(stores: Stores, tenant: Actor, valkey: str, queue: "redis.Redis") -> None:
    a_job(stores, tenant, 1)
    a_dispatcher(stores, valkey).tick()
    (raw,) = queue.lrange(QUEUE, 0, -1)
    assert b"some words" not in raw
    import base64
    import json

    args, kwargs, _embed = json.loads(base64.b64decode(json.loads(raw)["body"]))
    assert args == []
    assert set(kwargs) == {"shard_id", "epoch"}


def test_a_message_goes_out_once_its_shard_is_written_down_as_offered(stores: Stores, tenant: Actor) -> None:
    """Sooner, a worker could take it before the store knows of it, and a rollback would leave it out there."""
    a_job(stores, tenant, 1)

    class Watched:
        seen: list[bool] = []  # noqa: RUF012 - of this class only

        def waiting(self) -> int:
            return 0

        def publish(self, offered: list[tuple[UUID, int]]) -> None:
            with stores(Role.API).transaction(tenant=tenant.tenant_id) as connection:
                known = connection.execute(select(shards.c.shard_id).where(shards.c.dispatched_at.is_not(None))).scalars().all()
            self.seen.append({shard_id for shard_id, _ in offered} == set(known))

    dispatcher = Dispatcher(stores(Role.DISPATCHER), DispatcherSettings(), Watched(), clock=lambda: 0.0)
    dispatcher.tick()
    assert Watched.seen == [True]


def test_the_backlog_stays_in_postgres(
    stores: Stores, tenant: Actor, valkey: str, queue: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_ENGINE", "1")
    a_job(stores, tenant, 64)
    dispatcher = a_dispatcher(stores, valkey, window=3)
    dispatcher.tick()
    assert queue.llen(QUEUE) == 3
    dispatcher.tick()
    assert queue.llen(QUEUE) == 3
    queue.lpop(QUEUE)
    dispatcher.tick()
    assert queue.llen(QUEUE) == 3


def test_a_broker_that_is_away_is_told_once_and_stops_nothing(
    stores: Stores, tenant: Actor, valkey: str, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    dispatcher = a_dispatcher(stores, "redis://127.0.0.1:1/0", clock=lambda: now[0])
    for _ in range(3):
        job_id = a_job(stores, tenant, 1)
        dispatcher.tick()
        assert jobs.get_job(stores(Role.API), tenant, job_id).state == "in_progress"
        now[0] += 10
    assert caplog.text.count("the broker is away") == 1


def test_a_step_that_fails_is_told_once_and_the_others_go_on(
    stores: Stores, tenant: Actor, valkey: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Store, _place: Place) -> int:
        raise RuntimeError("something with content in it")

    monkeypatch.setattr(endings, "expire_jobs", fail)
    dispatcher = a_dispatcher(stores, valkey)
    job_id = a_job(stores, tenant, 1)
    dispatcher.tick()
    dispatcher.tick()
    assert jobs.get_job(stores(Role.API), tenant, job_id).state == "in_progress"
    assert caplog.text.count("step expire failed: RuntimeError") == 1
    assert "content" not in caplog.text


def test_a_step_that_left_one_job_behind_is_counted_as_failed_and_as_having_moved_the_others(
    stores: Stores, valkey: str, queue: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    def expire_all_but_one(_: Store, _place: Place) -> int:
        raise Unfinished(done, 1)

    monkeypatch.setattr(endings, "expire_jobs", expire_all_but_one)
    before = REGISTRY.get_sample_value("textmill_dispatcher_step_failures_total", {"step": "expire"}) or 0
    dispatcher = a_dispatcher(stores, valkey)
    for done in (2, 0):
        assert dispatcher.tick() is (done > 0)
    assert REGISTRY.get_sample_value("textmill_dispatcher_step_failures_total", {"step": "expire"}) == before + 2


def test_a_round_ends_where_another_dispatcher_leads(stores: Stores, tenant: Actor, valkey: str, queue: "redis.Redis") -> None:
    job_id = a_job(stores, tenant, 1)
    leadership = Leadership(stores(Role.DISPATCHER), "host:1:one")
    dispatcher = Dispatcher(leadership.guarded(), DispatcherSettings(), CeleryBroker(valkey), clock=lambda: 0.0)
    with pytest.raises(LeadLost):
        dispatcher.tick()
    assert jobs.get_job(stores(Role.API), tenant, job_id).state == "validating"
    assert leadership.held()
    assert dispatcher.tick()
    assert jobs.get_job(stores(Role.API), tenant, job_id).state == "in_progress"


def test_wake_ups_that_never_end_take_a_tenth_of_the_time_and_one_alone_is_served_at_once() -> None:
    assert rest_seconds(0.01, 0.0, 0.25) == pytest.approx(0.09)
    assert rest_seconds(0.01, 0.02, 0.25) == pytest.approx(0.07)
    assert rest_seconds(0.01, 5.0, 0.25) == 0.0
    assert rest_seconds(2.0, 0.0, 0.25) == 0.25, "a slow database makes no job wait longer than without wake-ups"
