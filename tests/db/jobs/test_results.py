"""Results as they are read back while shards end in any order, jobs are cancelled, expire and run again: every row once."""

import random
from itertools import islice
from typing import Any, Literal
from uuid import UUID

import pytest

from db.actors import Actor, Lease
from db.errors import Conflict
from db.jobs import results
from db.jobs.jobs import JobRecord, delete_outputs, get_job
from db.jobs.results import Place, ResultLine, iter_results
from db.jobs.steering import cancel_job, pause_job, resume_job, retry_job
from db.queue.endings import cancel_shards, expire_jobs, finalize_jobs
from db.queue.recovery import reap_leases
from db.queue.results import write_results
from db.queue.row import WorkRow
from db.queue.shards import claim_any, open_shard
from tests.db.flow import Flow, Stores, answers

ROWS = 60
FAILED = set(range(0, ROWS, 7))


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


class Reader:
    """Asks again and again, behind the last line that it has, as a client does with ``?after=``."""

    def __init__(self, flow: Flow, actor: Actor, job_id: UUID, which: Literal["output", "errors"]) -> None:
        self.got: list[ResultLine] = []
        self._flow = flow
        self._actor = actor
        self._job_id = job_id
        self._which = which

    @property
    def idxs(self) -> list[int]:
        return [line.idx for line in self.got]

    def poll(self) -> None:
        after = Place(self.got[-1].idx, self.got[-1].run) if self.got else None
        self.got += iter_results(self._flow.api, self._actor, self._job_id, which=self._which, after=after, page=7)


def read(flow: Flow, actor: Actor, job: JobRecord, which: Literal["output", "errors"], after: Place | None = None) -> list[int]:
    return [line.idx for line in iter_results(flow.api, actor, job.job_id, which=which, after=after)]


def write(flow: Flow, lease: Lease, idxs: list[int] | range, *, finish: bool = True) -> None:
    """Answers, and failures of every seventh row."""
    rows = [WorkRow(idx, code="empty_input") if idx in FAILED else answers([idx])[0] for idx in idxs]
    write_results(flow.worker, lease, rows, finish=finish, model_version="m", metrics=None)


