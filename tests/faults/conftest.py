from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from db.actors import Actor
from db.connect import Store
from db.settings import Role, StoreSettings
from tests.faults.house import House


@pytest.fixture
def house(settings: StoreSettings, stores: Callable[[Role], Store], tenant: Actor, valkey: str, tmp_path: Path) -> Iterator[House]:
    made = House(settings, stores(Role.API), tenant, tmp_path, valkey)
    yield made
    made.stop()
