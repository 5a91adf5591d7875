"""One item that cannot be moved costs a sweep little, and those behind it nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.actors import Actor
from db.connect import LOCK_TIMEOUT_MS, Store
from db.files import purge
from db.jobs.jobs import JobRecord, get_job
from db.jobs.steering import cancel_job
from db.lifecycle import Shard
from db.purging import Lasting
from db.queue import endings, recovery
from db.queue.endings import cancel_shards, expire_jobs
from db.queue.recovery import reap_leases
from db.sweeps import BRIEF_MS, WAIT_MS, WAITED_FOR, Page, Place, Unfinished, paged, sweep
from tests.db.flow import Flow, Stores
from tests.looking import on_record

CANARY = "canary-7f3a-plaintext"
_FIVE = paged("SELECT number AS at, md5(number::text)::uuid AS id FROM generate_series(1, 5) AS number", "integer")
_ITEMS = paged("SELECT number AS at, gen_random_uuid() AS id FROM generate_series(1, 1000) AS number", "integer")


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


@contextmanager
def held(store: Store, rows: str, **parameters: object) -> Iterator[None]:
    """Somebody locks these rows and stands still."""
    with store.transaction() as frozen:
        frozen.execute(text(f"{rows} FOR UPDATE"), parameters)
        yield


def overdue(flow: Flow, actor: Actor, seconds: int) -> JobRecord:
    job = flow.job(actor, 10)
    flow.execute(actor, "UPDATE jobs SET deadline = now() - make_interval(secs => :s) WHERE job_id = :job", s=seconds, job=job.job_id)
    return job


def test_a_job_with_a_locked_shard_does_not_keep_others_from_expiring(flow: Flow, tenant: Actor) -> None:
    first, second = overdue(flow, tenant, 2), overdue(flow, tenant, 1)
    with held(flow.worker, "SELECT FROM shards WHERE job_id = :job", job=first.job_id):
        with pytest.raises(Unfinished) as unfinished:
            expire_jobs(flow.dispatcher)
        assert (unfinished.value.done, unfinished.value.left) == (1, 1)
        assert [get_job(flow.api, tenant, job.job_id).state for job in (first, second)] == ["in_progress", "expired"]
    assert expire_jobs(flow.dispatcher) == 1


def test_a_locked_new_job_does_not_keep_others_from_starting(flow: Flow, tenant: Actor) -> None:
    first, second = (flow.submit(tenant, flow.upload(tenant, 10)) for _ in range(2))
    with flow.api.transaction(tenant=tenant.tenant_id) as frozen:
        frozen.execute(text("SELECT FROM jobs WHERE job_id = :job FOR UPDATE"), {"job": first.job_id})
        with pytest.raises(Unfinished):
            flow.cut()
        assert get_job(flow.api, tenant, second.job_id).state == "in_progress"
    assert flow.cut() == 1


def test_a_shard_that_cannot_be_freed_does_not_keep_others_from_it_and_is_named_without_content(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = flow.job(tenant, 20)
    (first, second), after_crash = [flow.claim(), flow.claim()], recovery.after_crash

    def fail_once(shard: Shard, *args: object, **more: object) -> object:
        if shard.first_idx == first.first_idx:
            raise ValueError(CANARY)
        return after_crash(shard, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(recovery, "after_crash", fail_once)
    flow.end_leases()
    with pytest.raises(Unfinished) as unfinished:
        reap_leases(flow.dispatcher)
    assert unfinished.value.done == 1
    states = {row[0]: row[2] for row in flow.shards(job)}
    assert (states[first.first_idx], states[second.first_idx]) == ("leased", "ready")
    assert f"{first.shard_id} could not be moved now (ValueError)" in caplog.text
    assert CANARY not in caplog.text


def test_a_locked_shard_does_not_keep_others_from_being_cancelled(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    cancel_job(flow.api, tenant, job.job_id)
    with held(flow.worker, "SELECT FROM shards WHERE first_idx = 0"):
        assert cancel_shards(flow.dispatcher) == 1
    assert cancel_shards(flow.dispatcher) == 1


def test_a_full_page_of_jobs_that_cannot_be_moved_keeps_those_behind_it_no_longer_than_a_pass(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "ENDED_AT_ONCE", 2)
    stuck, behind = [overdue(flow, tenant, 3), overdue(flow, tenant, 2)], overdue(flow, tenant, 1)
    place = Place()
    with held(flow.worker, "SELECT FROM shards WHERE job_id = ANY(:jobs)", jobs=[job.job_id for job in stuck]):
        with pytest.raises(Unfinished) as unfinished:
            expire_jobs(flow.dispatcher, place)
        assert (unfinished.value.done, unfinished.value.left) == (0, 2)
        assert expire_jobs(flow.dispatcher, place) == 1
        assert get_job(flow.api, tenant, behind.job_id).state == "expired"
    assert expire_jobs(flow.dispatcher, place) == 2, "and from the first again"


def test_a_pass_begins_at_the_first_again_where_there_is_nothing_behind(flow: Flow) -> None:
    place = Place()
    seen: list[list[int]] = []
    for _ in range(3):
        page = Page.look(flow.dispatcher, _FIVE, place, limit=3)
        seen.append([row.at for row in page.items])
        page.leave(done=0)
    assert seen == [[1, 2, 3], [4, 5], [1, 2, 3]]
    page = Page.look(flow.dispatcher, _FIVE, place, limit=3)
    page.leave(done=2)
    place.at = 5
    assert [row.at for row in Page.look(flow.dispatcher, _FIVE, place, limit=3).items] == [1, 2, 3]
    Page.look(flow.dispatcher, _FIVE, place, limit=3).leave(done=3)
    assert place == Place(), "all of the page is gone: what is first now was behind it"


def test_files_that_cannot_be_purged_do_not_use_up_every_pass(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "ITEMS_AT_ONCE", 2)
    files = [flow.upload(tenant, 5) for _ in range(3)]
    flow.execute(tenant, "UPDATE files SET expires_at = now() - interval '1 hour'")
    passes = purge.FilePurge(flow.dispatcher, Lasting(3600))
    with on_record(flow.api, tenant.tenant_id) as frozen:
        frozen.execute(text("SELECT FROM rows WHERE file_id = ANY(:files) FOR UPDATE"), {"files": [file.file_id for file in files[:2]]})
        with pytest.raises(Unfinished):
            passes.run()
        assert passes.run().gone == 1
    assert passes.run().gone == 2


def test_a_sweep_ends_where_its_connection_is_lost(flow: Flow) -> None:
    tried: list[object] = []

    def lose(store: Store, item: object) -> int:
        tried.append(item)
        with store.transaction() as conn:
            conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return 1

    with pytest.raises(DBAPIError):
        over(flow, 3, lose)
    assert len(tried) == 1


def test_a_table_that_is_locked_as_a_whole_is_waited_for_at_a_few_items(flow: Flow) -> None:
    waits: list[str] = []

    def refuse(store: Store, _item: object) -> int:
        with store.transaction() as conn:
            waits.append(conn.execute(text("SELECT current_setting('lock_timeout')")).scalar_one())
        raise RuntimeError

    with pytest.raises(Unfinished) as unfinished:
        over(flow, WAITED_FOR + 2, refuse)
    assert unfinished.value.left == WAITED_FOR + 2
    assert waits == [f"{WAIT_MS}ms"] * WAITED_FOR + [f"{BRIEF_MS}ms"] * 2
    with flow.dispatcher.transaction() as conn:
        assert conn.execute(text("SELECT current_setting('lock_timeout')")).scalar_one() == f"{LOCK_TIMEOUT_MS // 1000}s"


def over(flow: Flow, count: int, move: Callable[[Store, object], int]) -> int:
    return sweep(flow.dispatcher, Page.look(flow.dispatcher, _ITEMS, None, limit=count), move)
