import sys

import pytest

from db.errors import SettingsError
from workers.host.device import Pinned, describe, pin


def test_pinning_after_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    with pytest.raises(SettingsError, match="before torch is imported"):
        pin("cpu")


def test_a_cpu_is_described_by_what_decides_its_speed() -> None:
    assert describe(Pinned("cpu", 2, 2, 1)).startswith("cpu (2 cores, 2 lanes of 1; ")
