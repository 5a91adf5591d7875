"""F44: somebody with a hundred rows behind somebody with very many."""

import math
import time

import pytest

from db.jobs import jobs
from db.lifecycle import MIN_SHARD_ROWS
from tests.faults.conftest import Verdict
from tests.faults.counters import Load
from tests.faults.house import House, texts
from workers.settings import DispatcherSettings

SMALL_ROWS = 100
DELAY_MS = 3.0


def behind_many(house: House, verdict: Verdict, many: int, small_jobs: int, **dispatcher: str) -> None:
    """One device, one lane. How long the small job takes more than it took alone, in shards of the large one."""
    house.start_dispatcher(**dispatcher)
    house.start_worker(delay_ms=DELAY_MS, TEXTMILL_LANES="1", TEXTMILL_THREADS="2")
    loads = list[Load]()

    def small_job() -> float:
        """Seconds from the upload to the end."""
        began = time.monotonic()
        small = house.load([f"small {len(loads)}: {one}" for one in texts(SMALL_ROWS)], actor=house.other_actor)
        loads.append(small)
        house.wait_for(lambda: jobs.get_job(house.api, small.actor, small.job_id).state == "completed", "the small job completes", 120)
        return time.monotonic() - began

    small_job()  # its model is loaded
    alone = sorted(small_job() for _ in range(5))[2]
    large = house.load([f"large: {one}" for one in texts(many)], actor=house.actor)
    loads.append(large)
    house.wait_done(large.job_id, 500, large.actor)
    waits = sorted(small_job() - alone for _ in range(small_jobs))
    shards = house.shards(large.job_id, large.actor)
    rows = sorted(shard.end_idx - shard.first_idx for shard in shards)[len(shards) // 2]
    assert rows >= MIN_SHARD_ROWS
    shard_seconds = rows * DELAY_MS / 1000
    assert house.open_rows([large]) > many // 10, "the large one was in the way all the time"
    p95 = waits[math.ceil(len(waits) * 0.95) - 1]
    # Two shards of the device; and how much later a dispatcher's round or a worker's look may fall than it did for the job alone.
    bound = 2 * shard_seconds + 0.25 + 0.5
    facts = {
        "shard_s": round(shard_seconds, 2),
        "alone_s": round(alone, 2),
        "wait_s": round(p95, 2),
        "bound_s": round(bound, 2),
        "in_shards": round(p95 / shard_seconds, 1),
    }
    for process in house.processes:
        process.drain()
    house.start_dispatcher()
    house.start_worker()
    house.wait_all_completed(loads, 240)
    verdict(house.count(loads), **facts)
    assert p95 <= bound, facts


@pytest.mark.fault("F44", "100 rows behind 8,000 of another tenant")
def test_a_small_tenant_waits_for_two_shards_at_most(house: House, verdict: Verdict) -> None:
    behind_many(house, verdict, 8_000, 1)


@pytest.mark.matrix
@pytest.mark.fault("F44", "twenty times 100 rows behind 60,000 of another tenant")
def test_a_small_tenant_waits_for_two_shards_at_most_each_time(house: House, verdict: Verdict) -> None:
    """With shards as large as by default, beside which what a job takes by itself is little."""
    behind_many(house, verdict, 60_000, 20, TEXTMILL_SHARD_SECONDS=str(DispatcherSettings.model_fields["shard_seconds"].default))
