import threading
import uuid
from dataclasses import replace

import pytest
from sqlalchemy import event, text

from db.actors import Actor, Lease
from db.errors import LeaseLost
from db.files.table import Table
from db.jobs.creating import create_job
from db.jobs.jobs import get_job
from db.jobs.results import iter_results
from db.jobs.steering import cancel_job
from db.lifecycle import MAX_CRASHES, MAX_ERRORS
from db.process_names import own_name
from db.queue import shards as shards_module
from db.queue.dispatch import pick_dispatchable
from db.queue.endings import cancel_shards
from db.queue.recovery import holds_leases, reap_leases
from db.queue.shards import claim_any, open_shard, record_sending, release, renew
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores, new_job, plain
from tests.looking import on_record


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def _offered(flow: Flow, limit: int = 100) -> list[tuple[uuid.UUID, int]]:
    return pick_dispatchable(flow.dispatcher, limit)


def test_a_claim_gives_a_shard_to_one_worker_once(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    ((shard_id, epoch),) = _offered(flow)
    (lease,) = claim_any(flow.worker, "host:1")
    assert (lease.job_id, lease.file_id, lease.tenant_id) == (job.job_id, job.file_id, tenant.tenant_id)
    assert (lease.shard_id, lease.epoch, lease.first_idx, lease.end_idx) == (shard_id, epoch + 1, 0, 10)
    assert (lease.task, lease.endpoint, lease.model, lease.head_id) == ("classify", "/v1/classifications", "fake-encoder", None)
    assert claim_any(flow.worker, "host:2") == []
    flow.answer(lease)
    assert claim_any(flow.worker, "host:2") == []


def test_polling_workers_share_the_shards_and_take_none_twice(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 300)
    won: list[Lease] = []
    barrier = threading.Barrier(6)

    def work(name: str) -> None:
        barrier.wait()
        while claimed := claim_any(flow.worker, name, limit=2):
            assert len(claimed) <= 2
            won.extend(claimed)

    threads = [threading.Thread(target=work, args=(f"host:{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == len({lease.shard_id for lease in won}) == 30


@pytest.mark.parametrize("setting", ["enable_hashjoin", "enable_nestloop", "enable_mergejoin", "enable_indexscan"])
def test_claims_never_exceed_their_limit_whatever_the_plan(flow: Flow, tenant: Actor, setting: str) -> None:
    def switch_off(connection: object, _record: object) -> None:
        with connection.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute(f"SET {setting} = off")
        connection.commit()  # type: ignore[attr-defined]

    for store in (flow.worker, flow.dispatcher):
        event.listen(store.engine, "connect", switch_off)
        store.engine.dispose()
    with flow.worker.transaction() as conn:
        assert conn.execute(text(f"SHOW {setting}")).scalar_one() == "off"
    flow.job(tenant, 300)
    assert len(_offered(flow, 4)) == 4
    assert len(claim_any(flow.worker, "host:1", limit=3)) == 3
    assert len(claim_any(flow.worker, "host:2", limit=1)) == 1
    assert claim_any(flow.worker, "host:2", limit=0) == []


def test_a_shard_put_off_or_past_its_deadline_is_not_claimed(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 10)
    flow.change_shards("not_before = now() + interval '1 minute'")
    assert claim_any(flow.worker, "host:1") == []
    assert _offered(flow) == []
    flow.change_shards("not_before = NULL, deadline = now()")
    assert claim_any(flow.worker, "host:1") == []
    assert _offered(flow) == []
    flow.change_shards("deadline = now() + interval '1 minute'")
    assert len(claim_any(flow.worker, "host:1")) == 1


def test_a_heartbeat_tells_held_lost_and_cancelled_apart(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 20)
    other = flow.new_tenant()
    doomed_job = flow.job(other, 10)
    leases = claim_any(flow.worker, "host:1", limit=3)
    held, lost = (lease for lease in leases if lease.tenant_id == tenant.tenant_id)
    (doomed,) = (lease for lease in leases if lease.tenant_id == other.tenant_id)
    flow.change_shards("lease_expires_at = now() WHERE shard_id = :shard", shard=lost.shard_id)
    cancel_job(flow.api, other, doomed_job.job_id)
    assert renew(flow.worker, [held, lost, doomed]) == {held.shard_id: "held", lost.shard_id: "lost", doomed.shard_id: "cancelled"}
    assert renew(flow.worker, []) == {}


def test_a_heartbeat_puts_the_end_of_the_lease_off(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 10)
    lease = flow.claim()
    flow.change_shards("lease_expires_at = now() + interval '1 second'")
    assert renew(flow.worker, [lease], lease_seconds=60)[lease.shard_id] == "held"
    left = flow.execute(tenant, "SELECT extract(epoch FROM lease_expires_at - now())::float8 FROM shards")[0][0]
    assert isinstance(left, float)
    assert 55 < left <= 60


def test_a_heartbeat_names_a_shard_and_an_epoch_and_whoever_names_both_rightly_is_its_holder(flow: Flow, tenant: Actor) -> None:
    """Who does not know a shard's id and its epoch of now keeps no lease of another alive. Who has both, and the worker's login, does: a
    lease knows its holder by nothing else."""
    flow.job(tenant, 20)
    first, second = claim_any(flow.worker, "host:1", limit=2)
    flow.change_shards("lease_expires_at = now() + interval '5 seconds'")
    wrong = [
        replace(first, epoch=first.epoch - 1),
        replace(first, epoch=first.epoch + 1),
        replace(first, shard_id=uuid.uuid4()),
        replace(first, shard_id=second.shard_id, epoch=second.epoch + 1),
    ]
    for lease in wrong:
        assert renew(flow.worker, [lease], lease_seconds=600) == {lease.shard_id: "lost"}
    left = "SELECT shard_id FROM shards WHERE lease_expires_at > now() + interval '60 seconds'"
    assert flow.execute(tenant, left) == []
    told_to_another_process = replace(first)
    assert renew(flow.worker, [told_to_another_process], lease_seconds=600) == {first.shard_id: "held"}
    assert flow.execute(tenant, left) == [(first.shard_id,)]
    assert flow.execute(tenant, "SELECT DISTINCT worker FROM shards") == [("host:1",)], "it is its holder's all the same"


def test_opening_brings_the_rows_without_a_result(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, [plain(0), plain(1, defect="invalid_json"), plain(2, endpoint="/v1/embeddings"), plain(3), plain(4)])
    lease = flow.claim()
    spec, rows, _ = open_shard(flow.worker, lease)
    assert spec == {"defaults": {"labels": ["a", "b"]}}
    assert [(row.idx, row.endpoint, row.code, row.body) for row in rows] == [
        (0, None, None, b'{"input":"text 0"}'),
        (1, None, "invalid_json", None),
        (2, "/v1/embeddings", None, b'{"input":"text 2"}'),
        (3, None, None, b'{"input":"text 3"}'),
        (4, None, None, b'{"input":"text 4"}'),
    ]
    flow.answer(lease, [1, 2], finish=False)
    assert [row.idx for row in open_shard(flow.worker, lease)[1]] == [0, 3, 4]


def test_opening_is_on_record_with_its_digest(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    claim_any(flow.worker, "host:1")
    open_shard(flow.worker, flow.claim())
    recorded = flow.execute(
        tenant,
        "SELECT component, object_id, first_idx, end_idx, job_id, row_count, value_count FROM audit_events"
        " JOIN audit_digests USING (tenant_id, event_id) WHERE action = 'rows.read'",
    )
    assert recorded == [("worker", job.file_id, 10, 20, job.job_id, 10, 11)]


NAMES = ["name", "text"]


def of_table(flow: Flow, tenant: Actor, *, reads_columns: bool = True, table: Table | None = None) -> Lease:
    """A held shard of three rows of a table, the second with a defect."""
    rows = [plain(at, columns=b'["shoe %d",null]' % at) for at in (0, 1, 2)]
    rows[1] = plain(1, defect="invalid_record", body=None, columns=None)
    file = flow.upload(tenant, rows, table=table or Table(form="cells", names=NAMES, text="text"))
    create_job(flow.api, tenant, new_job(file.file_id, reads_columns=reads_columns))
    flow.cut()
    return flow.claim()


def test_cells_are_opened_of_a_job_that_reads_them_and_of_no_other(flow: Flow, tenant: Actor) -> None:
    _, rows, table = open_shard(flow.worker, of_table(flow, tenant))
    assert table == Table(form="cells", names=NAMES, text="text")
    assert [(row.body, row.kept, row.code) for row in rows] == [
        (b'{"input":"text 0"}', b'["shoe 0",null]', None),
        (None, None, "invalid_record"),
        (b'{"input":"text 2"}', b'["shoe 2",null]', None),
    ]
    _, rows, table = open_shard(flow.worker, of_table(flow, tenant, reads_columns=False))
    assert (table, [row.kept for row in rows]) == (None, [None] * 3)


def test_the_record_of_a_read_counts_cells_too(flow: Flow, tenant: Actor) -> None:
    counts = (
        "SELECT value_count FROM audit_events JOIN audit_digests USING (tenant_id, event_id) WHERE action = 'rows.read' AND job_id = :job"
    )
    for reads_columns, values in ((False, 3), (True, 6)):  # the spec and two bodies; what the columns are, and two rows' cells
        lease = of_table(flow, tenant, reads_columns=reads_columns)
        open_shard(flow.worker, lease)
        assert flow.execute(tenant, counts, job=lease.job_id) == [(values,)]


@pytest.mark.parametrize("change", ["columns_sealed = columns_sealed || 'x'", "columns_sealed = NULL"])
@pytest.mark.parametrize(("table", "failing"), [("rows", [0]), ("files", [0, 2])])
def test_cells_that_do_not_open_or_were_taken_fail_their_rows(
    flow: Flow, tenant: Actor, as_superuser: AsSuperuser, table: str, failing: list[int], change: str
) -> None:
    lease = of_table(flow, tenant)
    as_superuser(f"UPDATE {table} SET {change} WHERE file_id = %s" + (" AND idx = 0" if table == "rows" else ""), [lease.file_id])
    _, rows, _ = open_shard(flow.worker, lease)
    if (table, change) == ("files", "columns_sealed = NULL"):  # as of a file that is no table: a prompt tells, see workers/content
        failing = []
    assert [row.idx for row in rows if row.code == "sealed_value_damaged"] == failing
    damaged = "SELECT count(*) FROM audit_events WHERE action = 'value.damaged'"
    assert flow.execute(tenant, damaged) == [(1 if failing else 0,)]


def test_a_lost_lease_opens_nothing_and_leaves_no_trace_of_a_read(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 10)
    lease = flow.claim()
    flow.end_leases()
    for act in (
        lambda: open_shard(flow.worker, lease),
        lambda: flow.answer(lease),
        lambda: release(flow.worker, lease, code=None, kind="drain"),
        lambda: release(flow.worker, lease, code="engine_error", kind="error"),
    ):
        with pytest.raises(LeaseLost):
            act()
    traces = "SELECT action FROM audit_events WHERE component = 'worker' ORDER BY action"
    assert flow.execute(tenant, traces) == []
    again = flow.claim("host:2")
    open_shard(flow.worker, again)
    flow.answer(again)
    assert flow.execute(tenant, traces) == [("results.write",), ("rows.read",)]


def test_a_worker_without_a_lease_reads_nothing(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 20)
    lease = flow.claim()
    looks = (
        "SELECT count(*) FROM rows",
        "SELECT count(*) FROM job_specs",
        "SELECT count(*) FROM data_keys",
        "SELECT count(*) FROM tenant_keys",
        "SELECT count(idx) FROM results",
    )

    def seen(**context: object) -> list[int]:
        with on_record(flow.worker, tenant.tenant_id, job_id=lease.job_id, **context) as conn:
            return [conn.execute(text(look)).scalar_one() for look in looks]

    assert seen(shard=lease.shard_id, epoch=lease.epoch) == [10, 1, 3, 1, 0]
    assert seen() == [0] * 5
    assert seen(shard=lease.shard_id, epoch=lease.epoch - 1) == [0] * 5
    assert seen(shard=uuid.uuid4(), epoch=lease.epoch) == [0] * 5
    flow.end_leases()
    assert seen(shard=lease.shard_id, epoch=lease.epoch) == [0] * 5


def test_a_huge_shard_comes_in_parts_and_ends(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "OPEN_BYTES", 1000)
    job = flow.job(tenant, [plain(at, body=bytes(400)) for at in range(8)])
    claims = 0
    while claimed := claim_any(flow.worker, "host:1"):
        claims += 1
        flow.answer(claimed[0], [row.idx for row in open_shard(flow.worker, claimed[0])[1]])
    assert claims == 3
    assert flow.shards(job) == [(0, 8, "done", 3, 8, 0, 0, 0)]


def test_a_tampered_row_fails_alone(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 3)
    flow.execute(tenant, "UPDATE rows SET body_sealed = overlay(body_sealed PLACING '\\x00' FROM 60) WHERE idx = 1")
    rows = open_shard(flow.worker, flow.claim())[1]
    assert [(row.code, row.body is None) for row in rows] == [(None, False), ("sealed_value_damaged", True), (None, False)]


def test_a_drain_gives_the_shard_back_at_once_and_costs_nothing(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    lease = flow.claim()
    flow.answer(lease, [0, 1], finish=False)
    release(flow.worker, lease, code=None, kind="drain")
    assert flow.shards(job) == [(0, 10, "ready", 1, 2, 0, 0, 0)]
    assert _offered(flow) == [(lease.shard_id, 1)]
    with pytest.raises(LeaseLost):
        flow.answer(lease, [2])


def test_what_runs_the_model_being_away_puts_a_shard_off_and_costs_nothing(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    lease = flow.claim()
    flow.answer(lease, [0, 1], finish=False)
    release(flow.worker, lease, code=None, kind="away", away_seconds=600.0)
    assert flow.shards(job) == [(0, 10, "ready", 1, 2, 0, 0, 0)]
    assert _offered(flow) == []
    assert claim_any(flow.worker, "host:2") == []
    flow.change_shards("not_before = not_before - interval '600 seconds'")
    assert _offered(flow) == [(lease.shard_id, 1)]


def test_what_leaves_the_machine_is_on_record_with_where_to(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    lease = flow.claim()
    rows = open_shard(flow.worker, lease)[1]
    record_sending(flow.worker, lease, rows[2:5], "https://gpu.internal:8000/v1")
    recorded = flow.execute(
        tenant, "SELECT component, object_id, first_idx, end_idx, job_id, model_version FROM audit_events WHERE action = 'rows.send'"
    )
    assert recorded == [("worker", job.file_id, 2, 5, job.job_id, "https://gpu.internal:8000/v1")]


def test_a_zombie_cannot_give_back_or_open_the_shard_of_its_successor(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    zombie = flow.claim("zombie:1")
    flow.end_leases()
    reap_leases(flow.dispatcher)
    living = flow.claim("host:2")
    for act in (
        lambda: release(flow.worker, zombie, code=None, kind="drain"),
        lambda: release(flow.worker, zombie, code="engine_error", kind="error"),
        lambda: open_shard(flow.worker, zombie),
    ):
        with pytest.raises(LeaseLost):
            act()
    assert renew(flow.worker, [zombie]) == {zombie.shard_id: "lost"}
    assert renew(flow.worker, [living]) == {living.shard_id: "held"}
    assert flow.shards(job) == [(0, 10, "leased", 2, 0, 0, 1, 0)]


def test_errors_put_a_shard_off_and_at_last_fail_its_open_rows_only(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    for attempt in range(1, MAX_ERRORS + 2):
        lease = flow.claim()
        if attempt == 1:
            flow.answer(lease, [4], finish=False)
        release(flow.worker, lease, code="out_of_memory", kind="error")
        assert claim_any(flow.worker, "host:1") == []
        assert flow.shards(job)[0][7] == attempt
        flow.change_shards("not_before = NULL")
    assert flow.shards(job) == [(0, 10, "done", MAX_ERRORS + 1, 1, 9, 0, MAX_ERRORS + 1)]
    errors = list(iter_results(flow.api, tenant, job.job_id, which="errors"))
    assert [line.idx for line in errors] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert {line.code for line in errors} == {"out_of_memory"}
    assert (get_job(flow.api, tenant, job.job_id).completed_count, get_job(flow.api, tenant, job.job_id).failed_count) == (1, 9)


def test_a_shard_of_a_cancelled_job_that_is_given_back_goes_to_nobody(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    leases = claim_any(flow.worker, "host:1", limit=2)
    cancel_job(flow.api, tenant, job.job_id)
    cancel_shards(flow.dispatcher)
    release(flow.worker, leases[0], code=None, kind="drain")
    release(flow.worker, leases[1], code="engine_error", kind="error")
    assert [shard[2] for shard in flow.shards(job)] == ["cancelled", "cancelled"]


def test_a_suspect_runs_alone_in_its_worker(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 40)
    flow.change_shards("crash_attempts = :crashes, not_before = now() WHERE first_idx = 0", crashes=MAX_CRASHES)
    (busy,) = claim_any(flow.worker, "busy", limit=1)
    assert busy.first_idx == 0
    release(flow.worker, busy, code=None, kind="drain")
    flow.change_shards("not_before = now() WHERE first_idx = 0")

    (alone,) = claim_any(flow.worker, "free", limit=3)
    assert alone.first_idx == 0
    assert claim_any(flow.worker, "free", limit=3) == []
    others = claim_any(flow.worker, "other", limit=2)
    assert [lease.first_idx for lease in others] == [10, 20]
    release(flow.worker, alone, code=None, kind="drain")
    flow.change_shards("not_before = now() WHERE first_idx = 0")
    assert [lease.first_idx for lease in claim_any(flow.worker, "other", limit=2)] == [30]
    flow.change_shards("not_before = now() - interval '1 minute' WHERE first_idx = 0")
    assert [lease.first_idx for lease in claim_any(flow.worker, "other")] == [0], "it has waited long enough for a worker of its own"


def test_a_worker_that_starts_again_under_its_host_and_pid_inherits_no_lease(flow: Flow, tenant: Actor) -> None:
    """As a container does: the worker is its process 1 each time. What its dead held was a suspect, beside which nothing is given."""
    flow.job(tenant, 40)
    flow.change_shards("crash_attempts = :crashes, not_before = now() WHERE first_idx = 0", crashes=MAX_CRASHES)
    dead, again = own_name(), own_name()
    assert [lease.first_idx for lease in claim_any(flow.worker, dead)] == [0]
    assert [lease.first_idx for lease in claim_any(flow.worker, again, limit=2)] == [10, 20]
    assert len(reap_leases(flow.dispatcher, dead=dead)) == 1, "and what the new one holds stays"
    assert holds_leases(flow.dispatcher, again)


def test_threads_of_one_worker_that_claim_at_once_leave_a_suspect_alone(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 80)
    flow.change_shards("crash_attempts = :crashes, not_before = now() WHERE first_idx IN (0, 10)", crashes=MAX_CRASHES)
    for _ in range(5):
        won: list[Lease] = []
        barrier = threading.Barrier(6)

        def work(won: list[Lease] = won, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            won.extend(claim_any(flow.worker, "host:1"))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [lease.first_idx for lease in won] == [0]
        release(flow.worker, won[0], code=None, kind="drain")


def test_an_overdue_lease_is_taken_over_where_there_is_no_reconciler_and_counts_as_a_crash(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    dead = flow.claim("dead:1")
    assert claim_any(flow.worker, "host:1") == []
    flow.end_leases()
    (lease,) = claim_any(flow.worker, "host:1")
    assert (lease.shard_id, lease.epoch) == (dead.shard_id, dead.epoch + 1)
    assert flow.shards(job)[0][6] == 1
    with pytest.raises(LeaseLost):
        flow.answer(dead)
    flow.end_leases()
    (taken,) = claim_any(flow.worker, "host:2")
    assert taken.epoch == lease.epoch + 1
    flow.end_leases()
    assert claim_any(flow.worker, "host:3") == []  # a suspect's: the reconciler halves it
