from collections.abc import Callable

import pytest

from db.actors import Actor
from db.connect import Store
from db.errors import NotFound
from db.jobs.jobs import get_job
from db.jobs.timeline import TOLD, WorkerTotal, job_story
from db.queue.endings import finalize_jobs
from db.queue.recovery import reap_leases
from db.queue.shards import release
from db.settings import Role
from tests.db.flow import Flow

Stores = Callable[[Role], Store]


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_a_story_tells_who_ran_the_shards_and_why_one_failed_also_after_the_end(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    flow.claim("a:1")
    flow.end_leases()
    reap_leases(flow.dispatcher)
    release(flow.worker, flow.claim("b:2"), code="out_of_memory", kind="error")
    flow.change_shards("not_before = NULL")
    while claimed := [flow.claim("c:3")] if get_job(flow.api, tenant, job.job_id).shards.get("ready") else []:
        flow.answer(claimed[0])
    finalize_jobs(flow.dispatcher)
    assert get_job(flow.api, tenant, job.job_id).state == "completed"
    story = job_story(flow.api, tenant, job.job_id)
    assert {(one.state, one.last_worker) for one in story.shards} == {("done", "c:3")}
    assert sorted((one.crash_attempts, one.error_attempts, one.last_error) for one in story.shards) in (
        [(0, 1, "out_of_memory"), (1, 0, "crashed_worker")],
        [(1, 1, "out_of_memory")],
    )
    assert all(one.progressed_at is not None for one in story.shards)
    (total,) = story.totals
    assert (total.state, total.shards, total.rows, total.crashes, total.errors) == ("done", 3, 30, 1, 1)
    assert story.workers == [WorkerTotal("c:3", 3, 30)]


def test_of_many_shards_those_with_a_fault_are_told_first_in_the_order_of_the_file(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 300)
    flow.change_shards("crash_attempts = 1, last_error = 'crashed_worker' WHERE first_idx IN (290, 280)")
    lease = flow.claim()
    story = job_story(flow.api, tenant, job.job_id)
    assert len(story.shards) == TOLD
    firsts = [one.first_idx for one in story.shards]
    assert firsts == sorted(firsts)
    assert {290, 280, lease.first_idx} <= set(firsts)
    assert sum(total.shards for total in story.totals) == 30


def test_a_story_is_on_record_and_another_tenant_s_is_not_found(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    before = flow.execute(tenant, "SELECT count(*) FROM audit_events WHERE action = 'job.read' AND outcome = 'allowed'")
    job_story(flow.api, tenant, job.job_id)
    after = flow.execute(tenant, "SELECT count(*) FROM audit_events WHERE action = 'job.read' AND outcome = 'allowed'")
    assert int(str(after[0][0])) == int(str(before[0][0])) + 1
    with pytest.raises(NotFound):
        job_story(flow.api, flow.new_tenant(), job.job_id)
