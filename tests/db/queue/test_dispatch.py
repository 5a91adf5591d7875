import pytest
from sqlalchemy import text

from db.actors import Actor
from db.jobs.jobs import get_job
from db.jobs.steering import cancel_job
from db.lifecycle import MIN_SHARD_ROWS, PART_ROWS, PARTS
from db.queue.dispatch import _VALIDATING, _cut, cut_validating_jobs, pick_dispatchable
from db.queue.shards import claim_any
from db.sweeps import Page
from tests.db.flow import Flow, Stores, plain


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_a_job_is_cut_into_ranges_that_cover_every_row_once(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 25)
    assert [shard[:3] for shard in flow.shards(job)] == [(0, 10, "ready"), (10, 20, "ready"), (20, 25, "ready")]
    assert job.in_progress_at is not None
    assert flow.cut() == 0


def test_shards_are_sized_by_characters_within_bounds(flow: Flow, tenant: Actor) -> None:
    assert flow.shards(flow.job(tenant, 20, shard_chars=1))[0][:2] == (0, MIN_SHARD_ROWS)
    assert len(flow.shards(flow.job(tenant, PARTS * PART_ROWS, shard_chars=10**9))) == PARTS
    empty_rows = flow.job(tenant, [plain(at, size=0) for at in range(9)], shard_chars=9)
    assert [shard[:2] for shard in flow.shards(empty_rows)] == [(0, 9)]


def test_the_size_is_asked_by_model_and_task(flow: Flow, tenant: Actor) -> None:
    asked: list[tuple[str | None, str]] = []

    def shard_chars(model: str | None, task: str) -> int:
        asked.append((model, task))
        return 100

    flow.submit(tenant, flow.upload(tenant, 9), task="embed")
    assert cut_validating_jobs(flow.dispatcher, shard_chars) == 1
    assert asked == [("fake-encoder", "embed")]


def test_what_takes_all_rows_at_once_is_one_shard(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 50, shard_chars=None, task="train")
    assert [shard[:2] for shard in flow.shards(job)] == [(0, 50)]
    assert job.head_id is not None


def test_a_job_whose_every_row_is_defective_fails_and_lists_a_hundred_of_them(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, [plain(at, defect="invalid_json", line=at + 5) for at in range(120)])
    assert (job.state, job.completed_count, job.shards) == ("failed", 0, {})
    assert job.failed_at is not None
    assert job.in_progress_at is None
    assert job.errors is not None
    assert len(job.errors) == 100
    assert job.errors[0] == {"code": "invalid_json", "line": 5}
    assert flow.shards(job) == []


def test_one_good_row_is_enough_to_run(flow: Flow, tenant: Actor) -> None:
    assert flow.job(tenant, [plain(0, defect="invalid_json"), plain(1)]).state == "in_progress"


def test_a_shard_is_offered_once_until_its_message_is_taken_for_lost(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 30)
    offered = pick_dispatchable(flow.dispatcher, 2)
    assert len(offered) == 2
    assert len(pick_dispatchable(flow.dispatcher, 9)) == 1
    assert pick_dispatchable(flow.dispatcher, 9) == []
    flow.change_shards("dispatched_at = now() - interval '61 seconds' WHERE shard_id = :shard", shard=offered[0][0])
    assert pick_dispatchable(flow.dispatcher, 9) == [offered[0]]
    assert pick_dispatchable(flow.dispatcher, 9, redispatch_seconds=3600) == []


def test_a_claimed_or_given_back_shard_is_offered_with_its_new_epoch(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 10)
    ((shard_id, epoch),) = pick_dispatchable(flow.dispatcher, 9)
    lease = flow.claim()
    assert pick_dispatchable(flow.dispatcher, 9, redispatch_seconds=0) == []
    flow.answer(lease, range(3))
    assert pick_dispatchable(flow.dispatcher, 9) == [(shard_id, epoch + 1)]


def test_shards_of_a_cancelled_job_are_not_offered(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 10)
    other = flow.job(tenant, 10)
    cancel_job(flow.api, tenant, job.job_id)
    assert len(pick_dispatchable(flow.dispatcher, 9)) == 1
    assert [lease.job_id for lease in claim_any(flow.worker, "host:1", limit=2)] == [other.job_id]


def test_dispatchers_at_once_offer_no_shard_twice(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 100)
    with flow.dispatcher.transaction() as other:
        other.execute(text("SELECT FROM shards WHERE first_idx < 50 FOR UPDATE"))
        offered = pick_dispatchable(flow.dispatcher, 20)
    assert len(offered) == 5
    assert len(pick_dispatchable(flow.dispatcher, 20)) == 5


def test_a_job_is_cut_once_by_dispatchers_at_once(flow: Flow, tenant: Actor) -> None:
    job = flow.submit(tenant, flow.upload(tenant, 25))
    (seen,) = Page.look(flow.dispatcher, _VALIDATING, None, limit=10).items
    assert _cut(flow.dispatcher, seen, lambda _model, _task: 100)
    assert not _cut(flow.dispatcher, seen, lambda _model, _task: 100)
    assert len(flow.shards(job)) == 3
    assert get_job(flow.api, tenant, job.job_id).state == "in_progress"
