import pytest
from sqlalchemy import event, text

from db.actors import Actor
from db.errors import LeaseLost
from db.jobs.jobs import get_job
from db.jobs.results import iter_results
from db.jobs.steering import cancel_job
from db.lifecycle import MAX_CRASHES, MAX_CRASHES_IN_COMPANY
from db.queue.endings import cancel_shards, finalize_jobs
from db.queue.recovery import _EXPIRED, _reap, holds_leases, reap_leases
from db.queue.shards import claim_any, open_shard, release
from db.sweeps import Page
from tests.db.flow import Flow, Stores


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def _crash(flow: Flow) -> list[object]:
    flow.end_leases()
    return list(reap_leases(flow.dispatcher))


def test_a_lease_that_ran_out_makes_its_shard_ready_again(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    lease = flow.claim()
    assert reap_leases(flow.dispatcher) == []
    assert _crash(flow) == [lease.shard_id]
    assert reap_leases(flow.dispatcher) == []
    assert flow.shards(job)[0] == (0, 10, "ready", 1, 0, 0, 1, 0)
    assert flow.claim().epoch == 2


def test_a_shard_whose_rows_were_all_written_is_done_though_its_holder_died(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim(), finish=False)
    _crash(flow)
    assert flow.shards(job) == [(0, 10, "done", 1, 10, 0, 0, 0)]


def test_a_row_that_kills_its_worker_is_found_by_halving_and_fails_alone(flow: Flow, tenant: Actor) -> None:
    """The holder answers row by row and dies at row 37 of 64: few deaths, one failure, every other row answered once."""
    job = flow.job(tenant, 64, shard_chars=640)
    deaths = 0
    for worker in range(50):
        claimed = claim_any(flow.worker, f"host:{worker}")
        if not claimed:
            break
        rows = [row.idx for row in open_shard(flow.worker, claimed[0])[1]]
        if 37 in rows:
            deaths += 1
            _crash(flow)
        else:
            flow.answer(claimed[0])
    assert deaths <= MAX_CRASHES + 1 + 6
    finalize_jobs(flow.dispatcher)
    done = get_job(flow.api, tenant, job.job_id)
    assert (done.state, done.completed_count, done.failed_count) == ("completed", 63, 1)
    (failure,) = iter_results(flow.api, tenant, job.job_id, which="errors")
    assert (failure.idx, failure.code, failure.custom_id) == (37, "crashed_worker", "id-37")
    assert sorted(flow.execute(tenant, "SELECT min(first_idx), max(end_idx), sum(end_idx - first_idx) FROM shards")) == [(0, 64, 64)]


def test_several_rows_that_kill_workers_are_all_found_and_nobody_else_is_blamed(flow: Flow, tenant: Actor) -> None:
    poison = {0, 15, 31}
    job = flow.job(tenant, 32, shard_chars=80)
    for worker in range(200):
        claimed = claim_any(flow.worker, f"host:{worker}", limit=4)
        if not claimed:
            break
        held = {lease.shard_id: [row.idx for row in open_shard(flow.worker, lease)[1]] for lease in claimed}
        if any(poison & set(rows) for rows in held.values()):
            _crash(flow)  # the process takes all its shards along
        else:
            for lease in claimed:
                flow.answer(lease, held[lease.shard_id])
    finalize_jobs(flow.dispatcher)
    done = get_job(flow.api, tenant, job.job_id)
    assert (done.state, done.completed_count, done.failed_count) == ("completed", 29, 3)
    assert {line.idx for line in iter_results(flow.api, tenant, job.job_id, which="errors")} == poison


@pytest.mark.parametrize("alone", [True, False])
def test_a_training_is_never_halved_however_often_its_workers_die(flow: Flow, tenant: Actor, *, alone: bool) -> None:
    """Each half would make the same head, the second on half of the examples, and the job would be completed."""
    job = flow.job(tenant, 64, shard_chars=None, task="train")
    for death in range(MAX_CRASHES_IN_COMPANY + 2):
        if not claim_any(flow.worker, f"host:{death}"):
            break
        with flow.worker.transaction() as conn:
            conn.execute(text("UPDATE shards SET in_company = :company WHERE state = 'leased'"), {"company": not alone})
        _crash(flow)
        assert [shard[:2] for shard in flow.shards(job)] == [(0, 64)]
    assert flow.shards(job) == [(0, 64, "done", death, 0, 64, death, 0)]
    assert death == (MAX_CRASHES if alone else MAX_CRASHES_IN_COMPANY) + 1
    finalize_jobs(flow.dispatcher)
    assert get_job(flow.api, tenant, job.job_id).state == "failed"
    assert {line.code for line in iter_results(flow.api, tenant, job.job_id, which="errors")} == {"crashed_worker"}


def test_only_open_rows_are_halved(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 64, shard_chars=640)
    flow.answer(flow.claim(), range(60), finish=False)
    flow.change_shards("crash_attempts = :crashes", crashes=MAX_CRASHES)
    _crash(flow)
    assert [shard[:7] for shard in flow.shards(job)] == [(0, 62, "ready", 1, 60, 0, MAX_CRASHES), (62, 64, "ready", 0, 0, 0, MAX_CRASHES)]
    for _ in range(2):
        lease = flow.claim()
        flow.answer(lease, [row.idx for row in open_shard(flow.worker, lease)[1]])
    assert [shard[2] for shard in flow.shards(job)] == ["done", "done"]


def test_both_halves_of_a_shard_cost_half_of_it(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 64, shard_chars=640)
    flow.claim()
    ((whole,),) = flow.execute(tenant, "SELECT cost FROM shards")
    flow.change_shards("crash_attempts = :crashes", crashes=MAX_CRASHES)
    _crash(flow)
    assert flow.execute(tenant, "SELECT cost FROM shards") == [(whole / 2,), (whole / 2,)]


def test_a_single_row_that_was_not_alone_in_its_worker_is_tried_again(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 11)
    first, second = sorted(claim_any(flow.worker, "host:1", limit=2), key=lambda lease: lease.first_idx)
    assert (first.end_idx, second.first_idx, second.end_idx) == (10, 10, 11)
    flow.change_shards("crash_attempts = :crashes WHERE first_idx = 10", crashes=MAX_CRASHES)
    _crash(flow)
    assert flow.shards(job)[1][2:] == ("ready", 1, 0, 0, MAX_CRASHES + 1, 0)
    (alone,) = [lease for lease in (flow.claim("host:2"), flow.claim("host:3")) if lease.first_idx == 10]
    assert alone.end_idx == 11
    _crash(flow)
    assert flow.shards(job)[1][2:6] == ("done", 2, 0, 1)


def test_a_dead_holder_of_a_cancelled_job_leaves_a_cancelled_shard(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim(), [0], finish=False)
    cancel_job(flow.api, tenant, job.job_id)
    cancel_shards(flow.dispatcher)
    _crash(flow)
    assert flow.shards(job)[0][2] == "cancelled"
    finalize_jobs(flow.dispatcher)
    assert get_job(flow.api, tenant, job.job_id).state == "cancelled"


def test_a_reconciler_that_looked_too_early_changes_nothing(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.claim()
    flow.end_leases()
    (stale,) = Page.look(flow.dispatcher, _EXPIRED, None, limit=1).items
    flow.change_shards("lease_expires_at = now() + interval '1 minute'")  # a heartbeat came through in between
    assert not _reap(flow.dispatcher, stale)
    flow.end_leases()
    assert reap_leases(flow.dispatcher) == [stale.shard_id]
    living = flow.claim()
    assert not _reap(flow.dispatcher, stale)
    flow.end_leases()  # of the next holder: whether that one was alone is another question, to be asked anew
    assert not _reap(flow.dispatcher, stale)
    flow.change_shards("lease_expires_at = now() + interval '1 minute'")
    flow.answer(living)
    assert flow.shards(job) == [(0, 10, "done", 2, 10, 0, 1, 0)]


def test_a_reconciler_steps_around_a_shard_that_is_being_written(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    lease = flow.claim()
    flow.end_leases()
    with flow.dispatcher.transaction() as holder:  # as a heartbeat would that came in time and is on its way
        holder.execute(
            text("UPDATE shards SET lease_expires_at = now() + interval '1 minute' WHERE shard_id = :shard"), {"shard": lease.shard_id}
        )
        assert reap_leases(flow.dispatcher) == []
    assert flow.shards(job) == [(0, 10, "leased", 1, 0, 0, 0, 0)]


def test_a_reconciler_holds_what_it_frees(flow: Flow, tenant: Actor) -> None:
    """From its second look on: a heartbeat that came in between would be told that all is well, and then lose the shard."""
    flow.job(tenant, 10)
    flow.claim()
    flow.end_leases()
    unlocked: list[int] = []

    def look(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if "generate_series" in statement:  # between the look and the change
            unlocked.append(flow.unlocked_shards())

    event.listen(flow.dispatcher.engine, "before_cursor_execute", look)
    assert len(reap_leases(flow.dispatcher)) == 1
    assert unlocked == [0]


def test_what_is_reaped_is_on_record(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    lease = flow.claim()
    _crash(flow)
    release(flow.worker, flow.claim(), code=None, kind="drain")
    recorded = flow.execute(
        tenant,
        "SELECT component, action, object_id, first_idx, end_idx FROM audit_events WHERE job_id = :job AND action LIKE 'shard.%'",
        job=job.job_id,
    )
    assert recorded == [("dispatcher", "shard.reap", lease.shard_id, 0, 10)]


# Of the dead: processes that are known to have ended


def test_what_a_dead_worker_held_is_freed_before_its_lease_ends_and_nothing_else(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    dead, living = flow.claim("host:1"), flow.claim("host:2")
    assert holds_leases(flow.dispatcher, "host:1")
    assert reap_leases(flow.dispatcher, dead="host:1") == [dead.shard_id]
    assert not holds_leases(flow.dispatcher, "host:1")
    states = {shard[0]: (shard[2], shard[6]) for shard in flow.shards(job)}
    assert (states[dead.first_idx], states[living.first_idx]) == (("ready", 1), ("leased", 0))
    assert reap_leases(flow.dispatcher, dead="host:1") == []


def test_who_was_wrongly_called_dead_stores_nothing(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    lease = flow.claim("host:1")
    reap_leases(flow.dispatcher, dead="host:1")
    with pytest.raises(LeaseLost):
        flow.answer(lease)
    flow.answer(flow.claim("host:2"))
    assert flow.shards(job) == [(0, 10, "done", 2, 10, 0, 1, 0)]


def test_a_suspect_claimed_in_company_is_not_blamed_whenever_the_others_were_freed(flow: Flow, tenant: Actor) -> None:
    """A lease that was claimed after the last heartbeat of the others ends after theirs."""
    job, bulk = flow.job(tenant, 1), flow.job(tenant, 10)
    suspect = "not_before = now() - interval '1 hour', crash_attempts = :crashes WHERE job_id = :job"
    flow.change_shards("not_before = now() + interval '1 hour' WHERE job_id = :job", job=job.job_id)
    assert flow.claim("host:1").job_id == bulk.job_id
    flow.change_shards(suspect, crashes=MAX_CRASHES, job=job.job_id)
    assert flow.claim("host:1").job_id == job.job_id
    for lost in (bulk, job):
        flow.change_shards("lease_expires_at = now() - interval '1 s' WHERE job_id = :job", job=lost.job_id)
        assert len(reap_leases(flow.dispatcher)) == 1
    assert flow.shards(job)[0][2:7] == ("ready", 1, 0, 0, MAX_CRASHES + 1)
    flow.change_shards("not_before = now() + interval '1 hour' WHERE job_id = :job", job=bulk.job_id)
    assert flow.claim("host:2").job_id == job.job_id, "alone this time"
    _crash(flow)
    assert flow.shards(job)[0][2:6] == ("done", 2, 0, 1)


def test_each_half_counts_its_own_rows(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20, shard_chars=200)
    lease = flow.claim()
    flow.answer(lease, range(16, 20), finish=False, fail=True)
    flow.answer(lease, [0, 15], finish=False)
    flow.change_shards("crash_attempts = :crashes", crashes=MAX_CRASHES)
    _crash(flow)
    assert [(shard[:2], shard[4:6]) for shard in flow.shards(job)] == [((0, 8), (1, 0)), ((8, 20), (1, 4))]


def test_what_is_left_of_a_suspect_keeps_its_time_of_waiting_for_a_worker_of_its_own(flow: Flow, tenant: Actor) -> None:
    """Without it, only a worker that holds nothing may ever take it, and behind a long queue there is none."""
    flow.job(tenant, 10)
    for give_back in (
        lambda lease: release(flow.worker, lease, code=None, kind="drain"),
        lambda lease: flow.answer(lease, [lease.first_idx], finish=True),
    ):
        flow.change_shards("crash_attempts = :crashes, not_before = now() - interval '1 hour'", crashes=MAX_CRASHES)
        give_back(flow.claim("host:1"))
        assert flow.execute(tenant, "SELECT state, not_before < now() - interval '59 minutes' FROM shards") == [("ready", True)]
