"""F34, F35, F50: workers whose clocks are wrong; dispatchers that are too many, or none, or stopped."""

import signal
import time

import pytest

from db.lifecycle import POLL_SECONDS
from db.process_names import pid_of
from tests.faults.conftest import Verdict
from tests.faults.house import LONG_LEASE, House, Process, texts
from tests.faults.recovery import seconds_to_progress, wait_rows

HOUR = 3600


@pytest.mark.matrix
@pytest.mark.fault("F34", "clocks an hour before and behind, and a step back by 10 min")
def test_wrong_clocks_of_workers_end_no_lease_early_and_none_late(house: House, verdict: Verdict) -> None:
    loads = house.load_all()
    house.start_dispatcher()
    for skew, step in ((HOUR, 0), (-HOUR, 0), (0, -600)):
        clock = {"SKEW_SECONDS": str(skew), "STEP_SECONDS": str(step)}
        house.start("tests.faults.skewed_worker", TEXTMILL_FAKE_DELAY_MS="2", TEXTMILL_LEASE_SECONDS="10", **clock)
    house.wait_all_completed(loads)
    counted = verdict(house.count(loads), fenced=house.fenced())
    assert counted.recomputed == 0
    assert house.fenced() == 0
    shards = [shard for load in loads for shard in house.shards(load.job_id, load.actor)]
    assert {shard.crash_attempts for shard in shards} == {0}
    assert {shard.epoch for shard in shards} == {1}, "every shard was claimed once"


@pytest.mark.matrix
@pytest.mark.fault("F34", "workers an hour before and behind die")
def test_the_lease_of_a_dead_worker_ends_by_the_databases_clock(house: House, verdict: Verdict) -> None:
    loads = house.load_all(2_000)
    house.start_dispatcher()
    victims = [house.start("tests.faults.skewed_worker", SKEW_SECONDS=str(skew), TEXTMILL_FAKE_DELAY_MS="5") for skew in (HOUR, -HOUR)]
    wait_rows(house, loads, 100)
    house.wait_for(lambda: all(_leased_by(house, victim) for victim in victims), "both hold leases")
    for victim in victims:
        victim.kill()
    house.wait_for(lambda: not any(_leased_by(house, victim) for victim in victims), "their leases are over", timeout_seconds=10)
    house.start_worker(delay_ms=1)
    house.wait_all_completed(loads)
    verdict(house.count(loads), fenced=house.fenced())


def _leased_by(house: House, worker: Process) -> bool:
    held: list[object] = []
    for actor in (house.actor, house.other_actor):
        with house.api.transaction(tenant=actor.tenant_id) as connection:
            held += connection.exec_driver_sql("SELECT worker FROM shards WHERE state = 'leased'").scalars()
    return any(pid_of(str(name)) == worker.popen.pid for name in held)


@pytest.mark.matrix
@pytest.mark.fault("F35", "five dispatchers, and the one that leads is killed")
def test_five_dispatchers_do_what_one_does(house: House, verdict: Verdict) -> None:
    dispatchers = [house.start_dispatcher(port=house.free_port()) for _ in range(5)]
    loads = house.load_all()
    for _ in range(3):
        house.start_worker(delay_ms=2, **LONG_LEASE)
    wait_rows(house, loads, 1_000)
    (leader,) = (one for one in dispatchers if "this dispatcher leads" in one.log)
    hints = leader.metric("textmill_messages_published_total")
    leader.kill()
    house.wait_for(lambda: sum("this dispatcher leads" in one.log for one in dispatchers) == 2, "another leads")
    rec_s = seconds_to_progress(house, loads)
    house.wait_all_completed(loads)
    hints += sum(one.metric("textmill_messages_published_total") for one in dispatchers if one.alive)
    shards = sum(len(house.shards(load.job_id, load.actor)) for load in loads)
    counted = verdict(house.count(loads), fenced=house.fenced(), rec_s=rec_s, hints=f"{hints:.0f} for {shards} shards")
    assert counted.recomputed == 0
    assert hints <= 5 * shards
    assert sum("this dispatcher leads" in one.log for one in dispatchers) == 2, "never two at once, for nobody lost the lead but the dead"


@pytest.mark.matrix
@pytest.mark.fault("F35", "no dispatcher, and a worker dies meanwhile")
def test_without_a_dispatcher_workers_do_every_row_by_themselves(house: House, verdict: Verdict) -> None:
    loads = house.load_all(4_000)
    first = house.start_dispatcher()
    house.wait_for(lambda: all(house.shards(load.job_id, load.actor) for load in loads), "the jobs are cut")
    first.kill()
    victim = house.start_worker(delay_ms=2)
    wait_rows(house, loads, 200)
    victim.kill()
    house.start_worker(delay_ms=2)
    takeover_seconds = 2 * POLL_SECONDS  # after the lease's end; a dispatcher would have been sooner
    house.wait_for(lambda: house.open_rows(loads) == 0, "every row has its result", 60 + takeover_seconds)
    states = {house.shards(load.job_id, load.actor)[0].state for load in loads}
    assert states == {"done"}
    house.start_dispatcher()
    house.wait_all_completed(loads)
    verdict(house.count(loads), fenced=house.fenced())


@pytest.mark.matrix
@pytest.mark.fault("F50", "the dispatcher that leads is stopped, and goes on later")
def test_a_leader_that_is_stopped_is_replaced_and_does_no_harm_when_it_goes_on(house: House, verdict: Verdict) -> None:
    dispatchers = [house.start_dispatcher(port=house.free_port()) for _ in range(2)]
    house.wait_for(lambda: any("this dispatcher leads" in one.log for one in dispatchers), "one leads")
    (leader,) = (one for one in dispatchers if "this dispatcher leads" in one.log)
    (standby,) = (one for one in dispatchers if one is not leader)
    for _ in range(2):
        house.start_worker(delay_ms=2)
    first = house.load_all()
    wait_rows(house, first, 200)
    leader.send(signal.SIGSTOP)
    stopped = time.monotonic()
    second = [house.load([f"after the stop: {one}" for one in texts(400)])]
    house.wait_for(lambda: "this dispatcher leads" in standby.log, "another leads", 40)
    lead_s = time.monotonic() - stopped
    house.wait_for(lambda: bool(house.shards(second[0].job_id)), "its jobs are cut")
    leader.send(signal.SIGCONT)
    house.wait_for(lambda: "this one stands by" in leader.log, "the one that was stopped stands by")
    house.wait_all_completed([*first, *second])
    verdict(house.count([*first, *second]), fenced=house.fenced(), lead_s=round(lead_s, 1))
    assert lead_s <= 15
    assert "failed" not in standby.log
    assert sum(one.log.count("this dispatcher leads") for one in dispatchers) == 2, "the one that was stopped did not take the lead back"
