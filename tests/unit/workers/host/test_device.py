import os
import sys
from pathlib import Path

import pytest

from db.errors import SettingsError
from workers.host.device import Pinned, available_cores, describe, parse_cpulist, pin


def test_pinning_after_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    with pytest.raises(SettingsError, match="before torch is imported"):
        pin("cpu")


def test_a_containers_quota_counts(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    assert available_cores(quota) == 1
    quota.write_text("max 100000\n")
    assert available_cores(quota) == len(os.sched_getaffinity(0))


def test_the_kernels_list_of_cores_is_read() -> None:
    assert parse_cpulist("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}


def test_a_cpu_is_described_by_what_decides_its_speed() -> None:
    assert describe(Pinned("cpu", 2, 2, 1)).startswith("cpu (2 cores, 2 lanes of 1; ")
