"""F04, F11, F12: what happens to a shard when its worker is killed, frozen, or told to end."""

import signal

from db.results import iter_results
from tests.conftest import Server
from tests.faults.house import House, texts
from workers.engines.fake import MARKS
from workers.watchdog import EX_HANG

ROWS = 2_000


def test_a_worker_killed_at_half_loses_nothing_and_doubles_nothing(house: House) -> None:
    documents = texts(ROWS)
    job_id = house.submit(documents)
    house.start_dispatcher()
    first = house.start_worker(delay_ms=2)
    house.wait_done(job_id, ROWS // 2)
    first.kill()
    assert house.done_count(job_id) < ROWS
    house.start_worker()
    house.wait_completed(job_id)
    house.check_results(job_id, documents)
    house.check_audit(job_id, ROWS)
    assert any(shard.crash_attempts > 0 for shard in house.shards(job_id))


def test_a_zombie_cannot_store_results(house: House) -> None:
    documents = texts(300)
    job_id = house.submit(documents)
    house.start_dispatcher()
    zombie = house.start_worker(delay_ms=20)
    house.wait_for(lambda: any(shard.state == "leased" for shard in house.shards(job_id)), "a shard is claimed")
    zombie.send(signal.SIGSTOP)
    epochs = {shard.shard_id: shard.epoch for shard in house.shards(job_id) if shard.state == "leased"}
    house.start_worker()
    house.wait_completed(job_id)
    house.check_results(job_id, documents)
    zombie.send(signal.SIGCONT)
    house.wait_for(lambda: "is lost" in zombie.log, "the zombie notices")
    assert zombie.drain() == 0
    house.check_results(job_id, documents)
    assert all(shard.epoch > epochs[shard.shard_id] for shard in house.shards(job_id) if shard.shard_id in epochs)


def test_a_drain_ends_with_zero_gives_its_shards_back_and_burns_no_attempt(house: House) -> None:
    documents = texts(1_000)
    job_id = house.submit(documents)
    house.start_dispatcher()
    first = house.start_worker(delay_ms=4)
    house.wait_done(job_id, 1)
    assert first.drain() == 0
    shards = house.shards(job_id)
    assert not [shard for shard in shards if shard.state == "leased"]
    assert {(shard.crash_attempts, shard.error_attempts) for shard in shards} == {(0, 0)}
    done = house.done_count(job_id)
    assert done < len(documents)
    second = house.start_worker(port=house.free_port())
    house.wait_completed(job_id)
    house.check_results(job_id, documents)
    assert second.metric("textmill_rows_total") == len(documents) - done, "what was done before the drain is not done again"


def test_a_drain_before_any_work_ends_at_once(house: House) -> None:
    worker = house.start_worker()
    house.wait_for(lambda: "device:" in worker.log, "the worker has started")
    assert worker.drain(timeout_seconds=10) == 0


def test_a_row_that_kills_its_worker_is_found_and_the_others_are_done(house: House) -> None:
    documents = texts(40)
    poison = 21
    documents[poison] += MARKS["exit"]
    job_id = house.submit(documents)
    house.start_dispatcher()
    deaths = 0

    def ended() -> bool:
        nonlocal deaths
        if not any(process.alive for process in house.processes[1:]):
            deaths += len(house.processes) > 1
            house.start_worker(TEXTMILL_LEASE_SECONDS="1", TEXTMILL_HEARTBEAT_SECONDS="0.3", TEXTMILL_SHARD_SECONDS="0.01")
        return house.state(job_id) == "completed"

    house.wait_for(ended, "the job completes", timeout_seconds=90)
    lines = {line.idx: line for line in iter_results(house.api, house.actor, job_id, which="output")}
    assert set(lines) == set(range(len(documents))) - {poison}
    (failure,) = iter_results(house.api, house.actor, job_id, which="errors")
    assert (failure.idx, failure.code) == (poison, "crashed_worker")
    assert deaths <= 12


def test_a_model_that_never_comes_back_ends_the_process(house: House) -> None:
    job_id = house.submit([*texts(7), MARKS["hang"]])
    house.start_dispatcher()
    worker = house.start_worker(TEXTMILL_HANG_SECONDS="1")
    assert worker.popen.wait(20) == EX_HANG
    house.wait_for(lambda: any(shard.crash_attempts for shard in house.shards(job_id)), "the hang counts as a crash")


CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name IN ('textmill-worker', 'textmill-dispatcher')"


def test_connections_to_postgres_that_are_cut_lose_nothing(house: House, server: Server) -> None:
    documents = texts(1_000)
    job_id = house.submit(documents)
    house.start_dispatcher()
    worker = house.start_worker(delay_ms=3)
    for goal in (200, 400, 600):
        house.wait_done(job_id, goal)
        server.execute(CUT)
    house.wait_completed(job_id)
    house.check_results(job_id, documents)
    assert worker.alive
