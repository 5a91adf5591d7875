"""F25, F36: a network that parts a worker from Postgres, from the broker, or lets bytes through one way only."""

import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.faults.brokers import consumers
from tests.faults.conftest import Verdict
from tests.faults.house import FAST, LONG_LEASE, House, Process, texts
from tests.faults.proxy import Proxy
from tests.faults.recovery import seconds_to_progress
from workers.engines.fake import read_calls

LEASE_SECONDS = float(FAST["TEXTMILL_LEASE_SECONDS"])
MARGIN_SECONDS = LEASE_SECONDS / 4
ONE_BATCH_SECONDS = 0.3  # the batch that is prepared ahead has been asked for already; here it takes 0.1 s, and the machine is busy

# Chunks of 2 s and micro-batches of 0.1 s: a worker that did not fence itself would have plenty to go on with.
LONG_CHUNKS = {"TEXTMILL_CHUNK_SECONDS": "2", "TEXTMILL_LANES": "1", "TEXTMILL_BUDGET_TOKENS": "1024"}

PARTITIONS: dict[str, Callable[[Proxy], None]] = {
    "cut": Proxy.cut,
    "silent": Proxy.hold,
    "deaf": lambda proxy: proxy.hold("up"),
    "mute": lambda proxy: proxy.hold("down"),
}


def calls_of(house: House, worker: Process) -> list[float]:
    return [call.at for call in read_calls(house.calls) if call.pid == worker.popen.pid]


@pytest.mark.matrix
@pytest.mark.fault("F36", "workers parted from Postgres: cut, silent, one way")
def test_a_worker_without_postgres_stops_calling_the_model_before_its_lease_ends(house: House, verdict: Verdict) -> None:
    loads = house.load_all(8_000)
    house.start_dispatcher(TEXTMILL_SHARD_SECONDS="2")
    with ExitStack() as stack:
        proxies = {kind: stack.enter_context(Proxy.of_postgres(str(house.settings.database_url))) for kind in PARTITIONS}
        parted = {
            kind: house.start_worker(delay_ms=5, TEXTMILL_DATABASE_URL=proxy.url, **LONG_CHUNKS)  # type: ignore[arg-type]
            for kind, proxy in proxies.items()
        }
        house.wait_for(lambda: all(calls_of(house, worker) for worker in parted.values()), "all are at work")
        parted_at = {}
        for kind, part in PARTITIONS.items():
            parted_at[kind] = time.time()
            part(proxies[kind])
        other = house.start_worker()
        house.wait_all_completed(loads)
        last_calls = {kind: max(calls_of(house, worker)) - parted_at[kind] for kind, worker in parted.items()}
        assert min(last_calls.values()) > 0, "they were in the midst of their work"
        fence_seconds = LEASE_SECONDS - MARGIN_SECONDS
        assert max(last_calls.values()) <= fence_seconds + ONE_BATCH_SECONDS, last_calls
        for proxy in proxies.values():
            proxy.heal()
        assert other.drain() == 0
        before = {kind: len(calls_of(house, worker)) for kind, worker in parted.items()}

        def all_work_again() -> bool:
            if house.open_rows(loads[-1:]) == 0:
                loads.append(house.load([f"after it healed, {len(loads)}: {one}" for one in texts(300)]))
            return all(len(calls_of(house, worker)) > before[kind] for kind, worker in parted.items())

        house.wait_for(all_work_again, "each of them works again")
        house.wait_all_completed(loads)
        assert all(worker.alive for worker in parted.values())
        counted = house.count(loads)
    last = ", ".join(f"{kind} {seconds:.2f}" for kind, seconds in last_calls.items())
    verdict(counted, fenced=house.fenced(), last_call_s=f"{last} (fence at {fence_seconds})")


@pytest.mark.matrix
@pytest.mark.fault("F36", "a worker cut off from the broker")
def test_a_worker_without_its_broker_finds_its_work_in_postgres(house: House, verdict: Verdict) -> None:
    loads = house.load_all(2_000)
    with Proxy.of_broker(house.broker_url) as proxy:
        house.start_dispatcher()
        worker = house.start_worker(delay_ms=2, TEXTMILL_REDIS_URL=proxy.url, **LONG_LEASE)
        house.wait_done(loads[0].job_id, 1, loads[0].actor)
        proxy.cut()
        rec_s = seconds_to_progress(house, loads)
        house.wait_all_completed(loads)
        proxy.heal()
        house.wait_for(lambda: consumers(house.broker_url) == 1, "it takes messages again")
        assert worker.alive
    counted = verdict(house.count(loads), fenced=house.fenced(), rec_s=rec_s)
    assert counted.recomputed == 0


@pytest.mark.matrix
@pytest.mark.fault("F25", "half-open connection to the broker")
def test_a_half_open_connection_to_the_broker_is_noticed(house: House, verdict: Verdict) -> None:
    loads = house.load_all(2_000)
    with Proxy.of_broker(house.broker_url) as proxy:
        house.start_dispatcher()
        worker = house.start_worker(delay_ms=2, TEXTMILL_REDIS_URL=proxy.url, **LONG_LEASE)
        house.wait_done(loads[0].job_id, 1, loads[0].actor)
        proxy.hold()
        made, began = proxy.accepted, time.monotonic()
        rec_s = seconds_to_progress(house, loads)
        house.wait_for(lambda: proxy.accepted > made, "it gives the connection up and makes another", 45)
        noticed_s = round(time.monotonic() - began, 1)
        house.wait_all_completed(loads)
        proxy.heal()
        house.wait_for(lambda: consumers(house.broker_url) == 1, "it takes messages again")
        assert worker.alive
    counted = verdict(house.count(loads), fenced=house.fenced(), rec_s=rec_s, noticed_s=noticed_s)
    assert counted.recomputed == 0
    assert noticed_s <= 32, "kombu drops a connection that has owed it an answer for 1 + 15 s, or twice 15 s at worst"
