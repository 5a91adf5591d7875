"""Whose turn it is: tenants by the cost of their work, a tenant's jobs by priority, and the shortest first, aged."""

import re
import uuid
from collections import Counter
from typing import Any, Final

import pytest
from sqlalchemy import text

from db.actors import Actor
from db.jobs.jobs import JobRecord
from db.jobs.steering import retry_job
from db.lifecycle import INTERACTIVE_PRIORITY, MAX_CRASHES
from db.queue.dispatch import pick_dispatchable
from db.queue.shards import Kept, claim_any
from db.queue.turns import ANY_PRIORITY, CANDIDATES, SUSPECTS
from db.schema import shards
from tests.db.flow import Flow, Stores

TURN: Final = {"depth": 33, "redispatch": 0.0, "idle": True, "least_priority": ANY_PRIORITY, "only_newcomers": False, **SUSPECTS}


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


def test_within_a_tenant_priority_goes_before_the_shortest_job_which_goes_before_age(flow: Flow, tenant: Actor) -> None:
    jobs = {
        "long": flow.job(tenant, 40, shard_chars=1),
        "short": flow.job(tenant, 10, shard_chars=1),
        "short, later": flow.job(tenant, 10, shard_chars=1),
        "urgent": flow.job(tenant, 40, shard_chars=1, priority=5),
    }
    names = {job.job_id: name for name, job in jobs.items()}
    assert _order(flow, names, 12) == ["urgent", "short", "short, later", "long"]


def test_a_long_job_is_passed_by_shorter_ones_for_no_longer_than_it_itself_takes(flow: Flow, tenant: Actor) -> None:
    old = flow.job(tenant, 40, shard_chars=1)  # some forty shards' work
    flow.execute(tenant, "UPDATE jobs SET turn_at = turn_at - interval '1 day' WHERE job_id = :job", job=old.job_id)
    young = flow.job(tenant, 10, shard_chars=1)
    assert _order(flow, {old.job_id: "old", young.job_id: "young"}, 6) == ["old", "young"]


def test_a_job_that_its_deadline_presses_goes_before_shorter_ones(flow: Flow, tenant: Actor) -> None:
    pressed = flow.submit(tenant, flow.upload(tenant, 40), window_seconds=60)
    flow.cut(shard_chars=1)
    short = flow.job(tenant, 10, shard_chars=1)
    assert _order(flow, {pressed.job_id: "pressed", short.job_id: "short"}, 6) == ["pressed", "short"]


def test_a_job_that_is_run_again_takes_its_turn_by_what_is_left_of_it(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 40, shard_chars=1)
    long = _turn_after(flow, tenant, job)
    for lease in claim_any(flow.worker, "host:1", limit=3):
        flow.answer(lease)
    flow.cancel(tenant, job.job_id)
    retry_job(flow.api, tenant, job.job_id)
    assert 0 < _turn_after(flow, tenant, job) < long / 2


@pytest.mark.parametrize(
    "aside",
    ["paused_at = now()", "deadline = now() - interval '1 second'", "state = 'cancelling'"],
)
def test_a_claim_reads_no_shard_of_a_job_that_waits(flow: Flow, tenant: Actor, aside: str) -> None:
    """By the rows that the plan visits: with 333,000 paused shards a claim took half a second."""
    waiting = flow.job(tenant, 2_000, shard_chars=1)
    flow.job(tenant, 20, shard_chars=1)
    flow.execute(tenant, f"UPDATE jobs SET {aside} WHERE job_id = :job", job=waiting.job_id)
    assert 0 < _shards_visited(flow) <= 6


@pytest.mark.parametrize(
    "put_off", ["not_before = now() + interval '1 hour'", f"not_before = now() - interval '1 second', crash_attempts = {MAX_CRASHES}"]
)
def test_a_claim_reads_no_shard_that_is_put_off_or_waits_for_a_worker_of_its_own(flow: Flow, tenant: Actor, put_off: str) -> None:
    """Of a running job: with 333,000 of them a claim took 0.3 s."""
    waiting = flow.job(tenant, 2_000, shard_chars=1)
    flow.job(tenant, 20, shard_chars=1)
    flow.change_shards(f"{put_off} WHERE job_id = :job", job=waiting.job_id)
    assert 0 < _shards_visited(flow, idle=False) <= 6


