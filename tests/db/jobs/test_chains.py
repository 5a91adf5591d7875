"""What is asked of a chain is asked of all its steps, in their order."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import text

from db.actors import Actor
from db.errors import Conflict, NotFound
from db.jobs import steering
from db.jobs.creating import create_job
from db.jobs.jobs import JobRecord, delete_outputs, get_job, list_jobs
from db.jobs.results import iter_results
from db.queue import shards
from db.queue.endings import cancel_shards, expire_jobs, finalize_jobs
from tests.db.flow import Flow, Stores, new_job
from tests.db.queue.test_sources import chain, opened, run


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def look(flow: Flow, actor: Actor, held: UUID) -> JobRecord:
    return get_job(flow.api, actor, held)


def states(flow: Flow, actor: Actor, held: UUID) -> list[str]:
    return [step.state for step in look(flow, actor, held).steps]


def test_the_last_step_tells_of_all_and_the_others_are_in_no_list(flow: Flow, tenant: Actor) -> None:
    ids = chain(flow, tenant, 12, steps=3)
    run(flow, tenant)
    told = look(flow, tenant, ids[-1])
    assert [(step.job_id, step.step, step.step_name, step.state) for step in told.steps] == [
        (ids[0], 1, "step1", "completed"),
        (ids[1], 2, "step2", "validating"),
        (ids[2], 3, "step3", "validating"),
    ]
    assert told.steps[0].completed_count == 12
    assert [(job.job_id, len(job.steps)) for job in list_jobs(flow.api, tenant, limit=9)[0]] == [(ids[-1], 3)]
    alone = look(flow, tenant, ids[0])
    assert (alone.step_name, alone.steps) == ("step1", ())


def test_who_may_not_read_is_shown_no_name_of_a_step(flow: Flow, tenant: Actor) -> None:
    *_, held = chain(flow, tenant, 3)
    told = look(flow, replace(tenant, scopes=frozenset({"submit", "manage"})), held)
    assert [step.step_name for step in told.steps] == [None, None]
    assert not told.damaged


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_cancel_ends_the_steps_that_have_not_ended(flow: Flow, tenant: Actor, done: int) -> None:
    *_, held = chain(flow, tenant, 5, steps=3)
    for _ in range(done):
        run(flow, tenant)
    flow.cut()
    steering.cancel_job(flow.api, tenant, held)
    cancel_shards(flow.dispatcher)
    finalize_jobs(flow.dispatcher)
    assert states(flow, tenant, held) == ["completed"] * done + ["cancelled"] * (3 - done)
    assert flow.cut() == 0


def test_a_pause_holds_the_step_that_runs_and_those_behind_it(flow: Flow, tenant: Actor) -> None:
    *_, held = chain(flow, tenant, 5)
    flow.cut()
    steering.pause_job(flow.api, tenant, held)
    assert shards.claim_any(flow.worker, "host:1", 1) == []
    steering.resume_job(flow.api, tenant, held)
    run(flow, tenant)
    steering.pause_job(flow.api, tenant, held)
    flow.cut()
    assert shards.claim_any(flow.worker, "host:1", 1) == []
    steering.resume_job(flow.api, tenant, held)
    run(flow, tenant)
    assert states(flow, tenant, held) == ["completed", "completed"]


def test_a_priority_is_that_of_all_steps(flow: Flow, tenant: Actor) -> None:
    *_, held = chain(flow, tenant, 5)
    steering.set_priority(flow.api, tenant, held, 7)
    assert [step.priority for step in look(flow, tenant, held).steps] == [7, 7]


def test_a_retry_runs_what_failed_again_step_by_step_and_no_other_row(flow: Flow, tenant: Actor) -> None:
    *_, held = chain(flow, tenant, 4, steps=3)
    flow.cut()
    lease = flow.claim()
    flow.answer(lease, [0, 1, 2], finish=False)
    flow.answer(lease, [3], fail=True)
    finalize_jobs(flow.dispatcher)
    flow.cut()
    lease = flow.claim()
    flow.answer(lease, [0, 1], finish=False)
    flow.answer(lease, [2, 3], fail=True)
    finalize_jobs(flow.dispatcher)
    flow.cut()
    lease = flow.claim()
    flow.answer(lease, [0, 1], finish=False)
    flow.answer(lease, [2, 3], fail=True)
    finalize_jobs(flow.dispatcher)
    steering.retry_job(flow.api, tenant, held)
    assert states(flow, tenant, held) == ["in_progress", "validating", "validating"]
    for idxs in ([3], [2, 3], [2, 3]):
        (lease,) = shards.claim_any(flow.worker, "host:1", 5)
        assert [row.idx for row in opened(flow, lease)] == idxs
        flow.answer(lease, idxs)
        finalize_jobs(flow.dispatcher)
        flow.cut()
    told = look(flow, tenant, held)
    assert [(step.state, step.completed_count, step.failed_count) for step in told.steps] == [("completed", 4, 0)] * 3
    assert len({step.deadline for step in told.steps}) == 1


def test_a_retry_begins_at_the_first_step_that_has_a_row_to_run(flow: Flow, tenant: Actor) -> None:
    *_, held = chain(flow, tenant, 3, steps=3)
    run(flow, tenant)
    run(flow, tenant, fail=True)
    run(flow, tenant, fail=True)
    steering.retry_job(flow.api, tenant, held)
    assert states(flow, tenant, held) == ["completed", "in_progress", "validating"]
    run(flow, tenant)
    run(flow, tenant)
    assert states(flow, tenant, held) == ["completed"] * 3
    with pytest.raises(Conflict, match="Every row"):
        steering.retry_job(flow.api, tenant, held)


def test_the_deadline_is_that_of_the_whole(flow: Flow, tenant: Actor) -> None:
    *_, held = chain(flow, tenant, 3)
    run(flow, tenant)
    with flow.api.transaction(tenant=tenant.tenant_id) as conn:
        conn.execute(text("UPDATE jobs SET deadline = now() - interval '1 second'"))
    flow.cut()
    assert shards.claim_any(flow.worker, "host:1", 1) == []
    expire_jobs(flow.dispatcher)
    assert states(flow, tenant, held) == ["completed", "expired"]


def test_a_chain_is_deleted_with_all_its_steps(flow: Flow, tenant: Actor) -> None:
    ids = chain(flow, tenant, 3, steps=3)
    run(flow, tenant)
    assert steering.delete_job(flow.api, tenant, ids[-1])
    for table in ("jobs", "results", "shards"):
        assert flow.count(tenant, table) == 0
    assert flow.count(tenant, "data_keys WHERE owner_kind = 'job'") == 0


ASKED: dict[str, Callable[[Flow, Actor, UUID], object]] = {
    "cancel": lambda flow, who, job: steering.cancel_job(flow.api, who, job),
    "pause": lambda flow, who, job: steering.pause_job(flow.api, who, job),
    "resume": lambda flow, who, job: steering.resume_job(flow.api, who, job),
    "priority": lambda flow, who, job: steering.set_priority(flow.api, who, job, 1),
    "retry": lambda flow, who, job: steering.retry_job(flow.api, who, job),
    "delete": lambda flow, who, job: steering.delete_job(flow.api, who, job),
}


@pytest.mark.parametrize("what", ASKED)
def test_nothing_is_asked_of_a_single_step_but_of_the_whole(flow: Flow, tenant: Actor, what: str) -> None:
    first, held = chain(flow, tenant, 3)
    with pytest.raises(Conflict, match=f"batch_{held.hex}") as refused:
        ASKED[what](flow, tenant, first)
    assert refused.value.code == "part_of_chain"
    with pytest.raises(NotFound):
        ASKED[what](flow, flow.new_tenant(), held)


def test_results_that_a_live_job_reads_are_not_deleted(flow: Flow, tenant: Actor) -> None:
    source = flow.job(tenant, 3)
    run(flow, tenant)
    reader = create_job(flow.api, tenant, replace(new_job(source.file_id), source_id=source.job_id))
    for delete in (
        lambda: steering.delete_job(flow.api, tenant, source.job_id),
        lambda: delete_outputs(flow.api, tenant, source.job_id, "output"),
    ):
        with pytest.raises(Conflict) as refused:
            delete()
        assert refused.value.code == "batch_in_use"
    run(flow, tenant)
    assert look(flow, tenant, reader.job_id).state == "completed"
    assert steering.delete_job(flow.api, tenant, source.job_id)
    assert look(flow, tenant, reader.job_id).completed_count == 3


def test_what_is_no_output_of_the_tenants_over_this_file_is_no_input(flow: Flow, tenant: Actor) -> None:
    source = flow.job(tenant, 3)
    other = flow.job(flow.new_tenant(), 3)
    for source_id, file_id in ((other.job_id, source.file_id), (source.job_id, flow.upload(tenant, 3).file_id)):
        with pytest.raises(NotFound):
            create_job(flow.api, tenant, replace(new_job(file_id), source_id=source_id))


def test_what_the_steps_made_expires_with_what_the_last_made(flow: Flow, tenant: Actor) -> None:
    new = replace(new_job(flow.upload(tenant, 3).file_id), results_expire_seconds=3600, step="b")
    held = create_job(flow.api, tenant, replace(new, before=(replace(new, step="a"),)))
    run(flow, tenant)
    assert [step.results_expire_at for step in look(flow, tenant, held.job_id).steps] == [None, None]
    run(flow, tenant)
    first, last = (step.results_expire_at for step in look(flow, tenant, held.job_id).steps)
    assert first == last is not None


def test_a_retry_keeps_what_it_reads_until_the_whole_has_ended_again(flow: Flow, tenant: Actor) -> None:
    new = replace(new_job(flow.upload(tenant, 3).file_id), results_expire_seconds=3600, step="b")
    held = create_job(flow.api, tenant, replace(new, before=(replace(new, step="a"),))).job_id
    run(flow, tenant)
    run(flow, tenant, fail=True)
    steering.retry_job(flow.api, tenant, held)
    assert [step.results_expire_at for step in look(flow, tenant, held).steps] == [None, None]
    run(flow, tenant)
    first, last = look(flow, tenant, held).steps
    assert (first.results_expire_at, last.state) == (last.results_expire_at, "completed")
    assert last.results_expire_at is not None


def test_a_job_that_waits_for_another_is_ended_at_its_deadline(flow: Flow, tenant: Actor) -> None:
    source = flow.job(tenant, 3)
    reader = create_job(flow.api, tenant, replace(new_job(source.file_id), source_id=source.job_id)).job_id
    flow.execute(tenant, "UPDATE jobs SET deadline = now() - interval '1 second' WHERE job_id = :reader", reader=reader)
    expire_jobs(flow.dispatcher)
    assert (look(flow, tenant, source.job_id).state, look(flow, tenant, reader).state) == ("in_progress", "expired")
    assert {line.code for line in iter_results(flow.api, tenant, reader, which="errors")} == {"batch_expired"}
    steering.retry_job(flow.api, tenant, reader)
    run(flow, tenant)
    run(flow, tenant)
    assert look(flow, tenant, reader).completed_count == 3


def test_a_step_that_waits_to_run_again_is_ended_at_its_deadline_with_its_shards(flow: Flow, tenant: Actor) -> None:
    *_, held = chain(flow, tenant, 3)
    run(flow, tenant, fail=True)
    run(flow, tenant, fail=True)
    steering.retry_job(flow.api, tenant, held)
    flow.execute(tenant, "UPDATE jobs SET deadline = now() - interval '1 second'")
    expire_jobs(flow.dispatcher)
    assert states(flow, tenant, held) == ["expired", "expired"]
    assert flow.count(tenant, "shards WHERE state <> 'expired'") == 0


def test_a_step_that_ends_behind_the_last_is_kept_as_long(flow: Flow, tenant: Actor) -> None:
    new = replace(new_job(flow.upload(tenant, 3).file_id), results_expire_seconds=3600, step="b")
    held = create_job(flow.api, tenant, replace(new, before=(replace(new, step="a"),))).job_id
    flow.cut()
    lease = flow.claim()
    steering.cancel_job(flow.api, tenant, held)
    finalize_jobs(flow.dispatcher)
    assert states(flow, tenant, held) == ["cancelling", "cancelled"]
    flow.answer(lease)
    finalize_jobs(flow.dispatcher)
    first, last = look(flow, tenant, held).steps
    assert (first.state, first.results_expire_at) == ("cancelled", last.results_expire_at)
    assert last.results_expire_at is not None


def test_a_job_is_not_run_again_while_another_that_runs_reads_it(flow: Flow, tenant: Actor) -> None:
    source = flow.job(tenant, 3)
    flow.answer(flow.claim(), fail=True)
    finalize_jobs(flow.dispatcher)
    reader = create_job(flow.api, tenant, replace(new_job(source.file_id), source_id=source.job_id)).job_id
    flow.cut()
    with pytest.raises(Conflict) as refused:
        steering.retry_job(flow.api, tenant, source.job_id)
    assert refused.value.code == "batch_in_use"
    flow.cancel(tenant, reader)
    waiting = create_job(flow.api, tenant, replace(new_job(source.file_id), source_id=source.job_id)).job_id
    steering.retry_job(flow.api, tenant, source.job_id)
    assert flow.cut() == 0
    run(flow, tenant)
    run(flow, tenant)
    assert look(flow, tenant, waiting).completed_count == 3


def test_a_step_that_runs_again_says_how_far_it_has_come(flow: Flow, tenant: Actor) -> None:
    *_, held = chain(flow, tenant, 4)
    for _ in range(2):
        flow.cut()
        lease = flow.claim()
        flow.answer(lease, [0, 1], finish=False)
        flow.answer(lease, [2, 3], fail=True)
        finalize_jobs(flow.dispatcher)
    steering.retry_job(flow.api, tenant, held)
    told = look(flow, tenant, held)
    assert [step.rows_in_order for step in told.steps] == [2, 2]
    assert told.rows_in_order == 2
