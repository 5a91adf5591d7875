"""What waits before a job and how fast such work went, as the API sees it: true, over all tenants, and nothing of another's shows."""

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import text

from db.actors import Actor
from db.connect import Store
from db.jobs.creating import create_job
from db.jobs.forecast import Measured, Promise
from db.jobs.jobs import JobRecord, get_job
from db.jobs.steering import pause_job
from db.operators import fleet
from db.operators.backlog import SHARE, Backlogs, Waiting, read_backlog
from db.operators.fleet import Beat, Readiness
from db.queue.endings import finalize_jobs
from db.queue.results import write_results
from db.settings import Role
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, answers, new_job

Stores = Callable[[Role], Store]
TOOK = {"worker_seconds": 4.0, "chars": 100.0, "limit_tokens": 2_560.0}


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def promised(flow: Flow, actor: Actor, rows: int, worker_seconds: float) -> JobRecord:
    new = new_job(flow.upload(actor, rows).file_id, priority=0, window_seconds=3600, task="classify")
    job = create_job(flow.api, actor, replace(new, foresee=lambda _rows, _chars: Promise(2 * worker_seconds, worker_seconds)))
    flow.cut()
    return job


def take_part(flow: Flow, **metrics: float) -> None:
    lease = flow.claim()
    written = answers(range(lease.first_idx, lease.end_idx))
    write_results(flow.worker, lease, written, finish=True, model_version="model-1", metrics={**TOOK, **metrics})


def test_what_is_left_of_a_job_goes_by_its_open_rows(flow: Flow, tenant: Actor) -> None:
    job = promised(flow, tenant, 40, 80.0)
    take_part(flow)
    (waiting,) = read_backlog(flow.api, tenant.tenant_id).waiting
    assert waiting.job_id == job.job_id
    assert waiting.worker_seconds == pytest.approx(60.0)
    assert waiting.turn_at is not None
    take_part(flow)
    take_part(flow)
    take_part(flow)
    assert [each.worker_seconds for each in read_backlog(flow.api, tenant.tenant_id).waiting] == [0.0], "all is done, it only has to end"


def test_of_another_tenants_job_nothing_shows_but_what_it_asks_of_the_workers(flow: Flow, tenant: Actor) -> None:
    other, third = flow.new_tenant(), flow.new_tenant()
    promised(flow, other, 10, 20.0)
    promised(flow, third, 10, 30.0)
    promised(flow, tenant, 10, 40.0)
    seen = read_backlog(flow.api, tenant.tenant_id)
    foreign = [each for each in seen.waiting if each.tenant != seen.own]
    assert sorted(each.worker_seconds or 0 for each in foreign) == [20.0, 30.0]
    assert len({each.tenant for each in foreign}) == 2
    assert all(each.job_id is None and each.turn_at is None and each.deadline is None for each in foreign)
    with flow.api.transaction(tenant=tenant.tenant_id) as conn:
        names = list(conn.execute(text("SELECT * FROM live_work WHERE NOT own")).keys())
    assert "tenant_id" not in names
    assert read_backlog(flow.api, uuid4()).own == 0, "of a tenant without a job all is foreign"


def test_what_is_paused_or_has_ended_is_waited_for_by_nobody(flow: Flow, tenant: Actor) -> None:
    paused, ended = promised(flow, tenant, 10, 20.0), promised(flow, tenant, 10, 20.0)
    pause_job(flow.api, tenant, paused.job_id)
    flow.cancel(tenant, ended.job_id)
    assert read_backlog(flow.api, tenant.tenant_id).waiting == ()


def test_what_ended_lately_is_measured_of_jobs_that_are_complete_and_of_those_that_run(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 10)
    take_part(flow)
    finalize_jobs(flow.dispatcher)
    flow.job(flow.new_tenant(), 20)
    take_part(flow)
    ((kind, measured),) = read_backlog(flow.api, tenant.tenant_id).measured.items()
    assert kind[0] == "classify"
    assert measured == Measured(8.0, 20.0, 200.0, measured.input_tokens, measured.output_tokens, 5_120.0)


@pytest.mark.parametrize(
    "damage", ['"many"', "[]", '{"worker_seconds": "x", "chars": 5}', '{"worker_seconds": 1e999, "chars": 1e999}', "null"]
)
def test_sums_that_nobody_wrote_here_tell_nothing_and_stop_nothing(
    flow: Flow, tenant: Actor, as_superuser: AsSuperuser, damage: str
) -> None:
    job = flow.job(tenant, 10)
    take_part(flow)
    finalize_jobs(flow.dispatcher)
    as_superuser("UPDATE jobs SET metrics = %s::jsonb, worker_seconds = 'NaN' WHERE job_id = %s", [damage, job.job_id])
    assert read_backlog(flow.api, tenant.tenant_id).measured == {}
    flow.job(tenant, 10)
    as_superuser("UPDATE jobs SET worker_seconds = 'Infinity'")
    assert [each.worker_seconds for each in read_backlog(flow.api, tenant.tenant_id).waiting] == [None]


def test_the_workers_that_run_are_seen_with_what_they_could_run(flow: Flow, tenant: Actor) -> None:
    for worker, state, models in (("a:1", "running", ["m"]), ("b:1", "running", None), ("c:1", "drained", ["m"])):
        fleet.register(flow.worker, worker, device="cpu", threads=4, version="1")
        fleet.beat(flow.worker, worker, Beat(state, 0.0, 0, 0, 0, Readiness(models=models)))  # type: ignore[arg-type]
    seen = read_backlog(flow.api, tenant.tenant_id)
    assert sorted(seen.workers, key=str) == sorted([frozenset({"m"}), None], key=str)
    assert not seen.drained


def test_a_promise_is_kept_with_the_job_and_gone_with_another_run(flow: Flow, tenant: Actor) -> None:
    job = promised(flow, tenant, 10, 20.0)
    assert job.promised_at is not None
    assert (job.promised_at - job.created_at).total_seconds() == 40.0
    assert job.worker_seconds == 20.0
    assert get_job(flow.api, tenant, job.job_id).promised_at == job.promised_at


def test_a_look_is_believed_for_some_time_and_for_longer_by_who_asks_again_and_again(flow: Flow, tenant: Actor) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.01  # each look takes so long
        return now

    backlogs = Backlogs(clock)
    first = backlogs.of(flow.api, tenant.tenant_id)
    assert backlogs.of(flow.api, tenant.tenant_id) is first
    assert backlogs.of(flow.api, uuid4()) is not first
    job = promised(flow, tenant, 10, 20.0)
    backlogs.note(tenant.tenant_id, Waiting(9, job.job_id, ("classify", "m"), 0, None, None, 20.0))
    first = backlogs.of(flow.api, tenant.tenant_id)
    assert [(each.tenant, each.job_id) for each in first.waiting] == [(first.own, job.job_id)], "what came since is known"
    now += SHARE * 0.02
    assert backlogs.of(flow.api, tenant.tenant_id, polled=True) is first
    assert backlogs.of(flow.api, tenant.tenant_id) is not first
