import uuid
from collections import Counter

import pytest
from sqlalchemy import text

from db.actors import Actor
from db.jobs.jobs import cancel_job, get_job
from db.lifecycle import INTERACTIVE_PRIORITY, MIN_SHARD_ROWS, PART_ROWS, PARTS
from db.queue.dispatch import _VALIDATING, _cut, cut_validating_jobs, pick_dispatchable
from db.queue.shards import Kept, claim_any
from db.sweeps import Page
from tests.db.flow import Flow, Stores, plain


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def _owner_of(flow: Flow, actors: list[Actor]) -> dict[uuid.UUID, int]:
    """Whose shard it is, as the tenant's place in ``actors``."""
    return {
        shard_id: at
        for at, actor in enumerate(actors)
        for (shard_id,) in flow.execute(actor, "SELECT shard_id FROM shards")
        if isinstance(shard_id, uuid.UUID)
    }


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


def test_within_a_tenant_priority_goes_before_deadline_before_age(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 10)
    jobs = {
        "later": flow.submit(tenant, file, window_seconds=7200),
        "first": flow.submit(tenant, file),
        "second": flow.submit(tenant, file),
        "urgent": flow.submit(tenant, file, window_seconds=86_400, priority=5),
    }
    flow.execute(
        tenant,
        "UPDATE jobs SET deadline = (SELECT deadline FROM jobs WHERE job_id = :first) WHERE job_id = :second",
        first=jobs["first"].job_id,
        second=jobs["second"].job_id,
    )
    flow.cut()
    names = {job.job_id: name for name, job in jobs.items()}
    order = [names[lease.job_id] for lease in claim_any(flow.worker, "host:1", limit=4)]
    assert order[0] == "urgent"
    assert set(order[1:3]) == {"first", "second"}
    assert order[3] == "later"


def test_tenants_take_turns_whatever_they_have_waiting_and_whatever_priority_they_claim(flow: Flow, tenant: Actor) -> None:
    actors = [tenant, flow.new_tenant(), flow.new_tenant()]
    flow.job(actors[0], 1000, shard_chars=1, priority=99)
    flow.job(actors[1], 1000, shard_chars=1)
    flow.job(actors[2], 10)
    owner = _owner_of(flow, actors)
    first = [owner[shard_id] for shard_id, _ in pick_dispatchable(flow.dispatcher, 9)]
    assert Counter(first) == {0: 4, 1: 4, 2: 1}
    assert first.index(2) < 3
    flow.job(actors[2], 30)
    owner = _owner_of(flow, actors)
    following = [owner[shard_id] for shard_id, _ in pick_dispatchable(flow.dispatcher, 4)]
    assert Counter(following)[2] == 3  # what is out counts: the small tenant catches up first


def test_a_turn_is_a_full_sized_shards_work_not_a_shard(flow: Flow, tenant: Actor) -> None:
    """One tenant's shards cost 1 each, the other's a quarter: four of these to one of those."""
    actors = [tenant, flow.new_tenant()]
    for _ in range(3):
        flow.job(actors[0], 20, shard_chars=200)
    for _ in range(12):
        flow.job(actors[1], 20, shard_chars=800)
    owner = _owner_of(flow, actors)
    order = [owner[shard_id] for shard_id, _ in pick_dispatchable(flow.dispatcher, 15)]
    assert [Counter(order[first : first + 5]) for first in (0, 5, 10)] == [{0: 1, 1: 4}] * 3


def test_a_late_small_tenant_is_served_at_once_beside_a_million_rows(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 4000, shard_chars=1)
    claim_any(flow.worker, "host:1", limit=20)
    pick_dispatchable(flow.dispatcher, 64)
    small = flow.new_tenant()
    job = flow.job(small, 10)
    (offered, *_) = pick_dispatchable(flow.dispatcher, 1)
    assert _owner_of(flow, [tenant, small])[offered[0]] == 1
    assert claim_any(flow.worker, "host:2", limit=1)[0].job_id == job.job_id


def test_a_claim_of_interactive_shards_only_passes_over_bulk_that_came_first(flow: Flow, tenant: Actor) -> None:
    bulk = flow.job(tenant, 100)
    assert claim_any(flow.worker, "host:1", limit=4, only=Kept.INTERACTIVE) == []
    urgent = [flow.job(tenant, 5, priority=INTERACTIVE_PRIORITY), flow.job(flow.new_tenant(), 5, priority=INTERACTIVE_PRIORITY)]
    leases = claim_any(flow.worker, "host:1", limit=4, only=Kept.INTERACTIVE)
    assert {lease.job_id for lease in leases} == {job.job_id for job in urgent}
    assert all(lease.interactive for lease in leases)
    (other,) = claim_any(flow.worker, "host:1", limit=1)
    assert (other.job_id, other.interactive) == (bulk.job_id, False)


def test_a_claim_of_newcomers_only_passes_over_tenants_of_whom_something_is_in_work(flow: Flow, tenant: Actor) -> None:
    large = flow.job(tenant, 40)
    (first,) = claim_any(flow.worker, "host:1", limit=1)
    assert claim_any(flow.worker, "host:1", limit=4, only=Kept.NEWCOMER) == []
    small = flow.job(flow.new_tenant(), 5)
    (newcomer,) = claim_any(flow.worker, "host:1", limit=1, only=Kept.NEWCOMER)
    assert (first.job_id, newcomer.job_id) == (large.job_id, small.job_id)
    assert claim_any(flow.worker, "host:1", limit=4, only=Kept.NEWCOMER) == []
    assert claim_any(flow.worker, "host:1", limit=1) != []


def test_a_worker_that_holds_nothing_has_no_slot_for_newcomers(flow: Flow, tenant: Actor) -> None:
    """Else whoever comes first, with a million rows, would hold that slot."""
    flow.job(tenant, 40)
    assert claim_any(flow.worker, "host:1", limit=1, only=Kept.NEWCOMER) == []
    assert claim_any(flow.worker, "host:1", limit=1) != []


def test_an_interactive_shard_goes_before_its_tenants_bulk_whatever_its_deadline(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 100, priority=99)
    urgent = flow.submit(tenant, flow.upload(tenant, 5), priority=INTERACTIVE_PRIORITY, window_seconds=86_400)
    flow.cut()
    assert claim_any(flow.worker, "host:1", limit=1)[0].job_id == urgent.job_id


def test_polling_workers_take_turns_between_tenants_too(flow: Flow, tenant: Actor) -> None:
    actors = [tenant, flow.new_tenant(), flow.new_tenant()]
    for actor in actors:
        flow.job(actor, 200)
    taken = Counter(flow.claim(f"host:{at}").tenant_id for at in range(12))
    assert sorted(taken.values()) == [4, 4, 4]


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
