"""What operators do to real workers: drain and resume, a memory ceiling; and what becomes of the leases of one that is seen to die."""

import signal
import time
from collections.abc import Callable
from uuid import UUID

import pytest

from api.local.processes.deaths import free_leases
from db.connect import Store
from db.operators import fleet
from db.operators.fleet import WorkerRecord
from db.process_names import without_start
from db.settings import Role
from tests.faults.conftest import Verdict
from tests.faults.house import House, Process, texts
from workers.host.memory import EX_CEILING, EX_PLANNED

Stores = Callable[[Role], Store]
LONG_LEASE = {"TEXTMILL_LEASE_SECONDS": "60"}


@pytest.fixture
def dispatcher(stores: Stores) -> Store:
    return stores(Role.DISPATCHER)


def record(dispatcher: Store, process: Process) -> WorkerRecord | None:
    return next((each for each in fleet.list_workers(dispatcher) if each.worker == process.name), None)


def is_in(dispatcher: Store, process: Process, state: str) -> bool:
    found = record(dispatcher, process)
    return found is not None and found.state == state


def leases_of(house: House, job_id: UUID, worker: Process) -> dict[UUID, int]:
    """Epochs, by shard."""
    return {shard.shard_id: shard.epoch for shard in house.shards(job_id) if shard.state == "leased" and shard.worker == worker.name}


def stop_while_it_holds(house: House, job_id: UUID, worker: Process) -> None:
    """However slow this machine is, it has not come to its end when the test is ready to kill it."""

    def caught() -> bool:
        worker.send(signal.SIGSTOP)
        if leases_of(house, job_id, worker):
            return True
        worker.send(signal.SIGCONT)
        return False

    house.wait_for(caught, "it stops with a shard in hand")


def test_a_drained_worker_gives_back_stands_by_and_goes_on_when_resumed(house: House, dispatcher: Store) -> None:
    documents = texts(1_500)
    job_id = house.submit(documents)
    house.start_dispatcher()
    worker = house.start_worker(delay_ms=4)
    house.wait_done(job_id, 1)
    name = worker.name
    assert fleet.ask(dispatcher, [name], "drain") == [name]
    house.wait_for(lambda: is_in(dispatcher, worker, "drained"), "the worker is drained")
    shards = house.shards(job_id)
    assert not [shard for shard in shards if shard.state == "leased"]
    assert {(shard.crash_attempts, shard.error_attempts) for shard in shards} == {(0, 0)}
    done = house.done_count(job_id)
    assert done < len(documents)
    other = house.submit(texts(3))
    house.wait_for(lambda: house.state(other) == "in_progress", "a job comes")
    beats = record(dispatcher, worker)
    assert beats is not None
    house.wait_for(lambda: (now := record(dispatcher, worker)) is not None and now.seen_at > beats.seen_at, "it is alive")
    assert (house.done_count(job_id), house.done_count(other)) == (done, 0)
    fleet.ask(dispatcher, [name], "resume")
    house.wait_completed(job_id)
    house.wait_completed(other)
    house.check_results(job_id, documents)
    done = len(documents) + 3
    house.wait_for(lambda: (now := record(dispatcher, worker)) is not None and now.rows_done == done, "it says what it did")
    assert is_in(dispatcher, worker, "running")
    assert worker.drain() == 0
    assert record(dispatcher, worker) is None, "it said goodbye"


def test_a_drained_worker_takes_messages_again_when_resumed(house: House, dispatcher: Store) -> None:
    """Its poller is as good as off, so that only a message can bring it the job."""
    house.start_dispatcher()
    worker = house.start_worker(port=house.free_port(), TEXTMILL_POLL_SECONDS="600")
    house.wait_for(lambda: is_in(dispatcher, worker, "running"), "the worker has started")
    first = house.submit(texts(5))
    house.wait_completed(first)
    name = worker.name
    for _ in range(2):
        fleet.ask(dispatcher, [name], "drain")
        house.wait_for(lambda: is_in(dispatcher, worker, "drained"), "the worker is drained")
        fleet.ask(dispatcher, [name], "resume")
        house.wait_for(lambda: is_in(dispatcher, worker, "running"), "the worker goes on")
    second = house.submit(texts(5))
    house.wait_completed(second)


