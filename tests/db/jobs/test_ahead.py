"""A job's place in its tenant's own queue, and how long what goes before it will take."""

import uuid
from collections.abc import Callable

import pytest

from db.actors import Actor
from db.connect import Store
from db.jobs.ahead import Ahead, jobs_ahead
from db.jobs.steering import cancel_job, pause_job, set_priority
from db.queue.endings import finalize_jobs
from db.queue.shards import release
from db.settings import Role
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow

Stores = Callable[[Role], Store]
NOTHING = Ahead(0, None)


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_what_came_first_goes_first_and_nothing_of_another_tenant_counts(flow: Flow, tenant: Actor) -> None:
    other = flow.new_tenant()
    foreign = flow.job(other, 10)
    first, second, third = (flow.job(tenant, 10) for _ in range(3))
    assert [jobs_ahead(flow.api, tenant, job.job_id).jobs for job in (first, second, third)] == [0, 1, 2]
    assert jobs_ahead(flow.api, other, foreign.job_id) == NOTHING
    assert jobs_ahead(flow.api, other, third.job_id) == NOTHING, "a foreign job shows nothing"
    assert jobs_ahead(flow.api, tenant, uuid.uuid4()) == NOTHING


def test_a_job_whose_model_is_away_says_so_until_it_is_asked_again_and_one_that_failed_does_not(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    release(flow.worker, flow.claim(), code=None, kind="away", away_seconds=60.0)
    away = jobs_ahead(flow.api, tenant, job.job_id).away_seconds
    assert away is not None
    assert 0 < away <= 60
    assert jobs_ahead(flow.api, flow.new_tenant(), job.job_id) == NOTHING
    failed = flow.job(tenant, 10)
    release(flow.worker, flow.claim(), code="engine_error", kind="error")
    cancel_job(flow.api, tenant, job.job_id)
    assert jobs_ahead(flow.api, tenant, failed.job_id) == NOTHING


def test_a_shorter_job_overtakes(flow: Flow, tenant: Actor) -> None:
    long, short = flow.job(tenant, 30), flow.job(tenant, 10)
    assert [jobs_ahead(flow.api, tenant, job.job_id).jobs for job in (long, short)] == [1, 0]


def test_a_priority_overtakes_and_a_pause_lets_by(flow: Flow, tenant: Actor) -> None:
    first, second = flow.job(tenant, 10), flow.job(tenant, 10)
    set_priority(flow.api, tenant, second.job_id, 5)
    assert [jobs_ahead(flow.api, tenant, job.job_id).jobs for job in (first, second)] == [1, 0]
    pause_job(flow.api, tenant, second.job_id)
    assert jobs_ahead(flow.api, tenant, first.job_id) == NOTHING


def test_what_is_left_is_guessed_from_the_speed_so_far(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    first, second = flow.job(tenant, 30), flow.job(tenant, 30)
    assert jobs_ahead(flow.api, tenant, second.job_id) == Ahead(1, None), "nothing like it ran yet"
    flow.answer(flow.claim())  # ten of thirty rows
    as_superuser("UPDATE jobs SET in_progress_at = clock_timestamp() - interval '20 seconds' WHERE job_id = %s", [first.job_id])
    found = jobs_ahead(flow.api, tenant, second.job_id)
    assert found.jobs == 1
    assert found.seconds == pytest.approx(40.0, abs=20.0)


def test_before_a_job_begins_the_last_one_of_its_kind_tells_its_speed(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    done = flow.job(tenant, 10)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    as_superuser("UPDATE jobs SET in_progress_at = completed_at - interval '5 seconds' WHERE job_id = %s", [done.job_id])
    flow.job(tenant, 40)
    last = flow.job(tenant, 40)
    assert jobs_ahead(flow.api, tenant, last.job_id) == Ahead(1, pytest.approx(20.0))  # type: ignore[arg-type]
