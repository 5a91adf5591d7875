"""F01 to F09: kill -9 at known places of a shard's life."""

import pytest

from tests.faults.conftest import Verdict
from tests.faults.house import House


@pytest.mark.fault("F04", "kill -9 during the model")
def test_a_worker_killed_in_the_model(house: House, verdict: Verdict) -> None:
    loads = house.load_all(2_000)
    house.start_dispatcher()
    victim = house.start_worker(delay_ms=2)
    house.start_worker(delay_ms=2)
    house.wait_done(loads[0].job_id, 100, loads[0].actor)
    victim.kill()
    house.wait_all_completed(loads)
    verdict(house.count(loads), fenced=house.fenced())
