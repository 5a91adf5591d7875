"""What is told of a running job's shards is exact at each look, though those that are done are read once."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from db.actors import Actor
from db.jobs import shard_counts
from db.jobs.jobs import JobRecord, get_job
from db.jobs.shard_counts import Counts, Stretch, count_shards, joined
from db.jobs.steering import retry_job
from db.queue.recovery import reap_leases
from db.queue.shards import claim_any, open_shard
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores

_SUMS = """
    SELECT state, count(*), sum(completed_count), sum(failed_count), sum(input_tokens), sum(output_tokens) FROM shards
    WHERE job_id = :job GROUP BY state
    """


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def told(flow: Flow, job: JobRecord, run: int = 0) -> dict[str, Counts]:
    with flow.api.transaction(tenant=job.tenant_id) as conn:
        return count_shards(conn, job.tenant_id, {job.job_id: run})[job.job_id]


def summed(flow: Flow, job: JobRecord) -> dict[str, Counts]:
    with flow.api.transaction(tenant=job.tenant_id) as conn:
        return {str(state): Counts(*map(int, sums)) for state, *sums in conn.execute(text(_SUMS), {"job": job.job_id})}


@pytest.mark.parametrize("seed", range(3))
def test_each_look_tells_what_all_shards_sum_up_to(flow: Flow, tenant: Actor, seed: int) -> None:
    """Through answers in any order and in parts, failures, shards given up by dead workers and halved."""
    chance = random.Random(seed)
    job = flow.job(tenant, 300, shard_chars=100)
    for _ in range(25):
        lease = claim_any(flow.worker, "host:1", limit=1)[0]
        open_rows = [row.idx for row in open_shard(flow.worker, lease)[1]]
        match chance.randrange(4):
            case 0:
                flow.answer(lease, open_rows[:1], finish=False)
                flow.change_shards("crash_attempts = 2 WHERE state = 'leased'")
                flow.end_leases()
                reap_leases(flow.dispatcher)
            case fate:
                flow.answer(lease, open_rows, fail=fate == 1)
        flow.change_shards("not_before = not_before - interval '1 hour'")
        assert told(flow, job) == summed(flow, job)


def test_a_shard_that_is_done_is_read_once(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    """By what nothing but a test can do: change one afterwards."""
    job = flow.job(tenant, 100)
    for lease in claim_any(flow.worker, "host:1", limit=4):
        flow.answer(lease)
    before = told(flow, job)
    as_superuser("UPDATE shards SET completed_count = 1000 WHERE state = 'done'")
    assert told(flow, job) == before
    flow.answer(flow.claim())
    assert told(flow, job)["done"] == before["done"] + Counts(1, 10, 0, 30, 0)


def test_a_job_that_is_run_again_is_counted_anew(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 40)
    flow.answer(flow.claim(), fail=True)
    flow.answer(flow.claim())
    get_job(flow.api, tenant, job.job_id)
    flow.cancel(tenant, job.job_id)
    again = retry_job(flow.api, tenant, job.job_id)
    assert (again.completed_count, again.failed_count, again.shards) == (10, 0, {"done": 1, "ready": 3})


def test_jobs_are_told_apart_and_one_without_shards_has_none(flow: Flow, tenant: Actor) -> None:
    first, second = flow.job(tenant, 10), flow.job(tenant, 30)
    waiting = flow.submit(tenant, flow.upload(tenant, 10))
    with flow.api.transaction(tenant=tenant.tenant_id) as conn:
        found = count_shards(conn, tenant.tenant_id, {each.job_id: 0 for each in (first, second, waiting)})
    assert {job_id: sum(part.shards for part in parts.values()) for job_id, parts in found.items()} == {
        first.job_id: 1,
        second.job_id: 3,
        waiting.job_id: 0,
    }


def test_counts_of_a_transaction_that_rolled_back_are_not_kept(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 1)
    flow.cut()
    with flow.api.transaction(tenant=tenant.tenant_id) as conn:
        conn.execute(text("UPDATE shards SET state = 'done', completed_count = 9 WHERE job_id = :job"), {"job": job.job_id})
        assert count_shards(conn, tenant.tenant_id, {job.job_id: 0})[job.job_id]["done"].completed == 9
        conn.rollback()
    assert told(flow, job) == summed(flow, job)


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_stretches_and_their_gaps_cover_every_row_once(known: set[int], more: set[int]) -> None:
    def each(rows: set[int]) -> list[Stretch]:
        return [(row, row + 1) for row in sorted(rows)]

    done = shard_counts._Done(stretches=joined(joined((), each(known)), each(more - known)))
    covered = [row for first, end in done.stretches for row in range(first, end)]
    assert covered == sorted(known | more)
    assert sorted([*covered, *(row for first, end in done.gaps() for row in range(first, min(end, 50)))]) == list(range(50))
    assert all(before[1] < after[0] for before, after in zip(done.stretches, done.stretches[1:], strict=False))
