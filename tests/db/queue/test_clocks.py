"""Leases live by the database's clock: a process whose own clock is an hour wrong decides nothing differently."""

import time

import pytest

from db.actors import Actor
from db.lifecycle import LEASE_SECONDS
from db.queue.endings import expire_jobs, finalize_jobs
from db.queue.recovery import reap_leases
from db.queue.shards import claim_any, renew
from tests.db.flow import Flow, Stores


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


@pytest.fixture(params=[3600.0, -3600.0], ids=["an hour ahead", "an hour behind"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + request.param)


def _seconds_left(flow: Flow, tenant: Actor) -> float:
    ((left,),) = flow.execute(tenant, "SELECT extract(epoch FROM lease_expires_at - clock_timestamp())::float8 FROM shards")
    assert isinstance(left, float)
    return left


@pytest.mark.usefixtures("wrong_clock")
def test_a_lease_is_as_long_as_the_database_says(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 10)
    lease = flow.claim()
    assert LEASE_SECONDS - 10 < _seconds_left(flow, tenant) <= LEASE_SECONDS
    assert renew(flow.worker, [lease], lease_seconds=300) == {lease.shard_id: "held"}
    assert 290 < _seconds_left(flow, tenant) <= 300
    flow.answer(lease)
    finalize_jobs(flow.dispatcher)


@pytest.mark.usefixtures("wrong_clock")
def test_a_live_lease_is_not_reaped_by_a_clock_that_is_ahead(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.claim()
    assert reap_leases(flow.dispatcher) == []
    assert claim_any(flow.worker, "host:2") == []
    flow.end_leases()
    assert len(reap_leases(flow.dispatcher)) == 1, "nor spared by one that is behind"
    assert flow.shards(job)[0][2] == "ready"


@pytest.mark.usefixtures("wrong_clock")
def test_a_deadline_passes_by_the_databases_clock(flow: Flow, tenant: Actor) -> None:
    job = flow.submit(tenant, flow.upload(tenant, 10), window_seconds=600)
    flow.cut()
    assert expire_jobs(flow.dispatcher) == 0
    assert len(claim_any(flow.worker, "host:1")) == 1
    flow.execute(tenant, "UPDATE jobs SET deadline = now() WHERE job_id = :job", job=job.job_id)
    assert expire_jobs(flow.dispatcher) == 1
