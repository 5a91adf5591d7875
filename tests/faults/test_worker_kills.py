"""F01 to F06, F08, F09: kill -9 at known places of a shard's life.

What a kill costs is what the worker had asked of the model and not yet written. Results are written chunk by chunk, and of a shard two
chunks are in flight, so that a lane never waits for a write: that is two chunks' time of the worker's work, and never more than the shards
it held. The chunk's length (TEXTMILL_CHUNK_SECONDS, 2 s by default) buys throughput with it: chunks of one micro-batch would lose no more
than one a lane.

A shard is offered again when its lease is over. The others are at work, so it then waits for its turn: recovery is measured to its first
new row, and has a margin for that.
"""

import time

import pytest

from tests.faults.conftest import Verdict
from tests.faults.house import FAST, House
from tests.faults.struck import (
    BATCH_ROWS,
    DELAY_MS,
    LEASE_SECONDS,
    MARGIN_SECONDS,
    POLL_SECONDS,
    Struck,
    crash_attempts,
    reads,
    redone,
    seconds_to_any_progress,
    seconds_to_progress,
    shards_of,
    stored_rows,
    strike,
)

ONE_SHARD = {"TEXTMILL_THREADS": "1"}  # at a time: when the fault strikes, nothing else is in flight
CHUNK_SECONDS = float(FAST["TEXTMILL_CHUNK_SECONDS"])
LANES = 2
TWO_LANES = {"TEXTMILL_LANES": str(LANES)}
RECOVERY_SECONDS = LEASE_SECONDS + POLL_SECONDS + MARGIN_SECONDS


@pytest.mark.matrix
@pytest.mark.fault("F01", "kill -9 after a message came, before the claim")
def test_a_worker_killed_with_an_unclaimed_message_costs_no_row(house: House, verdict: Verdict) -> None:
    """A message only wakes: with it nothing is lost but a moment. Those who live do all there is, and nobody waits for a lease."""
    by_message_alone = ONE_SHARD | {"TEXTMILL_POLL_SECONDS": "60"}  # else its own look may come first, and it dies with what that claimed
    struck = strike(house, "before-claim", rows=1_200, victim=by_message_alone)
    assert not struck.holds
    rec_s = seconds_to_any_progress(house, struck)
    assert rec_s <= POLL_SECONDS + MARGIN_SECONDS
    house.wait_all_completed(struck.loads)
    counted = verdict(house.count(struck.loads), rec_s=round(rec_s, 2))
    assert counted.recomputed == 0
    assert crash_attempts(house, struck.loads) == 0


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("fault", "extra_reads"),
    [
        pytest.param("after-claim", 0, marks=pytest.mark.fault("F02", "kill -9 after the claim's commit")),
        pytest.param("after-read", 1, marks=pytest.mark.fault("F03", "kill -9 after the read is on record, before a row is opened")),
    ],
)
def test_a_worker_killed_before_the_model_costs_no_row_twice(house: House, verdict: Verdict, fault: str, extra_reads: int) -> None:
    struck = strike(house, fault, at=3, victim=ONE_SHARD)
    (hold,) = struck.holds
    assert hold.done == 0
    rec_s = seconds_to_progress(house, struck)
    assert rec_s <= RECOVERY_SECONDS
    house.wait_all_completed(struck.loads)
    more_reads = reads(house, struck.loads) - len(shards_of(house, struck.loads))
    counted = verdict(house.count(struck.loads), rec_s=round(rec_s, 2), extra_reads=more_reads)
    assert counted.recomputed == 0
    assert crash_attempts(house, struck.loads) == 1
    assert more_reads == extra_reads


@pytest.mark.fault("F04", "kill -9 during the model (a small load)")
def test_a_worker_killed_in_the_model_loses_nothing_and_doubles_nothing(house: House, verdict: Verdict) -> None:
    _killed_at_work(house, verdict, strike(house, "in-model", rows=2_000, at=10, survivors=1, victim=TWO_LANES))


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("fault", "at"),
    [
        pytest.param("in-model", 30, marks=pytest.mark.fault("F04", "kill -9 during the model")),
        pytest.param("before-write", 12, marks=pytest.mark.fault("F05", "kill -9 after the model, before the write")),
        pytest.param("in-write", 12, marks=pytest.mark.fault("F06", "kill -9 between the first INSERT and the COMMIT")),
        pytest.param("in-heartbeat", 2, marks=pytest.mark.fault("F09", "kill -9 within the renewal's transaction")),
    ],
)
def test_a_worker_killed_at_work_costs_what_it_had_not_written(house: House, verdict: Verdict, fault: str, at: int) -> None:
    _killed_at_work(house, verdict, strike(house, fault, at=at, victim=TWO_LANES))


