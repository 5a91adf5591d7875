"""Budgets: a job that has used its own up ends in order; what is done is kept, and no more than one write passes it."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from db.actors import Actor, Lease
from db.connect import Store
from db.errors import BudgetSpent, LeaseLost
from db.jobs.creating import create_job
from db.jobs.jobs import JobRecord, get_job
from db.jobs.results import has_results, iter_results
from db.jobs.steering import retry_job
from db.queue.endings import end_over_budget, finalize_jobs
from db.queue.results import write_results
from db.settings import Role
from tests.db.flow import Flow, answers, new_job

Stores = Callable[[Role], Store]


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def started(flow: Flow, actor: Actor, rows: int, **budget: int) -> JobRecord:
    new = new_job(flow.upload(actor, rows).file_id)
    job = create_job(flow.api, actor, replace(new, **budget))  # type: ignore[arg-type]
    flow.cut()
    return get_job(flow.api, actor, job.job_id)


def write(flow: Flow, lease: Lease, tokens_each: int, *, rows: int | None = None) -> None:
    idxs = range(lease.first_idx, lease.end_idx if rows is None else lease.first_idx + rows)
    written = answers(idxs)
    for row in written:
        row.output_tokens = tokens_each
    write_results(flow.worker, lease, written, finish=rows is None, model_version="model-1", metrics=None)


def test_a_job_that_has_written_its_budget_ends_and_keeps_what_is_done(flow: Flow, tenant: Actor) -> None:
    job = started(flow, tenant, 30, max_output_tokens=50)
    write(flow, flow.claim(), 4)
    assert end_over_budget(flow.dispatcher) == 0, "40 of 50"
    held = flow.claim()
    write(flow, flow.claim("host:2"), 4)
    assert end_over_budget(flow.dispatcher) == 1
    ended = get_job(flow.api, tenant, job.job_id)
    assert (ended.state, ended.end_code) == ("expired", "batch_over_budget")
    assert (ended.completed_count, ended.output_tokens) == (20, 80)
    assert len(list(iter_results(flow.api, tenant, job.job_id, which="output"))) == 20
    never_ran = list(iter_results(flow.api, tenant, job.job_id, which="errors"))
    assert [line.told_code for line in never_ran] == ["batch_over_budget"] * 10
    assert has_results(flow.api, tenant, job.job_id) == (True, True)
    with pytest.raises(LeaseLost):
        write(flow, held, 4)


def test_what_is_stored_passes_the_budget_by_no_more_than_the_write_that_reached_it(flow: Flow, tenant: Actor) -> None:
    """Nobody ended the job yet: the write itself is refused."""
    job = started(flow, tenant, 40, max_output_tokens=50)
    leases = [flow.claim(f"host:{number}") for number in range(4)]
    write(flow, leases[0], 4)
    write(flow, leases[1], 4)
    for lease in leases[2:]:
        with pytest.raises(BudgetSpent):
            write(flow, lease, 4)
    assert get_job(flow.api, tenant, job.job_id).output_tokens == 80


def test_of_writes_at_the_same_time_one_passes_the_budget_and_the_others_are_refused(flow: Flow, tenant: Actor) -> None:
    job = started(flow, tenant, 40, max_output_tokens=30)
    leases = [flow.claim(f"host:{number}") for number in range(4)]
    begin, refused = threading.Barrier(4), list[type[Exception]]()

    def one(lease: Lease) -> None:
        begin.wait()
        try:
            write(flow, lease, 4)
        except LeaseLost as error:
            refused.append(type(error))

    threads = [threading.Thread(target=one, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [BudgetSpent] * 3
    assert get_job(flow.api, tenant, job.job_id).output_tokens == 40


def test_a_job_whose_last_rows_reach_its_budget_is_complete(flow: Flow, tenant: Actor) -> None:
    job = started(flow, tenant, 10, max_output_tokens=40)
    write(flow, flow.claim(), 4)
    assert end_over_budget(flow.dispatcher) == 0
    finalize_jobs(flow.dispatcher)
    ended = get_job(flow.api, tenant, job.job_id)
    assert (ended.state, ended.end_code) == ("completed", None)


def test_a_job_ends_once_it_has_run_for_as_long_as_it_may(flow: Flow, tenant: Actor) -> None:
    job, other = started(flow, tenant, 10, max_seconds=3600), started(flow, tenant, 10)
    assert end_over_budget(flow.dispatcher) == 0
    with flow.dispatcher.transaction() as conn:
        conn.execute(text("UPDATE jobs SET run_ends_at = run_ends_at - interval '1 hour'"))
    assert end_over_budget(flow.dispatcher) == 1
    assert get_job(flow.api, tenant, job.job_id).end_code == "batch_over_budget"
    assert get_job(flow.api, tenant, other.job_id).state == "in_progress"


def test_another_run_has_the_budget_anew(flow: Flow, tenant: Actor) -> None:
    job = started(flow, tenant, 30, max_output_tokens=30)
    write(flow, flow.claim(), 4)
    end_over_budget(flow.dispatcher)
    again = retry_job(flow.api, tenant, job.job_id)
    assert (again.state, again.end_code) == ("in_progress", None)
    assert end_over_budget(flow.dispatcher) == 0
    write(flow, flow.claim(), 4)
    assert end_over_budget(flow.dispatcher) == 1
    assert get_job(flow.api, tenant, job.job_id).completed_count == 20


def test_an_end_that_nobody_wrote_here_is_told_as_none(flow: Flow, tenant: Actor) -> None:
    job = started(flow, tenant, 10)
    with flow.dispatcher.transaction() as conn:
        conn.execute(
            text("UPDATE jobs SET end_code = 'a text', state = 'expired', expired_at = now() WHERE job_id = :job"), {"job": job.job_id}
        )
    assert get_job(flow.api, tenant, job.job_id).end_code is None
    told = {line.told_code for line in iter_results(flow.api, tenant, job.job_id, which="errors")}
    assert told == {"batch_expired"}
