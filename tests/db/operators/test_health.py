from collections.abc import Callable
from uuid import uuid4

import pytest

from db.actors import Actor
from db.connect import Store
from db.jobs.jobs import get_job
from db.jobs.steering import cancel_job, pause_job
from db.lifecycle import INTERACTIVE_PRIORITY
from db.operators import fleet, health
from db.operators.health import ENDING_SECONDS, STUCK_SECONDS, Backlog
from db.queue.dispatch import REDISPATCH_SECONDS, pick_dispatchable
from db.queue.endings import finalize_jobs
from db.settings import Role
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow

Stores = Callable[[Role], Store]


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_nothing_to_do_is_measured_as_such(flow: Flow) -> None:
    found = health.measure(flow.dispatcher)
    assert (found.ready, found.leased, found.expired_leases, found.oldest_ready_seconds, found.not_offered) == (0, 0, 0, 0.0, 0)
    assert (found.jobs, found.workers) == ({}, {})


def test_shards_leases_jobs_and_workers_are_counted(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 30)
    flow.submit(tenant, flow.upload(tenant, 5))
    fleet.register(flow.worker, "host:1", device="cpu", threads=4, version="1")
    flow.claim()
    found = health.measure(flow.dispatcher)
    assert (found.ready, found.leased, found.expired_leases, found.not_offered) == (2, 1, 0, 2)
    assert found.jobs == {"in_progress": 1, "validating": 1}
    assert found.workers == {"running": 1}
    flow.end_leases()
    assert health.measure(flow.dispatcher).expired_leases == 1
    assert health.measure(flow.dispatcher).abandoned_leases == 1, "a minute ago"
    pick_dispatchable(flow.dispatcher, 5)
    assert health.measure(flow.dispatcher).not_offered == 0
    flow.change_shards("dispatched_at = now() - make_interval(secs => :old)", old=REDISPATCH_SECONDS + 1)
    assert health.measure(flow.dispatcher).not_offered == 2


def test_a_ready_shard_ages_from_its_job_s_start_or_its_backoff_s_end_or_its_last_rows(
    flow: Flow, tenant: Actor, as_superuser: AsSuperuser
) -> None:
    flow.job(tenant, 10)
    age(as_superuser, 1800)
    assert health.measure(flow.dispatcher).oldest_ready_seconds == pytest.approx(1800, abs=60)
    as_superuser("UPDATE shards SET not_before = now() - interval '10 minutes'")
    assert health.measure(flow.dispatcher).oldest_ready_seconds == pytest.approx(600, abs=60)
    as_superuser("UPDATE shards SET not_before = now() + interval '10 minutes'")
    assert health.measure(flow.dispatcher).oldest_ready_seconds == 0


def test_a_job_whose_ready_shards_nobody_takes_is_stuck(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    job = flow.job(tenant, 30)
    assert health.stuck_jobs(flow.dispatcher) == []
    age(as_superuser)
    (stuck,) = health.stuck_jobs(flow.dispatcher)
    assert (stuck.job_id, stuck.state) == (job.job_id, "in_progress")
    assert stuck.seconds > STUCK_SECONDS
    flow.answer(flow.claim(), [0], finish=False)
    assert health.stuck_jobs(flow.dispatcher) == [], "rows were stored just now"


def test_a_job_that_waits_for_another_of_its_tenant_is_not_stuck(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    flow.job(tenant, 10, priority=5)
    waiting = flow.job(tenant, 10)
    age(as_superuser)
    flow.claim()
    assert waiting.job_id not in {one.job_id for one in health.stuck_jobs(flow.dispatcher)}


def test_what_is_paused_is_counted_apart_and_is_not_stuck(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    job = flow.job(tenant, 30)
    pause_job(flow.api, tenant, job.job_id)
    age(as_superuser)
    found = health.measure(flow.dispatcher)
    assert (found.ready, found.paused, found.not_offered, found.oldest_ready_seconds, found.jobs) == (0, 3, 0, 0, {"paused": 1})
    assert health.stuck_jobs(flow.dispatcher) == []


def age(as_superuser: AsSuperuser, seconds: float = STUCK_SECONDS + 10) -> None:
    """Every job began so long ago."""
    as_superuser(
        "UPDATE jobs SET in_progress_at = now() - make_interval(secs => %(old)s),"
        " deadline = now() - make_interval(secs => %(old)s) + make_interval(secs => completion_window_seconds)",
        {"old": seconds},
    )


@pytest.mark.parametrize("paused", [False, True])
def test_a_job_that_does_not_end_is_stuck_sooner_whether_it_was_paused_or_not(
    flow: Flow, tenant: Actor, as_superuser: AsSuperuser, paused: bool
) -> None:
    job = flow.job(tenant, 10)
    if paused:
        pause_job(flow.api, tenant, job.job_id)
    cancel_job(flow.api, tenant, job.job_id)
    as_superuser("UPDATE jobs SET cancelling_at = now() - make_interval(secs => %s)", [ENDING_SECONDS + 10])
    (stuck,) = health.stuck_jobs(flow.dispatcher)
    assert (stuck.job_id, stuck.state) == (job.job_id, "cancelling")
    assert health.measure(flow.dispatcher).jobs == {"cancelling": 1}
    assert not get_job(flow.api, tenant, job.job_id).paused


def test_rows_without_an_outcome_and_live_shards_of_ended_jobs_are_found(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    assert (health.miscounted_jobs(flow.dispatcher), health.left_over_shards(flow.dispatcher)) == ({}, 0)
    as_superuser("UPDATE jobs SET completed_count = 7")
    as_superuser("UPDATE shards SET state = 'ready'")
    assert (health.miscounted_jobs(flow.dispatcher), health.left_over_shards(flow.dispatcher)) == ({job.job_id: 3}, 1)


def test_the_backlog_is_told_in_rows_and_age_by_class(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    assert health.measure(flow.dispatcher).backlog == {"interactive": Backlog(), "bulk": Backlog()}
    flow.job(tenant, 30)
    flow.answer(flow.claim(), range(4), finish=False)
    as_superuser("UPDATE jobs SET in_progress_at = now() - interval '1 hour', deadline = NULL")
    flow.submit(tenant, flow.upload(tenant, 7), priority=INTERACTIVE_PRIORITY)  # not cut yet
    whole = health.measure(flow.dispatcher)
    assert (whole.tenants, whole.largest_tenant_rows) == (1, 26)
    found = whole.backlog
    assert {name: each.rows for name, each in found.items()} == {"interactive": 7, "bulk": 26}
    assert found["interactive"].oldest_ready_seconds == 0
    assert found["bulk"].oldest_ready_seconds == pytest.approx(3600, abs=60)
    as_superuser("UPDATE jobs SET paused_at = now()")
    paused = health.measure(flow.dispatcher)
    assert (paused.backlog, paused.tenants, paused.largest_tenant_rows) == ({"interactive": Backlog(), "bulk": Backlog()}, 0, 0)


def test_messages_are_held_against_the_shards_they_name(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 20)
    offered = pick_dispatchable(flow.dispatcher, 2)
    assert health.ready_of(flow.dispatcher, [*offered, (uuid4(), 0)]) == 2
    flow.claim()
    assert health.ready_of(flow.dispatcher, offered) == 1


def test_the_settings_that_keep_commits_are_read(flow: Flow) -> None:
    assert health.durability(flow.dispatcher) == {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}, (
        "of the tests' server"
    )
