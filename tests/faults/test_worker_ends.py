"""F10 to F14, F17: a worker that dies under its supervisor, freezes, drains, is killed in its drain, is restarted in turn, or hangs."""

import signal
import time
from collections.abc import Iterator, Sequence

import pytest

from api.local.home.home import Home
from api.local.processes.devices import Placed
from api.local.processes.parts import MetricsPorts, Starts, worker_program
from api.local.processes.supervisor import Supervisor
from tests.faults.conftest import Verdict
from tests.faults.counters import Load
from tests.faults.house import FAST, House, Process
from tests.faults.struck import (
    LEASE_SECONDS,
    LONG_LEASE,
    MARGIN_SECONDS,
    POLL_SECONDS,
    Hold,
    crash_attempts,
    crew,
    empty_broker,
    held_by,
    prepare,
    redone,
    seconds_to_progress,
    shards_of,
    stored_rows,
    strike,
    struck,
    wait_up,
)
from workers.engines.fake import read_calls
from workers.host.watchdog import EX_HANG

LARGE_SHARDS = {"TEXTMILL_SHARD_SECONDS": "2"}  # so that an end comes in the middle of some
SMALL_CHUNKS = {"TEXTMILL_CHUNK_SECONDS": "0.05"}  # a drain writes those that are begun: they must not be all of a shard
# More than there are shards, so that what is given back is taken at once; by message only, for a look would take all there is.
FREE_SLOTS = {**LONG_LEASE, "TEXTMILL_THREADS": "16", "TEXTMILL_POLL_SECONDS": "60"}
DRAIN_GOAL_SECONDS = 1.0
ROLLING_ROWS = 12_000
HANG_SECONDS = 1.0
HUNG_CALL = 10


# Under the supervisor of the local stack.