def _killed_at_work(
    house: House, verdict: Verdict, struck: Struck, bound_seconds: float = RECOVERY_SECONDS, chunk_seconds: float = CHUNK_SECONDS
) -> None:
    assert struck.holds
    assert [stored_rows(house, hold) for hold in struck.holds] == [hold.done for hold in struck.holds], "no write is there in part"
    rec_s = seconds_to_progress(house, struck, bound_seconds + 20)
    assert rec_s <= bound_seconds
    house.wait_all_completed(struck.loads)
    again = redone(house, struck.victim.popen.pid, struck.loads)
    work_lost = again * DELAY_MS / 1000 / LANES
    shard_rows = max(hold.end_idx - hold.first_idx for hold in struck.holds)
    facts = {"held_shards": len(struck.holds), "shard_rows": shard_rows, "a_lane": again / LANES, "work_lost_s": round(work_lost, 2)}
    counted = verdict(house.count(struck.loads), rec_s=round(rec_s, 2), **facts)
    assert counted.recomputed == again, "nothing but what the dead worker had in hand is done again"
    assert counted.recomputed <= struck.open_rows
    assert work_lost <= 2 * chunk_seconds
    assert crash_attempts(house, struck.loads) == len(struck.holds)


@pytest.mark.matrix
@pytest.mark.fault("F04", "kill -9 during the model, with the default lease, heartbeat and poll")
def test_a_worker_killed_with_default_times_is_replaced_within_a_lease_and_a_poll(house: House, verdict: Verdict) -> None:
    times = {"TEXTMILL_LEASE_SECONDS": "30", "TEXTMILL_HEARTBEAT_SECONDS": "5", "TEXTMILL_POLL_SECONDS": "5", "TEXTMILL_CHUNK_SECONDS": "2"}
    duties = {"TEXTMILL_SHARD_SECONDS": "8", "TEXTMILL_IDLE_TICK_SECONDS": "1", "TEXTMILL_REAP_SECONDS": "1"}
    struck = strike(house, "in-model", at=60, victim={**times, **TWO_LANES}, others=times, dispatcher=duties)
    _killed_at_work(house, verdict, struck, 35 + MARGIN_SECONDS, 2.0)


@pytest.mark.matrix
@pytest.mark.fault("F04", "kill -9 during the model, with chunks of one micro-batch")
def test_with_small_chunks_a_kill_costs_a_micro_batch_a_lane(house: House, verdict: Verdict) -> None:
    """What the chunk's length buys: the matrix's bound holds where a chunk is no longer than a micro-batch."""
    struck = strike(house, "in-model", at=30, victim={"TEXTMILL_CHUNK_SECONDS": "0.01", **TWO_LANES})
    house.wait_all_completed(struck.loads)
    counted = verdict(house.count(struck.loads), chunk_s=0.01, a_lane=redone(house, struck.victim.popen.pid, struck.loads) / LANES)
    assert counted.recomputed <= BATCH_ROWS * LANES


@pytest.mark.matrix
@pytest.mark.fault("F08", "kill -9 after a shard's last COMMIT, before anything else")
def test_a_worker_killed_after_its_last_write_costs_no_row_twice(house: House, verdict: Verdict) -> None:
    struck = strike(house, "after-write", at=3, victim=ONE_SHARD)
    assert not struck.holds
    rec_s = seconds_to_any_progress(house, struck)
    assert rec_s <= POLL_SECONDS + MARGIN_SECONDS
    house.wait_all_completed(struck.loads)
    counted = verdict(house.count(struck.loads), rec_s=round(rec_s, 2))
    assert counted.recomputed == 0
    assert crash_attempts(house, struck.loads) == 0


@pytest.mark.matrix
@pytest.mark.fault("F08", "kill -9 after a job's last COMMIT: nobody is left to tell of it")
def test_a_job_whose_last_write_was_its_workers_last_act_completes(house: House, verdict: Verdict) -> None:
    struck = strike(house, "after-write", rows=32, at=4, survivors=0, victim=ONE_SHARD)
    house.wait_all_completed(struck.loads)
    counted = verdict(house.count(struck.loads), rec_s=round(time.monotonic() - struck.at, 2))
    assert counted.recomputed == 0
