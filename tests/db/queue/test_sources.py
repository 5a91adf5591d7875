"""What a worker reads of the jobs that its job reads: of the same rows, under its lease, on record."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from db.actors import Actor, Lease
from db.jobs import steering
from db.jobs.creating import create_job
from db.jobs.erasing import erase_results
from db.jobs.jobs import get_job
from db.queue import shards, sources
from db.queue.endings import finalize_jobs
from db.queue.results import write_results
from db.queue.row import WorkRow
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores, answers, new_job
from tests.looking import on_record


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def chain(flow: Flow, actor: Actor, rows: int, steps: int = 2) -> list[UUID]:
    """The jobs of a chain, in order; none is cut."""
    new = new_job(flow.upload(actor, rows).file_id)
    before = tuple(replace(new, step=f"step{at}") for at in range(1, steps))
    held = create_job(flow.api, actor, replace(new, step=f"step{steps}", before=before))
    found = flow.execute(actor, "SELECT job_id FROM jobs WHERE chain_id = :held ORDER BY step", held=held.job_id)
    assert found[-1] == (held.job_id,)
    return [UUID(str(job_id)) for (job_id,) in found]


def run(flow: Flow, actor: Actor, *, fail: bool = False) -> None:
    """Cuts what can be cut, answers all shards of it, and ends it."""
    flow.cut()
    while leases := shards.claim_any(flow.worker, "host:1", 1):
        flow.answer(leases[0], fail=fail)
    finalize_jobs(flow.dispatcher)


def opened(flow: Flow, lease: Lease) -> Sequence[WorkRow]:
    return shards.open_shard(flow.worker, lease)[1]


def state(flow: Flow, actor: Actor, job_id: UUID) -> str:
    return get_job(flow.api, actor, job_id).state


def test_a_step_is_not_cut_before_the_one_before_it_has_ended(flow: Flow, tenant: Actor) -> None:
    first, second, third = chain(flow, tenant, 10, steps=3)
    assert flow.cut() == 1
    assert [state(flow, tenant, job) for job in (first, second, third)] == ["in_progress", "validating", "validating"]
    flow.answer(flow.claim())
    assert flow.cut() == 0
    finalize_jobs(flow.dispatcher)
    assert flow.cut() == 1
    assert [state(flow, tenant, job) for job in (first, second, third)] == ["completed", "in_progress", "validating"]


def test_a_row_comes_with_what_the_steps_before_made_of_it(flow: Flow, tenant: Actor) -> None:
    chain(flow, tenant, 25, steps=3)
    run(flow, tenant)
    run(flow, tenant)
    flow.cut()
    leases = shards.claim_any(flow.worker, "host:1", 3)
    rows = [row for lease in leases for row in opened(flow, lease)]
    assert [row.idx for row in rows] == list(range(25))
    assert {row.answers for row in rows} == {(b'{"label":"a"}', b'{"label":"a"}')}
    assert rows[7].body == b'{"input":"text 7"}'


def test_what_steps_before_made_is_opened_in_parts_where_it_is_long(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(flow, tenant, 8)
    flow.cut()
    lease = flow.claim()
    long = answers(range(8))
    for row in long:
        row.payload = bytes(1000)
    write_results(flow.worker, lease, long, finish=True, model_version="model-1", metrics=None)
    finalize_jobs(flow.dispatcher)
    flow.cut()
    monkeypatch.setattr(shards, "OPEN_BYTES", 3000)
    parts = []
    while claimed := shards.claim_any(flow.worker, "host:1"):
        rows = opened(flow, claimed[0])
        assert {row.answers for row in rows} == {(bytes(1000),)}
        parts.append(len(rows))
        flow.answer(claimed[0], [row.idx for row in rows])
    assert parts == [3, 3, 2]


def test_a_row_that_failed_in_a_step_fails_in_those_behind_it(flow: Flow, tenant: Actor) -> None:
    chain(flow, tenant, 4, steps=3)
    flow.cut()
    lease = flow.claim()
    flow.answer(lease, [0, 2], finish=False)
    flow.answer(lease, [1, 3], fail=True)
    finalize_jobs(flow.dispatcher)
    run(flow, tenant)
    flow.cut()
    assert [row.code for row in opened(flow, flow.claim())] == [None, "step_failed:1", None, "step_failed:1"]


def test_the_read_of_each_source_is_on_record_with_its_digest(flow: Flow, tenant: Actor) -> None:
    first, _ = chain(flow, tenant, 5)
    run(flow, tenant)
    flow.cut()
    opened(flow, flow.claim())
    found = flow.execute(
        tenant,
        "SELECT e.action, e.first_idx, e.end_idx, d.row_count, d.value_count FROM audit_events e JOIN audit_digests d USING (event_id)"
        " WHERE e.component = 'worker' AND e.object_id = :first AND e.action = 'results.read'",
        first=first,
    )
    assert found == [("results.read", 0, 5, 5, 5)]


def test_a_worker_sees_of_a_source_nothing_outside_its_rows_and_nothing_without_the_event(flow: Flow, tenant: Actor) -> None:
    first, second = chain(flow, tenant, 20)
    run(flow, tenant)
    flow.cut()
    lease = flow.claim()
    context = {"job_id": second, "shard": lease.shard_id, "epoch": lease.epoch}
    seen = text("SELECT idx FROM results WHERE job_id = :first AND payload_sealed IS NOT NULL ORDER BY idx")
    keys = text("SELECT count(*) FROM data_keys WHERE owner_id = :first")
    with on_record(flow.worker, tenant.tenant_id, **context) as conn:
        assert conn.execute(seen, {"first": first}).all() == []
        assert conn.execute(keys, {"first": first}).scalar_one() == 0
    with on_record(flow.worker, tenant.tenant_id, source_id=first, **context) as conn:
        assert [idx for (idx,) in conn.execute(seen, {"first": first})] == list(range(10))
        assert conn.execute(keys, {"first": first}).scalar_one() == 1
    flow.end_leases()
    with on_record(flow.worker, tenant.tenant_id, source_id=first, **context) as conn:
        assert conn.execute(seen, {"first": first}).all() == []
        assert conn.execute(keys, {"first": first}).scalar_one() == 0


def test_what_is_no_source_of_its_job_a_worker_does_not_see(flow: Flow, tenant: Actor) -> None:
    other, _ = chain(flow, tenant, 5)
    run(flow, tenant)
    job = flow.job(tenant, 5)
    while (lease := flow.claim()).job_id != job.job_id:
        pass
    context = {"job_id": job.job_id, "source_id": other, "shard": lease.shard_id, "epoch": lease.epoch}
    with on_record(flow.worker, tenant.tenant_id, **context) as conn:
        assert conn.execute(text("SELECT count(payload_sealed) FROM results WHERE job_id = :other"), {"other": other}).scalar_one() == 0


def test_an_answer_that_was_altered_fails_its_row_and_is_on_record(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    first, _ = chain(flow, tenant, 3)
    run(flow, tenant)
    as_superuser("UPDATE results SET payload_sealed = payload_sealed || 'x'::bytea WHERE job_id = %s AND idx = 1", [first])
    flow.cut()
    assert [row.code for row in opened(flow, flow.claim())] == [None, "sealed_value_damaged", None]
    assert flow.execute(tenant, "SELECT object_id FROM audit_events WHERE action = 'value.damaged'") == [(first,)]


def test_a_row_moved_to_another_job_or_place_does_not_open(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    first, _ = chain(flow, tenant, 3)
    run(flow, tenant)
    as_superuser(
        "UPDATE results a SET payload_sealed = b.payload_sealed FROM results b WHERE a.job_id = %s AND b.job_id = a.job_id"
        " AND a.idx = 0 AND b.idx = 2",
        [first],
    )
    flow.cut()
    assert [row.code for row in opened(flow, flow.claim())] == ["sealed_value_damaged", None, None]


def test_an_output_is_the_input_of_another_job(flow: Flow, tenant: Actor) -> None:
    source = flow.job(tenant, 5)
    new = replace(new_job(source.file_id), source_id=source.job_id)
    job = create_job(flow.api, tenant, new)
    assert flow.cut() == 0
    run(flow, tenant)
    flow.cut()
    lease = flow.claim()
    assert lease.job_id == job.job_id
    assert {row.answers for row in opened(flow, lease)} == {(b'{"label":"a"}',)}


@pytest.mark.parametrize("gone", ["results", "job"])
def test_rows_whose_source_is_gone_fail(flow: Flow, tenant: Actor, gone: str) -> None:
    source = flow.job(tenant, 3)
    create_job(flow.api, tenant, replace(new_job(source.file_id), source_id=source.job_id))
    run(flow, tenant)
    flow.cut()
    if gone == "job":
        with flow.dispatcher.transaction() as conn:
            conn.execute(text("UPDATE jobs SET deleted_at = now() WHERE job_id = :job"), {"job": source.job_id})
    else:
        with flow.dispatcher.transaction() as conn:
            conn.execute(text("UPDATE jobs SET output_deleted_at = now() WHERE job_id = :job"), {"job": source.job_id})
    assert {row.code for row in opened(flow, flow.claim())} == {"source_gone"}


def test_the_database_lets_no_job_read_itself_or_another_file(flow: Flow, tenant: Actor) -> None:
    job, other = flow.job(tenant, 3), flow.job(tenant, 3)
    put = "INSERT INTO job_sources (tenant_id, job_id, number, source_job_id) VALUES (:tenant, :job, 1, :source)"
    for source in (job.job_id, other.job_id):
        with pytest.raises(Exception, match="row-level security"):
            flow.execute(tenant, put, tenant=tenant.tenant_id, job=job.job_id, source=source)


@pytest.mark.parametrize("cancelled", [False, True])
def test_rows_whose_source_is_erased_while_it_is_read_fail_as_if_it_had_gone_before(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    source = flow.job(tenant, 5)
    create_job(flow.api, tenant, replace(new_job(source.file_id), source_id=source.job_id))
    flow.answer(flow.claim(), range(4), finish=False)
    if cancelled:
        steering.cancel_job(flow.api, tenant, source.job_id)
        flow.end_leases()
        flow.change_shards("state = 'cancelled' WHERE state = 'leased'")
    else:
        flow.change_shards("state = 'done' WHERE state = 'leased'")
    finalize_jobs(flow.dispatcher)
    flow.cut()
    select = sources._select

    def purged(*given: Any) -> sources.Source:
        flow.execute(tenant, "UPDATE jobs SET results_expire_at = now() WHERE job_id = :source", source=source.job_id)
        with flow.dispatcher.transaction(tenant=tenant.tenant_id) as conn:
            erase_results(conn, tenant.tenant_id, source.job_id, ("output",))
        return select(*given)

    monkeypatch.setattr(sources, "_select", purged)
    assert {row.code for row in opened(flow, flow.claim())} == {"source_gone"}
    assert flow.execute(tenant, "SELECT object_id FROM audit_events WHERE action = 'value.damaged'") == []