def test_sigterm_ends_a_drained_worker(house: House, dispatcher: Store) -> None:
    worker = house.start_worker()
    house.wait_for(lambda: is_in(dispatcher, worker, "running"), "the worker has started")
    fleet.ask(dispatcher, [worker.name], "drain")
    house.wait_for(lambda: is_in(dispatcher, worker, "drained"), "the worker is drained")
    assert worker.drain(timeout_seconds=10) == 0


def test_a_worker_above_its_memory_ceiling_gives_back_and_ends_as_planned(house: House, dispatcher: Store) -> None:
    documents = texts(600)
    job_id = house.submit(documents)
    house.start_dispatcher()
    worker = house.start_broken_worker("growing", delay_ms=4, FAULT_AT="2", TEXTMILL_MAX_MEMORY_MB="100000")
    assert worker.popen.wait(40) == EX_PLANNED
    assert "a planned restart" in worker.log
    shards = house.shards(job_id)
    assert not [shard for shard in shards if shard.state == "leased"]
    assert {(shard.crash_attempts, shard.error_attempts) for shard in shards} == {(0, 0)}
    assert record(dispatcher, worker) is None
    house.start_worker()
    house.wait_completed(job_id)
    house.check_results(job_id, documents)


def test_a_worker_whose_ceiling_is_below_what_it_needs_gives_back_and_says_what_to_do(house: House, dispatcher: Store) -> None:
    """No job is there yet: rows that were stored would make it a planned end."""
    worker = house.start_worker(TEXTMILL_MAX_MEMORY_MB="64")  # any worker holds more
    assert worker.popen.wait(40) == EX_CEILING
    assert "raise TEXTMILL_MAX_MEMORY_MB" in worker.log
    assert record(dispatcher, worker) is None


@pytest.mark.fault("F10", "kill -9, seen by the supervisor: what was held is offered at once")
def test_what_a_worker_held_that_was_seen_to_die_is_at_work_elsewhere_within_two_seconds(
    house: House, dispatcher: Store, verdict: Verdict
) -> None:
    """Its lease would have run for another minute."""
    load = house.load(texts(2_000))
    house.start_dispatcher()
    doomed = house.start_worker(delay_ms=4, **LONG_LEASE)
    stop_while_it_holds(house, load.job_id, doomed)
    living = house.start_worker(delay_ms=1, **LONG_LEASE)
    house.wait_for(lambda: is_in(dispatcher, living, "running"), "another worker lives")
    doomed.kill()
    died = time.monotonic()
    held = leases_of(house, load.job_id, doomed)
    assert free_leases(dispatcher, doomed.name) == len(held) > 0

    def taken_over() -> bool:
        return any(shard.epoch > held[shard.shard_id] for shard in house.shards(load.job_id) if shard.shard_id in held)

    house.wait_for(taken_over, "a shard of the dead is in work again")
    rec_s = time.monotonic() - died
    house.wait_all_completed([load])
    verdict(house.count([load]), rec_s=round(rec_s, 2))
    assert rec_s <= 2.0
    assert record(dispatcher, doomed) is None


@pytest.mark.matrix
@pytest.mark.fault("F51", "a worker in a container is killed, and starts again under its host and pid")
def test_a_worker_that_starts_again_under_its_host_and_pid_has_nothing_of_its_dead(
    house: House, dispatcher: Store, verdict: Verdict
) -> None:
    load = house.load(texts(3_000))
    house.start_dispatcher()
    dead = house.start("tests.faults.contained_worker", TEXTMILL_FAKE_DELAY_MS="4", **LONG_LEASE)
    stop_while_it_holds(house, load.job_id, dead)
    dead.kill()
    again = house.start("tests.faults.contained_worker", TEXTMILL_FAKE_DELAY_MS="4", **LONG_LEASE)
    house.wait_for(lambda: any(shard.worker == again.name != "" for shard in house.shards(load.job_id)), "the next one works")
    ghosts = leases_of(house, load.job_id, dead)
    assert without_start(again.name) == without_start(dead.name) == "container:1"
    assert free_leases(dispatcher, dead.name) == len(ghosts) > 0
    house.wait_all_completed([load])
    verdict(house.count([load]), fenced=house.fenced())
    assert house.fenced() == 0, "what the next one held stayed its own"
