"""How jobs end: done, cancelled or at their deadline, once, with what is done kept and counted."""

import pytest

from db.actors import Actor
from db.audit.reading import list_events
from db.files.files import delete_file
from db.jobs.jobs import JobRecord, get_job
from db.jobs.results import has_results, iter_results
from db.jobs.steering import cancel_job, retry_job
from db.lifecycle import JobState
from db.queue.endings import _OVERDUE, _WITHOUT_WORK, _move, cancel_shards, expire_jobs, finalize_jobs
from db.queue.results import write_results
from db.queue.row import WorkRow
from db.queue.shards import claim_any, release, renew
from db.sweeps import Page
from tests.db.flow import Flow, Stores, answers


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def _pass_deadline(flow: Flow, job: JobRecord) -> None:
    flow.execute(
        Actor(job.tenant_id, job.principal_id, None, frozenset()),
        "UPDATE jobs SET deadline = now() - interval '1 second' WHERE job_id = :job",
        job=job.job_id,
    )


def test_cancelling_keeps_what_is_done_and_ends_once_the_holders_have_let_go(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    done, held = flow.claim("a"), flow.claim("b")
    flow.answer(done)
    flow.answer(held, [10, 11], finish=False)
    assert cancel_job(flow.api, tenant, job.job_id).state == "cancelling"
    again = cancel_job(flow.api, tenant, job.job_id)
    assert again.state == "cancelling"
    assert cancel_shards(flow.dispatcher) == 1
    assert cancel_shards(flow.dispatcher) == 0
    assert finalize_jobs(flow.dispatcher) == 0
    assert renew(flow.worker, [held]) == {held.shard_id: "cancelled"}
    release(flow.worker, held, code=None, kind="drain")
    assert finalize_jobs(flow.dispatcher) == 1
    job = get_job(flow.api, tenant, job.job_id)
    assert (job.state, job.completed_count, job.failed_count) == ("cancelled", 12, 0)
    assert job.cancelling_at == again.cancelling_at
    assert job.completed_at is None
    assert cancel_job(flow.api, tenant, job.job_id).state == "cancelled"
    never = list(iter_results(flow.api, tenant, job.job_id, which="errors"))
    assert [line.idx for line in never] == list(range(12, 30))
    assert {line.code for line in never} == {"batch_cancelled"}
    assert never[0].custom_id == "id-12"


def test_a_job_cancelled_before_it_was_cut_ends_without_having_run(flow: Flow, tenant: Actor) -> None:
    job = flow.submit(tenant, flow.upload(tenant, 3))
    cancel_job(flow.api, tenant, job.job_id)
    assert flow.cut() == 0
    assert finalize_jobs(flow.dispatcher) == 1
    assert get_job(flow.api, tenant, job.job_id).state == "cancelled"
    assert has_results(flow.api, tenant, job.job_id) == (False, True)
    assert len(list(iter_results(flow.api, tenant, job.job_id, which="errors", page=2))) == 3


def test_a_deadline_keeps_what_is_done_and_fences_the_holders(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    held = flow.claim()
    flow.answer(held, [0, 1], finish=False)
    assert expire_jobs(flow.dispatcher) == 0
    _pass_deadline(flow, job)
    assert expire_jobs(flow.dispatcher) == 1
    assert expire_jobs(flow.dispatcher) == 0
    assert renew(flow.worker, [held]) == {held.shard_id: "lost"}
    job = get_job(flow.api, tenant, job.job_id)
    assert (job.state, job.completed_count, job.row_count) == ("expired", 2, 30)
    errors = list(iter_results(flow.api, tenant, job.job_id, which="errors"))
    assert (len(errors), {line.code for line in errors}) == (28, {"batch_expired"})
    assert len(list(iter_results(flow.api, tenant, job.job_id, which="output"))) == 2


def test_shards_that_a_cancel_or_a_deadline_ended_have_a_new_epoch(flow: Flow, tenant: Actor) -> None:
    """Whoever held one, or holds a message about one, has another."""
    overdue = flow.job(tenant, 20)
    flow.claim()
    cancelled = flow.job(tenant, 10)
    _pass_deadline(flow, overdue)
    cancel_job(flow.api, tenant, cancelled.job_id)
    assert expire_jobs(flow.dispatcher) == 1
    assert cancel_shards(flow.dispatcher) == 1
    assert [shard[2:4] for shard in flow.shards(overdue)] == [("expired", 2), ("expired", 1)]
    assert [shard[2:4] for shard in flow.shards(cancelled)] == [("cancelled", 1)]


def test_a_job_that_was_done_before_its_deadline_completes_after_it(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 5)
    flow.answer(flow.claim())
    _pass_deadline(flow, job)
    assert expire_jobs(flow.dispatcher) == 0
    finalize_jobs(flow.dispatcher)
    assert get_job(flow.api, tenant, job.job_id).state == "completed"


def test_a_job_whose_last_row_came_while_it_was_found_overdue_completes(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 5)
    lease = flow.claim()
    _pass_deadline(flow, job)
    (overdue,) = Page.look(flow.dispatcher, _OVERDUE, None, limit=9).items
    assert overdue.deadline_passed
    flow.answer(lease)
    assert _move(flow.dispatcher, overdue, JobState.EXPIRED) == 0
    assert finalize_jobs(flow.dispatcher) == 2
    assert _move(flow.dispatcher, overdue, JobState.EXPIRED) == 0
    assert get_job(flow.api, tenant, job.job_id).state == "completed"


def test_a_job_ends_once_whoever_looks_and_its_end_is_on_record(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim())
    seen = [Page.look(flow.dispatcher, _WITHOUT_WORK, None, limit=9).items for _ in range(2)]
    assert [[one.job_id for one in page] for page in seen] == [[job.job_id]] * 2
    assert [_move(flow.dispatcher, page[0], JobState.FINALIZING) for page in seen] == [1, 0]
    assert finalize_jobs(flow.dispatcher) == 1
    assert finalize_jobs(flow.dispatcher) == 0
    (event,) = list_events(flow.api, tenant, action="job.completed")
    assert (event.component, event.object_id) == ("dispatcher", job.job_id)


def test_failures_are_counted_apart_and_do_not_keep_a_job_from_completing(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    flow.answer(flow.claim(), fail=True)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    job = get_job(flow.api, tenant, job.job_id)
    assert (job.state, job.completed_count, job.failed_count, job.input_tokens) == ("completed", 10, 10, 30)
    assert job.metrics is not None
    assert job.metrics["tokens"] == 4.0, "the sum over its shards"


def test_a_job_with_a_shard_in_work_or_in_the_queue_goes_on(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    flow.answer(flow.claim())
    assert finalize_jobs(flow.dispatcher) == 0
    flow.claim()
    assert finalize_jobs(flow.dispatcher) == 0
    assert get_job(flow.api, tenant, job.job_id).state == "in_progress"


def test_a_job_in_which_every_row_failed_has_failed_and_says_why(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    first, second = claim_any(flow.worker, "host:1", limit=2)
    failures = [WorkRow(idx, code="empty_input:input" if idx < 3 else "engine_error") for idx in range(10)]
    write_results(flow.worker, first, failures, finish=True, model_version="m", metrics=None)
    flow.answer(second, fail=True)
    assert finalize_jobs(flow.dispatcher) == 2
    ended = get_job(flow.api, tenant, job.job_id)
    assert (ended.state, ended.completed_count, ended.failed_count) == ("failed", 0, 20)
    assert ended.errors == [{"code": "engine_error", "line": 4, "rows": 17}, {"code": "empty_input:input", "line": 1, "rows": 3}]
    assert (ended.failed_at is not None, ended.completed_at, ended.finalizing_at is not None) == (True, None, True)
    (event,) = list_events(flow.api, tenant, action="job.failed")
    assert event.job_id == job.job_id
    assert [line.idx for line in iter_results(flow.api, tenant, job.job_id, which="errors")] == list(range(20))
    delete_file(flow.api, tenant, job.file_id)
    assert [line.custom_id for line in iter_results(flow.api, tenant, job.job_id, which="errors")] == [f"id-{idx}" for idx in range(20)]


def test_a_job_with_one_answer_is_completed(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    first, second = claim_any(flow.worker, "host:1", limit=2)
    flow.answer(first, fail=True)
    rows = [WorkRow(idx, code="engine_error") for idx in range(10, 19)]
    write_results(flow.worker, second, [*rows, *answers([19])], finish=True, model_version="m", metrics=None)
    finalize_jobs(flow.dispatcher)
    ended = get_job(flow.api, tenant, job.job_id)
    assert (ended.state, ended.errors, ended.failed_at) == ("completed", None, None)


def test_a_job_in_which_every_row_failed_can_be_run_again(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim(), fail=True)
    finalize_jobs(flow.dispatcher)
    again = retry_job(flow.api, tenant, job.job_id)
    assert (again.state, again.failed_count, again.errors, again.failed_at) == ("in_progress", 0, None, None)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    ended = get_job(flow.api, tenant, job.job_id)
    assert (ended.state, ended.completed_count, ended.errors) == ("completed", 10, None)


def test_a_job_that_was_cancelled_with_failures_alone_is_cancelled(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    flow.answer(flow.claim(), fail=True)
    flow.cancel(tenant, job.job_id)
    assert get_job(flow.api, tenant, job.job_id).state == "cancelled"
