"""F49: a pooler before Postgres. One that shares sessions is refused by each part; through one that keeps them apart all is as without."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import make_url

from db.settings import StoreSettings
from tests.conftest import Server
from tests.faults.conftest import Verdict
from tests.faults.house import LONG_LEASE, House, Process, texts
from tests.pooler import needed, pooler

pytestmark = needed


@pytest.fixture
def pooled(server: Server, settings: StoreSettings, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    (tmp_path / "pooler").mkdir()
    with pooler(server, str(make_url(str(settings.database_url)).database), tmp_path / "pooler") as addresses:
        yield addresses


def parts(house: House, address: str) -> tuple[Process, Process]:
    return house.start_dispatcher(TEXTMILL_DATABASE_URL=address), house.start_worker(TEXTMILL_DATABASE_URL=address)


@pytest.mark.fault("F49", "a pooler in transaction mode before Postgres")
def test_a_pooler_that_shares_sessions_is_refused_by_each_part(house: House, pooled: Mapping[str, str], verdict: Verdict) -> None:
    load = house.load(texts(200))
    for process in parts(house, pooled["transaction"]):
        assert process.popen.wait(40) != 0
        assert "pool_mode = session" in process.log.splitlines()[-1]
        assert "Traceback" not in process.log
    assert (house.state(load.job_id), house.done_count(load.job_id)) == ("validating", 0)
    house.start_dispatcher()
    house.start_worker(**LONG_LEASE)
    house.wait_all_completed([load])
    assert verdict(house.count([load])).recomputed == 0


@pytest.mark.fault("F49", "a pooler in session mode before Postgres, and kill -9 of a worker behind it")
def test_through_a_pooler_that_keeps_sessions_apart_nothing_is_lost(house: House, pooled: Mapping[str, str], verdict: Verdict) -> None:
    """Leases, the lead, wake-ups, time limits, staging tables and prepared statements: what lives in a session."""
    load = house.load(texts(1_500))
    _, doomed = parts(house, pooled["session"])
    house.wait_done(load.job_id, 300)
    doomed.kill()
    house.start_worker(TEXTMILL_DATABASE_URL=pooled["session"])
    house.wait_all_completed([load])
    verdict(house.count([load]))
