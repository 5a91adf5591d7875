"""The leases of a worker that the supervisor saw die, freed at once. With real processes: tests/faults/test_operators.py."""

from collections.abc import Callable

import pytest

from api.local.processes.deaths import Deaths, free_leases
from db.actors import Actor
from db.connect import Store
from db.lifecycle import Shard
from db.operators import fleet
from db.queue import recovery
from db.settings import Role, StoreSettings
from db.sweeps import Place
from tests.db.flow import Flow

Stores = Callable[[Role], Store]
DEAD = "host:1:a1b2c3d4"


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_a_death_frees_what_that_process_held_and_strikes_it_off(flow: Flow, tenant: Actor, settings: StoreSettings) -> None:
    told: list[str] = []
    job = flow.job(tenant, 30)
    for worker in (DEAD, "another:1"):
        fleet.register(flow.worker, worker, device="cpu", threads=4, version="1")
        flow.claim(worker)
    deaths = Deaths(settings, told.append)
    deaths.saw(DEAD)
    deaths.close()
    assert sorted(shard[2] for shard in flow.shards(job)) == ["leased", "ready", "ready"]
    assert [each.worker for each in fleet.list_workers(flow.dispatcher)] == ["another:1"]
    assert told == [f"{DEAD} is dead: 1 shard(s) it held are offered again"]
    deaths.saw(DEAD)
    deaths.close()
    assert len(told) == 1, "who held nothing leaves nothing to tell"


def test_a_death_costs_another_process_of_the_same_host_and_pid_nothing(flow: Flow, tenant: Actor) -> None:
    """In two containers of one host name each worker is process 1."""
    flow.job(tenant, 20)
    other = "host:1:e5f6a7b8"
    for worker in (DEAD, other):
        fleet.register(flow.worker, worker, device="cpu", threads=4, version="1")
        flow.claim(worker)
    assert free_leases(flow.dispatcher, DEAD) == 1
    assert recovery.holds_leases(flow.dispatcher, other)
    assert [each.worker for each in fleet.list_workers(flow.dispatcher)] == [other]


def test_a_shard_that_cannot_be_freed_keeps_none_of_the_dead_s_others(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    job = flow.job(tenant, 20)
    first, _second = flow.claim("host:1"), flow.claim("host:1")
    after_crash, tried = recovery.after_crash, 0

    def fail_once(shard: Shard, *args: object, **more: object) -> object:
        nonlocal tried
        tried += shard.first_idx == first.first_idx
        if shard.first_idx == first.first_idx and tried == 1:
            raise RuntimeError
        return after_crash(shard, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(recovery, "after_crash", fail_once)
    assert free_leases(flow.dispatcher, "host:1") == 2
    assert [shard[2] for shard in flow.shards(job)] == ["ready", "ready"]


def test_a_database_that_is_away_is_only_logged(settings: StoreSettings, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    away = settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/textmill?connect_timeout=1"})
    deaths = Deaths(away, told.append)
    deaths.saw(DEAD)
    deaths.close()
    assert told == []
    assert "run out by themselves (OperationalError)" in caplog.text


def test_a_shard_that_the_dead_s_last_statement_still_locks_is_freed_after_it(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow.job(tenant, 10)
    lease = flow.claim("host:1")
    real, looks = recovery.reap_leases, 0

    def reap(store: Store, place: Place, *, dead: str | None = None) -> object:
        nonlocal looks
        looks += 1
        if looks == 2:
            last.rollback()  # the server has noticed that its client is gone
        return real(store, place, dead=dead)

    monkeypatch.setattr(recovery, "reap_leases", reap)
    with flow.worker.engine.connect() as last:
        last.exec_driver_sql("SELECT FROM shards WHERE shard_id = %s FOR UPDATE", (lease.shard_id,))
        assert free_leases(flow.dispatcher, "host:1") == 1
    assert looks == 2
