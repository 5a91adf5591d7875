"""F29: another Postgres takes over, with or without the last two seconds."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from db.connect import open_store
from db.settings import Role
from tests.faults.conftest import Verdict
from tests.faults.counters import Counters, Load, count
from tests.faults.house import FAST, House
from tests.faults.own_postgres import OwnPostgres, own_house
from tests.faults.proxy import Proxy
from tests.faults.recovery import seconds_to_progress, wait_rows
from tests.faults.standby import Standby, standby_of

LEASE_SECONDS = float(FAST["TEXTMILL_LEASE_SECONDS"])


@pytest.fixture
def pair(tmp_path: Path, valkey: str) -> Iterator[tuple[House, OwnPostgres, Standby, Proxy]]:
    """A house whose address of Postgres leads to the one that is primary."""
    with (
        own_house(tmp_path, valkey) as (house, postgres),
        standby_of(postgres.server, house) as standby,
        Proxy.of_postgres(str(house.settings.database_url)) as address,
    ):
        house.settings = house.settings.model_copy(update={"database_url": address.url})
        house.api.close()
        house.api = open_store(house.settings, Role.API)
        yield house, postgres, standby, address
        house.stop()
        house.api.close()


def take_over(postgres: OwnPostgres, standby: Standby, address: Proxy) -> None:
    postgres.kill()
    standby.promote()
    address.target = standby.socket
    address.reset_all()


@pytest.mark.matrix
@pytest.mark.fault("F29", "failover to a standby that commits wait for")
def test_a_standby_that_was_waited_for_has_every_result(pair: tuple[House, OwnPostgres, Standby, Proxy], verdict: Verdict) -> None:
    house, postgres, standby, address = pair
    standby.wait_for_it()
    house.wait_for(standby.is_waited_for, "commits wait for the standby")
    loads = house.load_all(4_000)
    house.start_dispatcher()
    for _ in range(2):
        house.start_worker(delay_ms=4)
    wait_rows(house, loads, 1_000)
    open_before = house.open_rows(loads)
    take_over(postgres, standby, address)
    assert house.open_rows(loads) <= open_before, "nothing that anybody could see is lost"
    rec_s = seconds_to_progress(house, loads)
    house.wait_all_completed(loads)
    verdict(house.count(loads), fenced=house.fenced(), rec_s=rec_s, results_lost=0)


@pytest.mark.matrix
@pytest.mark.fault("F29", "failover to a standby that lacks the last two seconds")
def test_results_that_the_standby_lacks_are_computed_again(pair: tuple[House, OwnPostgres, Standby, Proxy], verdict: Verdict) -> None:
    """What the lost tail's audit events covered is lost with it: calls of the model in that time, and until the holders of its leases have
    heard of it, are left out of the count, and told beside it. Finding that out from outside is the checkpoints' task. Not every lost
    answer is computed again: some are still in the memory of the worker that gets the row (see workers/inference/duplicates.py)."""
    house, postgres, standby, address = pair
    loads = house.load_all(4_000)
    house.start_dispatcher()
    for _ in range(2):
        house.start_worker(delay_ms=4)
    wait_rows(house, loads, 500)
    standby.link.hold()
    tail_from = time.time()
    wait_rows(house, loads, 600)
    open_before = house.open_rows(loads)
    take_over(postgres, standby, address)
    lost = house.open_rows(loads) - open_before
    assert lost > 0
    tail_until = time.time() + LEASE_SECONDS
    rec_s = seconds_to_progress(house, loads)
    house.wait_all_completed(loads)
    everything = house.count(loads)
    outside = count_outside(house, loads, tail_from, tail_until)
    verdict(
        outside,
        fenced=house.fenced(),
        rec_s=rec_s,
        results_lost=lost,
        recomputed_in_all=everything.recomputed,
        calls_whose_audit_was_lost=everything.unaudited,
    )


def count_outside(house: House, loads: Sequence[Load], since: float, until: float) -> Counters:
    kept = house.folder / "calls-outside.log"
    lines = house.calls.read_text().splitlines(keepends=True)
    kept.write_text("".join(line for line in lines if not since <= float(line.partition(" ")[0]) <= until))
    return count(house.api, loads, kept)
