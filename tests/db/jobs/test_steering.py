"""What may be asked of a job on its way, against the real store: what changes, what is refused, and what stays."""

import uuid

import pytest

from db.actors import Actor
from db.errors import Conflict, LeaseLost, NotFound, StoreError
from db.files.files import delete_file
from db.jobs.erasing import Which
from db.jobs.jobs import JobRecord, delete_outputs, get_job, list_jobs
from db.jobs.results import iter_results
from db.jobs.steering import cancel_job, delete_job, pause_job, resume_job, retry_job, set_priority
from db.lifecycle import INTERACTIVE_PRIORITY, MAX_CRASHES, MAX_ERRORS, JobState
from db.queue.endings import _OVERDUE, _WITHOUT_WORK, _move, expire_jobs, finalize_jobs
from db.queue.recovery import reap_leases
from db.queue.results import write_results
from db.queue.row import WorkRow
from db.queue.shards import claim_any, open_shard, release, renew
from db.sweeps import Page
from tests.db.flow import Flow, Stores, answers


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def counts(job: JobRecord) -> tuple[str, int, int]:
    return job.state, job.completed_count, job.failed_count


def test_a_paused_job_is_begun_no_further_and_what_is_begun_is_written(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    lease = flow.claim()
    paused = pause_job(flow.api, tenant, job.job_id)
    assert (paused.state, paused.paused_at is not None) == ("in_progress", True)
    assert claim_any(flow.worker, "host:2") == []
    assert renew(flow.worker, [lease]) == {lease.shard_id: "paused"}
    flow.answer(lease, range(4), finish=False)
    release(flow.worker, lease, code=None, kind="drain")
    assert counts(get_job(flow.api, tenant, job.job_id)) == ("in_progress", 4, 0)
    assert claim_any(flow.worker, "host:2") == []
    resume_job(flow.api, tenant, job.job_id)
    assert renew(flow.worker, claim_any(flow.worker, "host:2", 2)) != {}
    assert [shard[6:] for shard in flow.shards(job)] == [(0, 0), (0, 0)], "a pause costs no attempt"


def test_pausing_and_resuming_again_change_nothing(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 5)
    first = pause_job(flow.api, tenant, job.job_id)
    assert pause_job(flow.api, tenant, job.job_id).paused_at == first.paused_at
    assert resume_job(flow.api, tenant, job.job_id).paused_at is None
    assert resume_job(flow.api, tenant, job.job_id).paused_at is None


def test_a_job_is_paused_before_it_is_cut_too(flow: Flow, tenant: Actor) -> None:
    job = flow.submit(tenant, flow.upload(tenant, 5))
    pause_job(flow.api, tenant, job.job_id)
    assert flow.cut() == 1
    assert claim_any(flow.worker, "host:1") == []


def test_a_paused_job_still_ends_at_its_deadline_and_by_a_cancel(flow: Flow, tenant: Actor) -> None:
    late, unwanted = flow.job(tenant, 5), flow.job(tenant, 5)
    pause_job(flow.api, tenant, late.job_id)
    pause_job(flow.api, tenant, unwanted.job_id)
    flow.execute(tenant, "UPDATE jobs SET deadline = now() WHERE job_id = :job", job=late.job_id)
    assert expire_jobs(flow.dispatcher) == 1
    flow.cancel(tenant, unwanted.job_id)
    assert [get_job(flow.api, tenant, job.job_id).state for job in (late, unwanted)] == ["expired", "cancelled"]
    for job in (late, unwanted):
        for act, code in ((pause_job, "cannot_pause"), (resume_job, "cannot_resume")):
            with pytest.raises(Conflict) as refused:
                act(flow.api, tenant, job.job_id)
            assert refused.value.code == code


def test_a_priority_reorders_what_is_waiting_already(flow: Flow, tenant: Actor) -> None:
    first, second = flow.job(tenant, 10), flow.job(tenant, 10)
    set_priority(flow.api, tenant, second.job_id, 5)
    assert flow.claim().job_id == second.job_id
    set_priority(flow.api, tenant, first.job_id, -3)
    assert get_job(flow.api, tenant, first.job_id).priority == -3
    assert flow.claim("host:2").priority == -3


def test_a_priority_that_is_no_bulk_priority_is_refused(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 5)
    for number in (INTERACTIVE_PRIORITY, -INTERACTIVE_PRIORITY):
        with pytest.raises(StoreError) as refused:
            set_priority(flow.api, tenant, job.job_id, number)
        assert (refused.value.code, refused.value.status) == ("invalid_priority", 400)
    waited_for = flow.job(tenant, 5, priority=INTERACTIVE_PRIORITY)
    with pytest.raises(Conflict) as conflict:
        set_priority(flow.api, tenant, waited_for.job_id, 1)
    assert conflict.value.code == "cannot_reorder"


def test_only_failed_rows_run_again_and_answers_stay(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    failures = [WorkRow(idx, code="engine_error", input_tokens=2, output_tokens=1) for idx in (3, 5)]
    first, second = claim_any(flow.worker, "host:1", 2)
    write_results(
        flow.worker,
        first,
        [*answers(idx for idx in range(10) if idx not in (3, 5)), *failures],
        finish=True,
        model_version="m",
        metrics=None,
    )
    flow.answer(second)
    finalize_jobs(flow.dispatcher)
    before = get_job(flow.api, tenant, job.job_id)
    assert (counts(before), before.input_tokens, before.output_tokens) == (("completed", 18, 2), 58, 2)
    again = retry_job(flow.api, tenant, job.job_id)
    assert (counts(again), again.retry_count, again.completed_at) == (("in_progress", 18, 0), 1, None)
    assert (again.input_tokens, again.output_tokens) == (54, 0), "what the failures took is no longer counted"
    assert again.deadline > before.deadline
    assert list(iter_results(flow.api, tenant, job.job_id, which="errors")) == []
    with pytest.raises(LeaseLost):
        flow.answer(first, [3, 5])
    (lease,) = claim_any(flow.worker, "host:2", 5)
    assert lease.shard_id == first.shard_id
    flow.answer(lease, [3, 5])
    assert finalize_jobs(flow.dispatcher) == 2
    after = get_job(flow.api, tenant, job.job_id)
    assert (counts(after), after.input_tokens) == (("completed", 20, 0), 60)
    assert [line.idx for line in iter_results(flow.api, tenant, job.job_id, which="output")] == list(range(20))


def test_a_row_that_was_given_up_gets_all_its_attempts_again(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 5)
    for _ in range(MAX_ERRORS + 1):
        release(flow.worker, flow.claim(), code="engine_error", kind="error")
        flow.change_shards("not_before = NULL")
    finalize_jobs(flow.dispatcher)
    assert counts(get_job(flow.api, tenant, job.job_id)) == ("failed", 0, 5)
    retry_job(flow.api, tenant, job.job_id)
    release(flow.worker, flow.claim(), code="engine_error", kind="error")
    assert flow.shards(job)[0][2:] == ("ready", MAX_ERRORS + 3, 0, 0, 0, 1)


def test_a_retry_takes_back_what_the_failures_of_each_shard_had_counted(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    for at, lease in enumerate(claim_any(flow.worker, "host:1", 3)):
        idxs = range(lease.first_idx, lease.end_idx)
        flow.answer(lease, idxs[at:], finish=False)
        flow.answer(lease, idxs[:at], fail=True)
    finalize_jobs(flow.dispatcher)
    retry_job(flow.api, tenant, job.job_id)
    assert sorted(shard[4:6] for shard in flow.shards(job)) == [(8, 0), (9, 0), (10, 0)]
    assert flow.execute(tenant, "SELECT count(*) FROM results WHERE outcome = 2") == [(0,)]


@pytest.mark.parametrize("how", ["failures", "cancelled"])
def test_a_training_is_run_again_on_all_its_examples_and_makes_a_head_of_its_own(flow: Flow, tenant: Actor, how: str) -> None:
    """On its failures alone it would make the same head again, out of the few that had failed."""
    job = flow.job(tenant, 20, shard_chars=None, task="train")
    lease = flow.claim()
    flow.answer(lease, range(18), finish=False)
    if how == "failures":
        flow.answer(lease, range(18, 20), fail=True)
        finalize_jobs(flow.dispatcher)
    else:
        cancel_job(flow.api, tenant, job.job_id)
        release(flow.worker, lease, code=None, kind="drain")
        finalize_jobs(flow.dispatcher)
    again = retry_job(flow.api, tenant, job.job_id)
    assert counts(again) == ("in_progress", 0, 0)
    assert (again.input_tokens, again.head_id != job.head_id) == (0, True)
    lease = flow.claim("host:2")
    assert [row.idx for row in open_shard(flow.worker, lease, whole=True)[1]] == list(range(20))
    flow.answer(lease)
    finalize_jobs(flow.dispatcher)
    assert counts(get_job(flow.api, tenant, job.job_id)) == ("completed", 20, 0)
    with pytest.raises(Conflict) as refused:
        retry_job(flow.api, tenant, job.job_id)
    assert refused.value.code == "nothing_to_retry"


def test_rows_that_never_ran_are_run_by_a_retry_too(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    flow.answer(flow.claim())
    flow.cancel(tenant, job.job_id)
    assert counts(get_job(flow.api, tenant, job.job_id)) == ("cancelled", 10, 0)
    assert counts(retry_job(flow.api, tenant, job.job_id)) == ("in_progress", 10, 0)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    assert counts(get_job(flow.api, tenant, job.job_id)) == ("completed", 20, 0)


def test_a_job_that_was_cancelled_before_it_was_cut_is_cut_by_a_retry(flow: Flow, tenant: Actor) -> None:
    job = flow.submit(tenant, flow.upload(tenant, 5))
    cancel_job(flow.api, tenant, job.job_id)
    finalize_jobs(flow.dispatcher)
    assert retry_job(flow.api, tenant, job.job_id).state == "validating"
    assert flow.cut() == 1
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    assert counts(get_job(flow.api, tenant, job.job_id)) == ("completed", 5, 0)


def test_what_cannot_be_run_again_is_refused_and_left_as_it_is(flow: Flow, tenant: Actor) -> None:
    running = flow.job(tenant, 5)
    with pytest.raises(Conflict) as refused:
        retry_job(flow.api, tenant, running.job_id)
    assert refused.value.code == "cannot_retry"
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    done = get_job(flow.api, tenant, running.job_id)
    with pytest.raises(Conflict) as refused:
        retry_job(flow.api, tenant, running.job_id)
    assert refused.value.code == "nothing_to_retry"
    assert get_job(flow.api, tenant, running.job_id) == done
    failed = flow.job(tenant, 5)
    lease = flow.claim()
    write_results(flow.worker, lease, [WorkRow(idx, code="engine_error") for idx in range(5)], finish=True, model_version="", metrics=None)
    finalize_jobs(flow.dispatcher)
    delete_file(flow.api, tenant, failed.file_id)
    with pytest.raises(Conflict) as refused:
        retry_job(flow.api, tenant, failed.job_id)
    assert refused.value.code == "file_deleted"
    both: tuple[Which, ...] = ("output", "errors")
    for which in both:
        delete_outputs(flow.api, tenant, failed.job_id, which)
    with pytest.raises(Conflict) as refused:
        retry_job(flow.api, tenant, failed.job_id)
    assert refused.value.code == "output_deleted"


def test_a_job_deleted_while_it_runs_leaves_nothing_but_the_record(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    first, second = claim_any(flow.worker, "host:1", 2)
    flow.answer(first)
    everything = ("jobs", "shards", "job_specs", "results", "data_keys WHERE owner_kind = 'job'")
    assert all(flow.execute(tenant, f"SELECT FROM {table}") for table in everything)
    delete_job(flow.api, tenant, job.job_id)
    for table in everything:
        assert flow.execute(tenant, f"SELECT FROM {table}") == [], table
    assert flow.execute(tenant, "SELECT count(*) FROM audit_events WHERE action = 'job.delete'") == [(1,)]
    with pytest.raises(LeaseLost):
        flow.answer(second)
    assert renew(flow.worker, [second]) == {second.shard_id: "lost"}
    assert flow.execute(tenant, "SELECT FROM results") == []
    for act in (get_job, delete_job, retry_job, pause_job, resume_job):
        with pytest.raises(NotFound):
            act(flow.api, tenant, job.job_id)
    assert list_jobs(flow.api, tenant, limit=10) == ([], False)
    assert finalize_jobs(flow.dispatcher) == 0


def test_a_file_that_was_deleted_before_goes_with_its_last_job(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 5)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    delete_file(flow.api, tenant, job.file_id)
    assert flow.execute(tenant, "SELECT count(*) FROM rows") == [(5,)], "their ids are needed for the results"
    delete_job(flow.api, tenant, job.job_id)
    for table in ("rows", "files", "data_keys WHERE owner_kind <> 'tenant'"):
        assert flow.execute(tenant, f"SELECT FROM {table}") == [], table


def test_another_tenants_job_is_not_there(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 5)
    stranger = flow.new_tenant()
    for act in (pause_job, resume_job, retry_job, delete_job):
        with pytest.raises(NotFound):
            act(flow.api, stranger, job.job_id)
    with pytest.raises(NotFound):
        set_priority(flow.api, stranger, job.job_id, 1)
    with pytest.raises(NotFound):
        pause_job(flow.api, tenant, uuid.uuid4())
    assert get_job(flow.api, tenant, job.job_id).paused_at is None


def test_a_retry_runs_every_open_row_of_a_job_whose_shards_were_halved(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20, shard_chars=200)
    lease = flow.claim()
    flow.answer(lease, range(16, 20), finish=False, fail=True)
    flow.change_shards("crash_attempts = :crashes", crashes=MAX_CRASHES)
    flow.end_leases()
    reap_leases(flow.dispatcher)
    for worker in ("host:1", "host:2"):
        half = flow.claim(worker)
        rows = [row.idx for row in open_shard(flow.worker, half)[1]]
        flow.answer(half, rows[:1], finish=False, fail=True)
        flow.answer(half, rows[1:])
    finalize_jobs(flow.dispatcher)
    assert counts(get_job(flow.api, tenant, job.job_id)) == ("completed", 14, 6)
    retry_job(flow.api, tenant, job.job_id)
    run_all(flow)
    assert counts(get_job(flow.api, tenant, job.job_id)) == ("completed", 20, 0)


def test_a_retry_of_a_cancelled_job_runs_what_never_ran_of_its_halves(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20, shard_chars=200)
    flow.answer(flow.claim(), range(10, 20), finish=False)
    flow.change_shards("crash_attempts = :crashes", crashes=MAX_CRASHES)
    flow.end_leases()
    reap_leases(flow.dispatcher)
    flow.cancel(tenant, job.job_id)
    retry_job(flow.api, tenant, job.job_id)
    run_all(flow)
    assert counts(get_job(flow.api, tenant, job.job_id)) == ("completed", 20, 0)


def run_all(flow: Flow) -> None:
    while leases := claim_any(flow.worker, f"host:{uuid.uuid4()}"):
        for lease in leases:
            flow.answer(lease, [row.idx for row in open_shard(flow.worker, lease)[1]])
    finalize_jobs(flow.dispatcher)


def test_a_dispatcher_that_looked_before_a_retry_does_not_end_the_job(flow: Flow, tenant: Actor) -> None:
    """It stalled between its look and its move; another one ended the job meanwhile."""
    done, late = flow.job(tenant, 2), flow.job(tenant, 2)
    lease = next(one for one in claim_any(flow.worker, "host:1", 2) if one.job_id == done.job_id)
    flow.answer(lease, fail=True)
    flow.execute(tenant, "UPDATE jobs SET deadline = now() WHERE job_id = :job", job=late.job_id)
    (without_work,), (overdue,) = (Page.look(flow.dispatcher, query, None, limit=9).items for query in (_WITHOUT_WORK, _OVERDUE))
    finalize_jobs(flow.dispatcher)
    expire_jobs(flow.dispatcher)
    for job in (done, late):
        retry_job(flow.api, tenant, job.job_id)
    assert _move(flow.dispatcher, without_work, JobState.FINALIZING) == 0
    assert _move(flow.dispatcher, overdue, JobState.EXPIRED) == 0
    assert [get_job(flow.api, tenant, job.job_id).state for job in (done, late)] == ["in_progress"] * 2
