import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Literal, LiteralString

import pytest
from sqlalchemy import Connection, text

from db import bulk
from db.actors import Actor, Lease
from db.audit.reading import list_events
from db.errors import LeaseLost, NotFound, StoreError
from db.jobs import results as results_module
from db.jobs.jobs import delete_outputs, get_job
from db.jobs.results import ResultLine, has_results, iter_results
from db.queue.endings import finalize_jobs
from db.queue.recovery import reap_leases
from db.queue.results import write_results
from db.queue.row import WorkRow
from db.queue.shards import claim_any, open_shard, release
from tests.db.flow import Flow, Stores, answers, plain
from tests.looking import on_record


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def _write(flow: Flow, lease: Lease, results: list[WorkRow], *, finish: bool = False) -> None:
    write_results(flow.worker, lease, results, finish=finish, model_version="model-1", metrics={"tokens": 1.0})


def test_results_come_back_as_they_were(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, [plain(0), plain(1, custom_id=None), plain(2), plain(3, custom_id="ü")])
    given = [
        WorkRow(0, payload=b'{"a":1}', input_tokens=5, output_tokens=2),
        WorkRow(1, code="invalid_field:model"),
        WorkRow(2, code="empty_input"),
        WorkRow(3, payload=b"", input_tokens=1),
    ]
    _write(flow, flow.claim(), given, finish=True)
    assert list(iter_results(flow.api, tenant, job.job_id, which="output")) == [
        ResultLine(0, 1, "id-0", 1, None, b'{"a":1}', "model-1"),
        ResultLine(3, 4, "ü", 1, None, b"", "model-1"),
    ]
    assert list(iter_results(flow.api, tenant, job.job_id, which="errors")) == [
        ResultLine(1, 2, None, 2, "invalid_field:model", None, "model-1"),
        ResultLine(2, 3, "id-2", 2, "empty_input", None, "model-1"),
    ]
    assert has_results(flow.api, tenant, job.job_id) == (True, True)
    done = get_job(flow.api, tenant, job.job_id)
    assert (done.completed_count, done.failed_count, done.input_tokens, done.output_tokens) == (2, 2, 6, 2)