@pytest.fixture
def supervisor(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """The stack's own, with one worker of this house."""
    environment = {
        **FAST,
        "TEXTMILL_DATABASE_URL": str(house.settings.database_url),
        "TEXTMILL_REDIS_URL": house.broker_url,
        "TEXTMILL_FAKE_LOG": str(house.calls),
        "TEXTMILL_FAKE_DELAY_MS": "5",
    }
    empty_broker(house)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = Supervisor(lambda line: None)
    made.start(worker_program(Home(house.settings.home), Placed("worker-cpu", "cpu", "1/1"), 25.0, MetricsPorts(), Starts()))
    yield made
    made.stop([["worker-cpu"]], lambda: False)


@pytest.mark.matrix
@pytest.mark.fault("F10", "kill -9 the process of the model: its supervisor starts another")
def test_a_supervised_worker_is_started_again_by_itself(house: House, verdict: Verdict, supervisor: Supervisor) -> None:
    """Our worker process is the model's process, and its parent the supervisor: there is no parent to be spared beside that."""
    loads = house.load_all(4_000)
    started = time.monotonic()
    house.start_dispatcher()
    (watched,) = supervisor.watched

    def wait_for_rows(goal: int) -> float:
        def done() -> bool:
            supervisor.tick()
            return house.open_rows(loads) <= 4_000 - goal

        house.wait_for(done, f"{goal} rows are done under the supervisor")
        return time.monotonic()

    start_seconds = wait_for_rows(1) - started
    done = 4_000 - house.open_rows(loads)
    wait_for_rows(done + 400)
    first = watched.pid
    assert first is not None
    watched.part.child.signal(signal.SIGKILL)  # type: ignore[union-attr]
    assert watched.part.child.wait(10)  # type: ignore[union-attr]
    killed_at = time.monotonic()
    rec_s = wait_for_rows(4_000 - house.open_rows(loads) + 1) - killed_at
    assert watched.pid not in {first, None}
    assert watched.restarts.total == 1
    assert rec_s <= start_seconds + 5
    wait_for_rows(4_000)
    house.wait_all_completed(loads)
    again = redone(house, first, loads)
    counted = verdict(house.count(loads), rec_s=round(rec_s, 2), start_s=round(start_seconds, 2))
    assert counted.recomputed == again


# A zombie.


@pytest.mark.fault("F11", "SIGSTOP for three leases, then SIGCONT")
def test_a_zombie_writes_nothing_and_then_works_again(house: House, verdict: Verdict) -> None:
    loads = prepare(house, 1_200)
    zombie = house.start_worker(delay_ms=10, port=house.free_port())
    (other,) = others = crew(house, 1, delay_ms=1, **LONG_LEASE)
    wait_up(house, [zombie, *others])
    house.start_dispatcher()
    house.wait_for(lambda: _asked(house, zombie) > 1 and bool(held_by(house, zombie.popen.pid, loads)), "the one to freeze is at work")
    zombie.send(signal.SIGSTOP)
    frozen = struck(house, zombie, loads)
    rec_s = seconds_to_progress(house, frozen)
    assert rec_s <= LEASE_SECONDS + POLL_SECONDS + MARGIN_SECONDS
    house.wait_all_completed(loads)
    time.sleep(max(0.0, frozen.at + 3 * LEASE_SECONDS - time.monotonic()))  # the fault's own length
    written = [stored_rows(house, hold, epoch=hold.epoch) for hold in frozen.holds]
    zombie.send(signal.SIGCONT)
    house.wait_for(lambda: house.fenced() > 0, "the zombie notices")
    assert other.drain() == 0
    later = house.load([f"later: {text}" for text in loads[0].texts[:100]])
    house.wait_all_completed([later])
    assert zombie.drain() == 0
    assert [stored_rows(house, hold, epoch=hold.epoch) for hold in frozen.holds] == written
    counted = verdict(house.count([*loads, later]), fenced=house.fenced(), rec_s=round(rec_s, 2))
    assert counted.recomputed == redone(house, zombie.popen.pid, loads) <= frozen.open_rows
    assert house.fenced() >= 1


def _asked(house: House, worker: Process) -> int:
    """Calls of the model by this process."""
    return sum(call.pid == worker.popen.pid for call in read_calls(house.calls))


# Drains.


@pytest.mark.fault("F12", "SIGTERM with batches in flight")
def test_a_drain_does_nothing_twice_and_burns_no_attempt(house: House, verdict: Verdict) -> None:
    loads = prepare(house, 3_000)
    leaver = house.start_worker(delay_ms=4, port=house.free_port(), **LONG_LEASE, **SMALL_CHUNKS)
    wait_up(house, [leaver, *crew(house, 1, delay_ms=2, **FREE_SLOTS)])
    house.start_dispatcher(**LARGE_SHARDS)
    house.wait_for(lambda: any(hold.done for hold in held_by(house, leaver.popen.pid, loads)), "the one that leaves is in the middle of it")
    held = held_by(house, leaver.popen.pid, loads)
    told = time.monotonic()
    assert leaver.drain() == 0
    ended = time.monotonic()
    assert not held_by(house, leaver.popen.pid, loads)
    given_back = _not_finished(house, loads, held)
    assert given_back, "some shard was left in the middle"
    house.wait_for(lambda: _taken_over(house, loads, given_back), "what was given back is taken")
    rec_s = time.monotonic() - ended
    assert rec_s <= DRAIN_GOAL_SECONDS + MARGIN_SECONDS
    crew(house, 1, delay_ms=1, **LONG_LEASE)  # looks for itself: a message that the leaver had taken would be sent again in a minute only
    house.wait_all_completed(loads)
    drain_seconds = ended - told
    in_shards = drain_seconds / float(LARGE_SHARDS["TEXTMILL_SHARD_SECONDS"])
    counted = verdict(house.count(loads), rec_s=round(rec_s, 2), drain_s=round(drain_seconds, 2), in_shards=round(in_shards, 2))
    assert counted.recomputed == 0
    assert {(shard.crash_attempts, shard.error_attempts) for _load, shard in shards_of(house, loads)} == {(0, 0)}


def _not_finished(house: House, loads: Sequence[Load], held: Sequence[Hold]) -> list[Hold]:
    """Of what was held, what is not done at the epoch of the hold."""
    now = {shard.shard_id: shard for _load, shard in shards_of(house, loads)}
    return [hold for hold in held if not (now[hold.shard_id].state == "done" and now[hold.shard_id].epoch == hold.epoch)]


def _taken_over(house: House, loads: Sequence[Load], held: Sequence[Hold]) -> bool:
    now = {shard.shard_id: shard.epoch for _load, shard in shards_of(house, loads)}
    return any(now[hold.shard_id] > hold.epoch for hold in held)


def test_a_drain_before_any_work_ends_at_once(house: House) -> None:
    worker = house.start_worker()
    house.wait_for(lambda: "device:" in worker.log, "the worker has started")
    assert worker.drain(timeout_seconds=10) == 0


@pytest.mark.matrix
@pytest.mark.fault("F13", "SIGTERM, then SIGKILL at the end of the grace")
def test_a_worker_killed_in_its_drain_costs_what_it_had_not_written(house: House, verdict: Verdict) -> None:
    loads = prepare(house, 3_000)
    leaver = house.start_worker(delay_ms=40, port=house.free_port())
    wait_up(house, [leaver, *crew(house, 1, delay_ms=1, **LONG_LEASE)])
    house.start_dispatcher(**LARGE_SHARDS)
    house.wait_for(lambda: _asked(house, leaver) > 3 and bool(held_by(house, leaver.popen.pid, loads)), "it is at work")
    leaver.send(signal.SIGTERM)
    house.wait_for(lambda: "draining" in leaver.log, "it drains")
    leaver.kill()
    assert leaver.popen.returncode == -signal.SIGKILL
    killed = struck(house, leaver, loads)
    assert killed.holds, "its batches were in flight"
    rec_s = seconds_to_progress(house, killed)
    assert rec_s <= LEASE_SECONDS + POLL_SECONDS + MARGIN_SECONDS
    house.wait_all_completed(loads)
    counted = verdict(house.count(loads), rec_s=round(rec_s, 2), held_shards=len(killed.holds))
    assert counted.recomputed == redone(house, leaver.popen.pid, loads) <= killed.open_rows


@pytest.mark.matrix
@pytest.mark.fault("F14", "a rolling restart: each of three workers in turn, one every 5 s for 30 s")
def test_a_rolling_restart_does_nothing_twice(house: House, verdict: Verdict) -> None:
    loads = prepare(house, ROLLING_ROWS)
    workers = crew(house, 3, delay_ms=20, **LONG_LEASE)
    wait_up(house, workers)
    house.start_dispatcher()
    house.wait_for(lambda: house.open_rows(loads) < ROLLING_ROWS, "the work has begun")
    calm = _rows_a_second(house, loads, 6.0)
    rates = []
    for turn in range(6):
        place = turn % len(workers)
        began, open_rows = time.monotonic(), house.open_rows(loads)
        assert workers[place].drain() == 0
        (workers[place],) = crew(house, 1, delay_ms=20, **LONG_LEASE)
        time.sleep(max(0.0, 5.0 - (time.monotonic() - began)))
        rates.append((open_rows - house.open_rows(loads)) / (time.monotonic() - began))
    assert house.open_rows(loads) > 0, "the load lasts until the end"
    disturbed = sum(rates) / len(rates)
    house.wait_all_completed(loads)
    counted = verdict(house.count(loads), rows_s_calm=round(calm), rows_s_restarting=round(disturbed), kept=f"{disturbed / calm:.0%}")
    assert counted.recomputed == 0
    assert disturbed >= 0.5 * calm


def _rows_a_second(house: House, loads: Sequence[Load], seconds: float) -> float:
    """Over a stretch of the run: what is measured is a speed, so it takes its time."""
    began, open_rows = time.monotonic(), house.open_rows(loads)
    time.sleep(seconds)
    return (open_rows - house.open_rows(loads)) / max(1e-6, time.monotonic() - began)


# A hang.


@pytest.mark.matrix
@pytest.mark.fault("F17", "the model never comes back, in one worker")
def test_a_worker_that_hangs_ends_itself_and_its_shards_go_on_elsewhere(house: House, verdict: Verdict) -> None:
    """One lane of two hangs, and there is work for the other for longer than the bound: it must not hide that. The others have
    work, too: what counts is when the shards are offered again, and then they wait for their turn."""
    hung = strike(house, "hang", at=HUNG_CALL, delay_ms=8, victim={"TEXTMILL_HANG_SECONDS": str(HANG_SECONDS), "TEXTMILL_LANES": "2"})
    assert hung.victim.popen.returncode == EX_HANG
    began = [call.at for call in read_calls(house.calls) if call.pid == hung.victim.popen.pid][HUNG_CALL - 1]
    hung_seconds = time.time() - began
    assert hung_seconds <= HANG_SECONDS * 1.25 + MARGIN_SECONDS
    house.wait_for(lambda: not held_by(house, hung.victim.popen.pid, hung.loads), "its shards are offered again")
    offered_s = time.monotonic() - hung.at
    assert offered_s <= LEASE_SECONDS + MARGIN_SECONDS
    house.wait_all_completed(hung.loads)
    counted = verdict(house.count(hung.loads), offered_s=round(offered_s, 2), hung_s=round(hung_seconds, 2))
    assert counted.recomputed == redone(house, hung.victim.popen.pid, hung.loads) <= hung.open_rows
    assert crash_attempts(house, hung.loads) == len(hung.holds)
