"""`textmill doctor` looks at the work, and tells an operator what to do."""

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from api.local.doctor import work
from api.local.doctor.finding import Finding
from api.local.doctor.work import examine_work
from api.local.home.home import Home
from db.actors import Actor
from db.connect import Store
from db.operators import fleet
from db.operators.fleet import WorkerRecord
from db.operators.health import Health, Stuck
from db.queue.dispatch import pick_dispatchable
from db.settings import Role, StoreSettings
from tests.db.flow import Flow
from workers import app as messages
from workers.dispatch.broker import CeleryBroker
from workers.dispatch.leader import Leadership

Stores = Callable[[Role], Store]
Examine = Callable[[], dict[str, Finding]]
NOW = datetime.now(UTC)


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
        yield lambda: {found.check: found for found in examine_work(Home(settings.home))}
        client.delete(messages.QUEUE)


def health(**changes: object) -> Health:
    nothing = {
        "ready": 0,
        "leased": 0,
        "paused": 0,
        "expired_leases": 0,
        "oldest_ready_seconds": 0.0,
        "abandoned_leases": 0,
        "not_offered": 0,
        "jobs": {},
        "workers": {},
    }
    return Health(**{**nothing, **changes})  # type: ignore[arg-type]


def a_worker(**changes: object) -> WorkerRecord:
    well = {
        "worker": "gpu-1:77",
        "device": "cuda:0",
        "threads": 4,
        "version": "1",
        "state": "running",
        "asked": None,
        "started_at": NOW,
        "seen_at": NOW,
        "progressed_at": NOW,
        "leases": 2,
        "rows_done": 10,
        "memory_bytes": 0,
        "silent_seconds": 1.0,
        "still_seconds": 1.0,
        "held": 2,
    }
    return WorkerRecord(**{**well, **changes})  # type: ignore[arg-type]


def bad(found: Sequence[Finding]) -> list[Finding]:
    wrong = [each for each in found if not each.ok]
    assert all(each.todo for each in wrong), "each says what to do"
    assert not any(each.todo for each in found if each.ok)
    return wrong


def test_with_nothing_to_do_all_is_well_but_for_the_tests_own_server(look: Examine) -> None:
    found = look()
    assert [each.check for each in bad(list(found.values()))] == ["durability"]
    assert set(found) == {"durability", "dispatcher", "workers", "jobs", "leases", "shards", "counts", "messages"}


def test_work_that_nobody_does_is_found(look: Examine, flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 30)
    found = look()
    assert "1 job(s) are live" in found["dispatcher"].found
    assert "textmill dispatcher" in found["dispatcher"].todo
    assert "textmill worker" in found["workers"].todo
    leadership = Leadership(flow.dispatcher)
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


def test_a_message_that_is_none_of_ours_is_passed_over() -> None:
    for raw in (b"", b"{}", b'{"body": 7}', b'{"body": "bm8="}', b'{"body": "WzEsMiwzXQ=="}'):
        assert work.claim_check(raw) is None


def test_a_broker_that_is_away_is_left_to_the_check_that_says_so(look: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_REDIS_URL", "redis://127.0.0.1:1/0")
    assert "messages" not in look()


def test_a_dispatcher_that_may_not_log_in_is_found(look: Examine, settings: StoreSettings) -> None:
    (settings.home / "secrets" / "db-dispatcher").write_text("a-wrong-password\n")
    found = look()
    assert not found["work"].ok
    assert "a-wrong-password" not in str(found)


# What the counts mean


def test_a_job_that_stands_still_is_named() -> None:
    job = uuid.uuid4()
    (found,) = bad([work.jobs([Stuck(job, "in_progress", 1234.5)], health(jobs={"in_progress": 1}))])
    assert f"batch_{job.hex} (in_progress for 1,234 s)" in found.found


def test_shards_without_a_message_count_only_while_nobody_works() -> None:
    assert bad([work.shards(health(ready=5, not_offered=5, oldest_ready_seconds=300.0))])
    assert not bad([work.shards(health(ready=5, not_offered=5, oldest_ready_seconds=5.0))])
    assert not bad([work.shards(health(ready=500, leased=4, not_offered=440, oldest_ready_seconds=900.0))])


def test_a_silent_worker_and_one_that_makes_no_progress_are_named() -> None:
    well, silent = a_worker(), a_worker(worker="gpu-2:5", silent_seconds=500.0)
    still = a_worker(worker="gpu-3:6", still_seconds=work.STILL_SECONDS + 1)
    idle = a_worker(worker="gpu-4:7", still_seconds=work.STILL_SECONDS + 1, leases=0)
    found = bad(list(work.living(health(ready=1), [well, silent, still, idle])))
    assert [each.check for each in found] == ["worker gpu-2:5", "worker gpu-3:6"]
    assert "holds 2 shard(s)" in found[0].found
    assert "gpu-3" in found[1].todo


def test_counts_that_do_not_add_up_are_found() -> None:
    job = uuid.uuid4()
    (found,) = bad([work.counts({job: 3}, 2)])
    assert found.found == f"batch_{job.hex} (3 rows without an outcome); 2 live shard(s) of jobs that have ended"


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(("total", "free", "ok"), [(100, 20, True), (100, 4, False), (1_000, 15, True), (1_000, 9, False), (10, 2, True)])
def test_a_disk_that_is_nearly_full_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, free: int, ok: bool) -> None:
    home = Home(tmp_path)
    home.postgres.mkdir()
    monkeypatch.delenv("TEXTMILL_DATABASE_URL", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(total << 30, (total - free) << 30, free << 30))
    (found,) = work.postgres_disk(home)
    assert found.ok is ok