def test_a_running_job_is_read_as_far_as_its_first_open_row(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    assert read(flow, tenant, job, "output") == []
    assert get_job(flow.api, tenant, job.job_id).rows_in_order == 0
    first, second = claim_any(flow.worker, "host:1", limit=2)
    flow.answer(second)
    assert read(flow, tenant, job, "output") == [], "rows 0 to 9 are open"
    flow.answer(first, [0, 1, 2, 4, 5], finish=False)
    assert read(flow, tenant, job, "output") == [0, 1, 2]
    flow.answer(first, [3], finish=False)
    assert read(flow, tenant, job, "output") == [0, 1, 2, 3, 4, 5]
    assert get_job(flow.api, tenant, job.job_id).rows_in_order == 6
    flow.answer(first, range(6, 10))
    for page in (1, 3, 10, 512):
        lines = iter_results(flow.api, tenant, job.job_id, which="output", page=page)
        assert [line.idx for line in lines] == list(range(20))
    assert read(flow, tenant, job, "output", Place(15)) == [16, 17, 18, 19]
    assert read(flow, tenant, job, "errors") == []
    flow.answer(flow.claim())
    assert get_job(flow.api, tenant, job.job_id).rows_in_order == 30
    finalize_jobs(flow.dispatcher)
    assert get_job(flow.api, tenant, job.job_id).rows_in_order is None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("end", ["completed", "cancelled", "expired"])
def test_a_reader_that_polls_until_the_end_sees_every_row_once(flow: Flow, tenant: Actor, seed: int, end: str) -> None:
    """Shards end in any order, in parts, and some holders die; the job is paused and goes on; it ends by itself, a cancel or a deadline."""
    dice = random.Random(seed)
    job = flow.job(tenant, ROWS)
    readers = [Reader(flow, tenant, job.job_id, which) for which in ("output", "errors")]
    rounds = 0
    while leases := claim_any(flow.worker, "host:1", limit=6):
        rounds += 1
        dice.shuffle(leases)
        for lease in leases:
            open_idx = [row.idx for row in open_shard(flow.worker, lease)[1]]
            dice.shuffle(open_idx)
            part = open_idx if dice.random() < 0.4 else open_idx[: dice.randrange(len(open_idx))]
            if part:
                write(flow, lease, part, finish=len(part) == len(open_idx))
            dice.choice(readers).poll()
        flow.end_leases()
        reap_leases(flow.dispatcher)
        flow.change_shards("crash_attempts = 0, not_before = NULL WHERE state = 'ready'")
        pause_job(flow.api, tenant, job.job_id)
        assert claim_any(flow.worker, "host:1") == []
        resume_job(flow.api, tenant, job.job_id)
        if end != "completed" and rounds == 2:
            break
    if end == "cancelled":
        cancel_job(flow.api, tenant, job.job_id)
        cancel_shards(flow.dispatcher)
        readers[0].poll()
        readers[1].poll()
    if end == "expired":
        flow.execute(tenant, "UPDATE jobs SET deadline = now() - interval '1 second'")
        expire_jobs(flow.dispatcher)
    finalize_jobs(flow.dispatcher)
    ended = get_job(flow.api, tenant, job.job_id)
    assert ended.state == end
    for reader in readers:
        reader.poll()
    output, errors = readers
    assert output.idxs == read(flow, tenant, job, "output")
    assert errors.idxs == read(flow, tenant, job, "errors")
    assert sorted(output.idxs + errors.idxs) == list(range(ROWS)), "every row once, in one of the two"
    assert len(output.idxs) == ended.completed_count


def test_a_reading_ends_where_it_was_to_end_when_it_began(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    flow.answer(flow.claim())
    reading = iter_results(flow.api, tenant, job.job_id, which="output", page=4)
    assert next(reading).idx == 0
    for lease in claim_any(flow.worker, "host:1", limit=2):
        flow.answer(lease)
    assert [line.idx for line in reading] == list(range(1, 10))


def test_a_job_that_is_cancelled_while_its_errors_are_read_does_not_change_them(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    flow.answer(flow.claim(), fail=True)
    reading = iter_results(flow.api, tenant, job.job_id, which="errors", page=4)
    got = [next(reading).idx]
    flow.cancel(tenant, job.job_id)
    got += [line.idx for line in reading]
    assert got == list(range(10))
    assert read(flow, tenant, job, "errors", Place(9)) == list(range(10, 30)), "the rows that never ran come with the next reading"


def test_who_reads_on_after_rows_have_run_again_is_told(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    for lease in claim_any(flow.worker, "host:1", limit=2):
        write(flow, lease, range(lease.first_idx, lease.end_idx))
    finalize_jobs(flow.dispatcher)
    assert read(flow, tenant, job, "errors") == [0, 7, 14]
    retry_job(flow.api, tenant, job.job_id)
    for which in ("output", "errors"):
        with pytest.raises(Conflict) as changed:
            read(flow, tenant, job, which, Place(1))  # type: ignore[arg-type]
        assert changed.value.code == "results_changed"
    assert read(flow, tenant, job, "output") == [], "row 0 is open again"
    for lease in claim_any(flow.worker, "host:1", limit=2):
        flow.answer(lease, [row.idx for row in open_shard(flow.worker, lease)[1]])
    finalize_jobs(flow.dispatcher)
    lines = list(iter_results(flow.api, tenant, job.job_id, which="output"))
    assert [(line.idx, line.run) for line in lines] == [(idx, 1) for idx in range(20)]
    assert read(flow, tenant, job, "output", Place(11, 1)) == list(range(12, 20))


def test_a_reader_goes_on_through_a_retry_that_begins_behind_all_it_has(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    reader = Reader(flow, tenant, job.job_id, "output")
    flow.answer(flow.claim())
    reader.poll()
    flow.cancel(tenant, job.job_id)
    reader.poll()
    retry_job(flow.api, tenant, job.job_id)
    reader.poll()
    for lease in claim_any(flow.worker, "host:1", limit=2):
        flow.answer(lease)
        reader.poll()
    finalize_jobs(flow.dispatcher)
    reader.poll()
    assert reader.idxs == list(range(30))
    assert {line.run for line in reader.got[:10]} == {0}
    assert {line.run for line in reader.got[10:]} == {1}


def test_a_reading_that_a_retry_meets_does_not_look_complete(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim(), fail=True)
    finalize_jobs(flow.dispatcher)
    reading = iter_results(flow.api, tenant, job.job_id, which="errors", page=4)
    assert next(reading).idx == 0
    retry_job(flow.api, tenant, job.job_id)
    with pytest.raises(Conflict):
        list(reading)


@pytest.mark.parametrize("which", ["output", "errors"])
def test_results_deleted_while_a_page_of_them_is_read_are_whole_and_not_on_record_as_damaged(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch, which: Literal["output", "errors"]
) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim(), range(10), fail=which == "errors")
    finalize_jobs(flow.dispatcher)
    finalize_jobs(flow.dispatcher)
    reading = iter_results(flow.api, tenant, job.job_id, which=which)
    find = results._find

    def deleted_after(*arguments: Any) -> Any:
        found = find(*arguments)
        delete_outputs(flow.api, tenant, job.job_id, which)
        return found

    monkeypatch.setattr(results, "_find", deleted_after)
    assert [(line.idx, line.damaged) for line in islice(reading, 10)] == [(idx, False) for idx in range(10)]
    assert flow.execute(tenant, "SELECT FROM audit_events WHERE action = 'value.damaged'") == []


def test_failures_deleted_while_a_page_of_them_is_read_do_not_come_out_as_rows_that_never_ran(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim(), range(5), finish=False, fail=True)
    cancel_job(flow.api, tenant, job.job_id)
    flow.end_leases()
    reap_leases(flow.dispatcher)
    cancel_shards(flow.dispatcher)
    finalize_jobs(flow.dispatcher)
    finalize_jobs(flow.dispatcher)
    reading = iter_results(flow.api, tenant, job.job_id, which="errors")
    find = results._find

    def deleted_after(*arguments: Any) -> Any:
        found = find(*arguments)
        delete_outputs(flow.api, tenant, job.job_id, "errors")
        return found

    monkeypatch.setattr(results, "_find", deleted_after)
    assert [line.code for line in islice(reading, 10)] == ["engine_error"] * 5 + ["batch_cancelled"] * 5


def test_rows_behind_a_shard_that_ended_full_under_another_name_are_read(flow: Flow, tenant: Actor) -> None:
    """A cancelled shard may hold all its rows: it is no gap."""
    job = flow.job(tenant, 20)
    first, second = claim_any(flow.worker, "host:1", limit=2)
    flow.answer(first, finish=False)
    flow.change_shards("state = 'cancelled' WHERE shard_id = :shard", shard=first.shard_id)
    flow.answer(second, range(10, 13), finish=False)
    assert get_job(flow.api, tenant, job.job_id).rows_in_order == 13
