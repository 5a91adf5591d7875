"""F28, F30: a Postgres that restarts, is killed, or has no room left on its disk."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from api.local.servers.postgres import binary
from tests.faults.api_process import Caller, start_api
from tests.faults.conftest import Verdict
from tests.faults.counters import Load
from tests.faults.house import House, Process, texts
from tests.faults.own_postgres import OwnPostgres, SmallDisk, own_house
from tests.faults.recovery import seconds_to_progress, wait_rows

WORKERS = 3
MICRO_BATCH_ROWS = 64
RESTARTS = 10
LEASE_SECONDS = "10"  # longer than a restart, as it is outside of tests
ROOM_BYTES = 96 << 20


@pytest.fixture
def own(tmp_path: Path, valkey: str) -> Iterator[tuple[House, OwnPostgres]]:
    with own_house(tmp_path, valkey) as made:
        yield made


@pytest.mark.matrix
@pytest.mark.fault("F28", "Postgres restarts under load, 10 times: fast, immediate, kill -9")
@pytest.mark.parametrize("how", ["fast", "immediate", "killed"])
def test_a_postgres_that_restarts_ten_times_loses_nothing(own: tuple[House, OwnPostgres], verdict: Verdict, how: str) -> None:
    """kill -9 also takes the claims that were not waited for on the disk (see db/queue/shards.py)."""
    house, postgres = own
    loads = house.load_all(6_000)
    house.start_dispatcher()
    workers = [house.start_worker(delay_ms=4, TEXTMILL_LEASE_SECONDS=LEASE_SECONDS) for _ in range(WORKERS)]
    worst = 0.0
    with Caller(start_api(house), next(load.job_id for load in loads if load.actor is house.actor)) as caller:
        for _ in range(RESTARTS):
            wait_rows(house, loads, 200)
            postgres.restart(how)
            worst = max(worst, seconds_to_progress(house, loads))
        house.wait_all_completed(loads)
    counted = verdict(house.count(loads), fenced=house.fenced(), rec_s=worst, http=dict(caller.statuses), crashes=crashes(house, loads))
    assert caller.faults == []
    assert caller.statuses[503] > 0, "somebody asked while it was away"
    assert counted.recomputed <= MICRO_BATCH_ROWS * WORKERS * RESTARTS
    assert all(worker.alive for worker in workers)


@pytest.mark.matrix
@pytest.mark.fault("F30", "Postgres' disk is full, and has room again")
def test_a_full_disk_stops_the_work_and_harms_nothing(own: tuple[House, OwnPostgres], verdict: Verdict) -> None:
    house, postgres = own
    try:
        disk = postgres.move_to_small_disk(ROOM_BYTES)
    except PermissionError:
        pytest.skip("no file system may be mounted here")
    try:
        _fill_and_make_room(house, postgres, disk, verdict)
    finally:
        house.stop()
        postgres.server.stop(hurry=True)
        disk.unmount()


def _fill_and_make_room(house: House, postgres: OwnPostgres, disk: SmallDisk, verdict: Verdict) -> None:
    loads = house.load_all(3_000)
    house.start_dispatcher()
    workers = [house.start_worker(delay_ms=4) for _ in range(2)]
    wait_rows(house, loads, 500)
    disk.fill()
    house.wait_for(lambda: any(refusals(worker) for worker in workers), "a write is refused")
    assert is_refused(house)
    house.wait_for(lambda: sum(refusals(worker) for worker in workers) > 12, "it goes on for some time")
    disk.make_room()
    ended = 0

    def answers() -> bool:
        """It gives up where its log cannot be written; whoever watches over it starts it again, as `textmill up` does."""
        nonlocal ended
        assert postgres.server.child is not None
        if postgres.server.child.exit_code() is not None:
            ended += 1
            postgres.server.start()
        try:
            return house.open_rows(loads) > 0
        except DBAPIError:
            return False

    house.wait_for(answers, "Postgres answers")
    rec_s = seconds_to_progress(house, loads)
    house.wait_all_completed(loads)
    verdict(house.count(loads), fenced=house.fenced(), rec_s=rec_s, postgres_ended=ended, crashes=crashes(house, loads))
    assert all(worker.alive for worker in workers)
    assert {shard.error_attempts for load in loads for shard in house.shards(load.job_id, load.actor)} == {0}, "the rows are not to blame"
    house.stop()
    postgres.server.stop()
    checked = subprocess.run([binary("pg_checksums"), "--check", "-D", str(disk.folder)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def refusals(worker: Process) -> int:
    return worker.log.count("a write failed") + worker.log.count("given back")


def is_refused(house: House) -> bool:
    """Whether an upload ends in an error; the pages there are may have room for some."""
    try:
        for _ in range(100):
            house.load(texts(1_000))
    except DBAPIError:
        return True
    return False


def crashes(house: House, loads: Sequence[Load]) -> int:
    """Crashes that were counted against shards, though nobody crashed but the store."""
    return sum(shard.crash_attempts for load in loads for shard in house.shards(load.job_id, load.actor))