def test_a_shard_whose_time_has_come_again_goes_before_later_rows_of_its_job(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 40, shard_chars=1)
    flow.change_shards("not_before = now() - interval '1 second', error_attempts = 1 WHERE first_idx = 0")
    assert flow.claim().first_idx == 0


def _order(flow: Flow, names: dict[uuid.UUID, str], limit: int) -> list[str]:
    """The jobs' names, as their shards are claimed; each once."""
    return list(dict.fromkeys(names[lease.job_id] for lease in claim_any(flow.worker, "host:1", limit=limit)))


def _turn_after(flow: Flow, tenant: Actor, job: JobRecord) -> float:
    """Seconds until the job's turn has come by its age alone."""
    ((seconds,),) = flow.execute(
        tenant, "SELECT CAST(extract(epoch FROM turn_at - now()) AS float8) FROM jobs WHERE job_id = :job", job=job.job_id
    )
    assert isinstance(seconds, float)
    return seconds


def _shards_visited(flow: Flow, *, idle: bool = True) -> float:
    with flow.worker.transaction() as conn:
        plan = conn.execute(text("EXPLAIN (ANALYZE, FORMAT JSON) " + CANDIDATES + "SELECT * FROM candidates"), TURN | {"idle": idle})
        return _visited(plan.scalar_one()[0]["Plan"])


def _visited(node: dict[str, Any]) -> float:
    inner = sum(_visited(child) for child in node.get("Plans", ()))
    if node.get("Relation Name") != "shards":
        return inner
    return inner + node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))


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


def test_what_was_offered_counts_until_its_message_is_taken_for_lost(flow: Flow, tenant: Actor) -> None:
    """Else a tenant whose messages were lost would wait for the others to catch up with work that nobody does."""
    actors = [tenant, flow.new_tenant()]
    flow.job(actors[0], 60)
    owner = _owner_of(flow, actors)
    assert len(pick_dispatchable(flow.dispatcher, 3)) == 3
    flow.job(actors[1], 60)
    owner = _owner_of(flow, actors)
    assert [owner[shard_id] for shard_id, _ in pick_dispatchable(flow.dispatcher, 3)] == [1, 1, 1]
    flow.change_shards("dispatched_at = now() - interval '1 hour' WHERE tenant_id = :tenant", tenant=actors[0].tenant_id)
    assert [owner[shard_id] for shard_id, _ in pick_dispatchable(flow.dispatcher, 3)] == [0, 0, 0]


def test_a_shard_that_is_put_off_or_overdue_has_no_turn_and_costs_its_tenant_none(flow: Flow, tenant: Actor) -> None:
    actors = [tenant, flow.new_tenant()]
    for actor in actors:
        flow.job(actor, 40)
    flow.change_shards("not_before = now() + interval '1 hour' WHERE tenant_id = :tenant AND first_idx = 0", tenant=actors[0].tenant_id)
    flow.change_shards("deadline = now() - interval '1 second' WHERE tenant_id = :tenant AND first_idx = 10", tenant=actors[0].tenant_id)
    owner = _owner_of(flow, actors)
    offered = [owner[shard_id] for shard_id, _ in pick_dispatchable(flow.dispatcher, 9)]
    assert Counter(offered[:4]) == {0: 2, 1: 2}
    assert Counter(offered) == {0: 2, 1: 4}


def test_who_is_a_suspect_is_written_out_in_the_index_of_turns_as_it_is_decided() -> None:
    (index,) = (index for index in shards.indexes if index.name == "shards_turn")
    for written in (CANDIDATES, *map(str, index.expressions)):
        assert set(re.findall(r"crash_attempts >= (\d+)", written)) <= {str(MAX_CRASHES)}
    assert f"crash_attempts >= {MAX_CRASHES}" in CANDIDATES
