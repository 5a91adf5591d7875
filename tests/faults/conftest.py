from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from db.actors import Actor
from db.connect import Store
from db.settings import Role, StoreSettings
from tests.faults.counters import Counters
from tests.faults.house import House
from tests.faults.plugin import COUNTED, FACTS

Verdict = Callable[..., Counters]


@pytest.fixture
def house(settings: StoreSettings, stores: Callable[[Role], Store], tenant: Actor, valkey: str, tmp_path: Path) -> Iterator[House]:
    made = House(settings, stores(Role.API), tenant, tmp_path, valkey)
    yield made
    made.stop()


@pytest.fixture
def verdict(request: pytest.FixtureRequest) -> Verdict:
    """``verdict(counters, rec_s=1.2, fenced=3)``: puts them in the table and asserts what must be 0 for every fault. Several calls in one
    test: each is asserted, the last is shown."""

    def give(counters: Counters, **facts: object) -> Counters:
        request.node.stash[COUNTED] = counters
        request.node.stash[FACTS] = facts
        assert counters.clean, counters
        return counters

    return give