def test_a_shard_is_done_once_every_row_has_a_result(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    lease = flow.claim()
    flow.answer(lease, [7, 3], finish=False)
    flow.answer(lease, [0, 1, 2], finish=False)
    assert flow.shards(job) == [(0, 10, "leased", 1, 5, 0, 0, 0)]
    assert [row.idx for row in open_shard(flow.worker, lease)[1]] == [4, 5, 6, 8, 9]
    flow.answer(lease, [4, 5, 6, 8, 9])
    assert flow.shards(job) == [(0, 10, "done", 1, 10, 0, 0, 0)]
    assert [line.idx for line in iter_results(flow.api, tenant, job.job_id, which="output")] == list(range(10))


def test_a_holder_that_is_through_with_rows_open_gives_the_shard_back(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim(), range(4))
    assert flow.shards(job) == [(0, 10, "ready", 1, 4, 0, 0, 0)]
    _write(flow, flow.claim(), [], finish=True)
    assert flow.shards(job) == [(0, 10, "ready", 2, 4, 0, 0, 1)]  # nothing stored and rows open: an error, or it would go on for ever


def test_a_zombie_cannot_store_results(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    zombie = flow.claim("zombie:1")
    flow.answer(zombie, [0], finish=False)
    flow.end_leases()
    with pytest.raises(LeaseLost):
        flow.answer(zombie, [1], finish=False)
    reap_leases(flow.dispatcher)
    with pytest.raises(LeaseLost):
        flow.answer(zombie, [1], finish=False)
    living = flow.claim("host:2")
    with pytest.raises(LeaseLost):
        flow.answer(zombie, range(10))
    flow.answer(living, range(1, 10))
    with pytest.raises(LeaseLost):
        flow.answer(zombie, range(10))
    assert flow.shards(job) == [(0, 10, "done", 2, 10, 0, 1, 0)]
    assert flow.execute(tenant, "SELECT epoch, count(*) FROM results GROUP BY epoch ORDER BY epoch") == [(1, 1), (2, 9)]


def test_a_write_whose_commit_was_in_doubt_can_be_repeated(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    lease = flow.claim()
    for _ in range(3):
        flow.answer(lease, [0, 1, 2], finish=False)
    assert flow.shards(job) == [(0, 10, "leased", 1, 3, 0, 0, 0)]
    for _ in range(3):
        flow.answer(lease, range(3, 10))
    assert flow.shards(job) == [(0, 10, "done", 1, 10, 0, 0, 0)]
    finalize_jobs(flow.dispatcher)
    done = get_job(flow.api, tenant, job.job_id)
    assert (done.completed_count, done.input_tokens) == (10, 30)
    assert done.metrics is not None
    assert done.metrics["tokens"] == 4.0
    assert set(done.metrics) == {"tokens", "seal_seconds", "commit_seconds"}
    assert len(flow.execute(tenant, "SELECT FROM audit_events WHERE action = 'results.write'")) == 2


def test_a_last_write_of_rows_that_are_all_stored_counts_nothing_twice(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    lease = flow.claim()
    flow.answer(lease, range(10), finish=False)
    flow.answer(lease, range(10))
    assert flow.shards(job) == [(0, 10, "done", 1, 10, 0, 0, 0)]
    finalize_jobs(flow.dispatcher)
    assert get_job(flow.api, tenant, job.job_id).completed_count == 10


def test_a_write_is_all_or_nothing_and_never_replaces_a_result(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    lease = flow.claim()
    flow.answer(lease, [0, 1], finish=False)
    with pytest.raises(LeaseLost):  # half known, half new: not the same write again
        flow.answer(lease, [1, 2], finish=False)
    release(flow.worker, lease, code=None, kind="drain")
    again = flow.claim()
    with pytest.raises(LeaseLost):  # of an earlier epoch
        flow.answer(again, [0, 1], finish=False)
    assert flow.shards(job) == [(0, 10, "leased", 2, 2, 0, 0, 0)]
    assert flow.execute(tenant, "SELECT idx, epoch FROM results ORDER BY idx") == [(0, 1), (1, 1)]


@pytest.mark.parametrize("idxs", [[-1], [10], [0, 0], [3, 12]])
def test_rows_outside_the_shard_or_given_twice_are_refused(flow: Flow, tenant: Actor, idxs: list[int]) -> None:
    flow.job(tenant, 30)
    with pytest.raises(StoreError) as refused:
        flow.answer(flow.claim(), idxs, finish=False)
    assert refused.value.code == "row_outside_shard"
    assert flow.execute(tenant, "SELECT FROM results") == []


def test_a_write_and_a_takeover_at_once_store_every_row_once(flow: Flow, tenant: Actor) -> None:
    """Twenty leases end at the very moment at which they are written: whoever comes first wins, and nobody wins half."""
    job = flow.job(tenant, 200)
    leases = claim_any(flow.worker, "old:1", limit=20)
    flow.change_shards("lease_expires_at = clock_timestamp() + interval '100 milliseconds'")
    start = threading.Barrier(2)

    def write() -> None:
        start.wait()
        for lease in leases:
            try:
                flow.answer(lease)
            except LeaseLost:
                continue

    def take_over() -> None:
        start.wait()
        while {shard[2] for shard in flow.shards(job)} != {"done"}:
            reap_leases(flow.dispatcher)
            for lease in claim_any(flow.worker, "new:1", limit=20):
                flow.answer(lease, [row.idx for row in open_shard(flow.worker, lease)[1]])

    threads = [threading.Thread(target=write), threading.Thread(target=take_over)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {shard[2] for shard in flow.shards(job)} == {"done"}
    assert flow.execute(tenant, "SELECT count(*), count(DISTINCT idx) FROM results") == [(200, 200)]
    assert get_job(flow.api, tenant, job.job_id).completed_count == 200


def test_a_shard_stays_locked_while_its_results_are_written(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what the fence saw may be over when the rows go in: the lease could be given away in between."""
    flow.job(tenant, 10)
    lease = flow.claim()
    stage, unlocked = bulk.stage, list[int]()

    def look_and_stage(conn: Connection, staging: bulk.Staging, rows: Any) -> None:
        unlocked.append(flow.unlocked_shards())
        stage(conn, staging, rows)

    monkeypatch.setattr(bulk, "stage", look_and_stage)
    flow.answer(lease)
    assert unlocked == [0]


def test_counts_are_exact_after_a_crash_and_a_second_run(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    for lease in claim_any(flow.worker, "dead:1", limit=3):
        flow.answer(lease, range(lease.first_idx, lease.first_idx + 4), finish=False)
    flow.end_leases()
    assert len(reap_leases(flow.dispatcher)) == 3
    for lease in claim_any(flow.worker, "host:1", limit=3):
        open_idx = [row.idx for row in open_shard(flow.worker, lease)[1]]
        assert len(open_idx) == 6
        failed = [WorkRow(idx, code="empty_input") for idx in open_idx[:1]]
        _write(flow, lease, [*answers(open_idx[1:]), *failed], finish=True)
    finalize_jobs(flow.dispatcher)
    done = get_job(flow.api, tenant, job.job_id)
    assert (done.state, done.completed_count, done.failed_count, done.input_tokens) == ("completed", 27, 3, 81)
    assert flow.execute(tenant, "SELECT outcome, count(*) FROM results GROUP BY outcome ORDER BY outcome") == [(1, 27), (2, 3)]


def test_a_page_of_results_ends_by_bytes(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "PAGE_BYTES", 1000)
    job = flow.job(tenant, 10)
    _write(flow, flow.claim(), [WorkRow(at, payload=bytes(400)) for at in range(10)], finish=True)
    assert [line.idx for line in iter_results(flow.api, tenant, job.job_id, which="output")] == list(range(10))
    reads = flow.execute(tenant, "SELECT first_idx FROM audit_events WHERE action = 'results.read' ORDER BY first_idx")
    assert reads == [(0,), (3,), (6,), (9,)]


@pytest.mark.parametrize(("which", "outcome"), [("output", 1), ("errors", 2)])
def test_a_page_of_results_looks_up_each_row_once_before_there_are_statistics(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch, which: Literal["output", "errors"], outcome: int
) -> None:
    rows = 200
    job = flow.job(tenant, rows, shard_chars=10_000)
    results = [WorkRow(at, payload=b"{}") if outcome == 1 else WorkRow(at, code="empty_input") for at in range(rows)]
    _write(flow, flow.claim(), results, finish=True)
    asked: list[tuple[LiteralString, Mapping[str, object]]] = []
    fetch = bulk.fetch

    def spy(conn: Connection, query: LiteralString, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        asked.append((query, values))
        return fetch(conn, query, values)

    monkeypatch.setattr(bulk, "fetch", spy)
    assert len(list(iter_results(flow.api, tenant, job.job_id, which=which, page=rows))) == rows
    page, values = asked[0]
    with on_record(flow.api, tenant.tenant_id) as conn:
        plan = fetch(conn, "EXPLAIN (ANALYZE, FORMAT JSON) " + page, values)[0][0][0]["Plan"]
    visited = sum(node["Actual Rows"] * node["Actual Loops"] for node in nodes(plan) if node.get("Relation Name", "").startswith("rows"))
    assert rows <= visited <= 2 * rows


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def test_each_page_of_results_is_on_record_before_it_is_opened(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim())
    reading = iter_results(flow.api, tenant, job.job_id, which="output", page=4)
    next(reading)
    recorded = (
        "SELECT first_idx, came_to_idx, row_count, value_count FROM audit_events JOIN audit_digests USING (tenant_id, event_id)"
        " WHERE action = 'results.read'"
    )
    assert flow.execute(tenant, recorded) == [(0, 4, 4, 8)]
    list(reading)
    assert sorted(flow.execute(tenant, recorded)) == [(0, 4, 4, 8), (4, 8, 4, 8), (8, 10, 2, 4)]
    events = list_events(flow.api, tenant, action="results.read")
    assert [(event.first_idx, event.end_idx, event.row_count) for event in events] == [(8, 10, 2), (4, 8, 4), (0, 4, 4)]


def test_no_record_no_results(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    job = flow.job(tenant, 3)
    flow.answer(flow.claim())
    reading = iter_results(flow.api, tenant, job.job_id, which="output")

    def refuse(*_: object, **__: object) -> None:
        raise StoreError(code="store_error", message="no record")

    monkeypatch.setattr(results_module, "record_act", refuse)
    with pytest.raises(StoreError):
        next(reading)


def test_results_deleted_while_they_are_read_do_not_look_complete(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    reading = iter_results(flow.api, tenant, job.job_id, which="output", page=4)
    assert [next(reading).idx for _ in range(4)] == [0, 1, 2, 3]
    delete_outputs(flow.api, tenant, job.job_id, "output")
    with pytest.raises(NotFound):
        next(reading)


def test_results_of_a_missing_job_are_not_found_before_anything_is_read(flow: Flow, tenant: Actor) -> None:
    with pytest.raises(NotFound):
        iter_results(flow.api, tenant, uuid.uuid4(), which="errors")


def test_a_result_moved_to_another_row_does_not_open(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 2)
    flow.answer(flow.claim())
    flow.execute(tenant, "UPDATE results SET payload_sealed = (SELECT payload_sealed FROM results WHERE idx = 1)")
    read = list(iter_results(flow.api, tenant, job.job_id, which="output"))
    assert [(line.payload, line.custom_id, line.damaged) for line in read] == [(None, "id-0", True), (b'{"label":"a"}', "id-1", False)]


def test_a_worker_cannot_write_past_its_shard_even_by_hand(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    lease = flow.claim()
    statement = text("INSERT INTO results (tenant_id, job_id, idx, outcome, epoch) VALUES (:tenant, :job, :idx, 1, 1)")
    with flow.worker.transaction(tenant=tenant.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        conn.execute(statement, {"tenant": tenant.tenant_id, "job": job.job_id, "idx": 9})
    with (
        pytest.raises(Exception, match="row-level security"),
        flow.worker.transaction(tenant=tenant.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn,
    ):
        conn.execute(statement, {"tenant": tenant.tenant_id, "job": job.job_id, "idx": 10})
