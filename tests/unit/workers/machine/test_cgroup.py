"""What control groups allow, in both versions, nested and seen from inside of a container."""

from pathlib import Path

import pytest

from tests.machines import Machine
from workers.machine.cgroup import Limits, limits
from workers.machine.cores import cores, quota
from workers.machine.memory import allowed_bytes, total_bytes

V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "25 18 0:22 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n"
    "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:13 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 25 0:28 / /sys/fs/cgroup/memory rw,nosuid shared:14 - cgroup cgroup rw,memory\n"
)
IN_V1 = "4:memory:/kubepods/pod7/box\n3:cpu,cpuacct:/kubepods/pod7/box\n1:name=systemd:/kubepods/pod7/box\n"
GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def v1_group(machine: Machine, path: str, *, quota_us: int, period_us: int = 100_000, memory: int) -> None:
    machine.write(f"sys/fs/cgroup/cpu,cpuacct/{path}/cpu.cfs_quota_us", f"{quota_us}\n")
    machine.write(f"sys/fs/cgroup/cpu,cpuacct/{path}/cpu.cfs_period_us", f"{period_us}\n")
    machine.write(f"sys/fs/cgroup/memory/{path}/memory.limit_in_bytes", f"{memory}\n")


def test_a_machine_without_control_groups_limits_nothing(machine: Machine) -> None:
    assert limits(machine.root) == Limits(None, None)
    assert quota(machine.root) >= 1024


def test_the_lowest_limit_on_the_way_to_the_root_counts(machine: Machine) -> None:
    machine.add_groups("0::/textmill.slice/textmill-worker.slice/cpu.service\n", V2)
    for path, cpu, memory in (
        ("", "max 100000", "max"),
        ("textmill.slice", "350000 100000", str(4 * GIB)),
        ("textmill.slice/textmill-worker.slice", "800000 100000", "max"),
        ("textmill.slice/textmill-worker.slice/cpu.service", "max 100000", str(6 * GIB)),
    ):
        machine.write(f"sys/fs/cgroup/{path}/cpu.max", cpu + "\n")
        machine.write(f"sys/fs/cgroup/{path}/memory.max", memory + "\n")
    assert limits(machine.root) == Limits(3.5, 4 * GIB)
    assert quota(machine.root) == 3


def test_a_neighbours_limit_is_none_of_ours(machine: Machine) -> None:
    machine.add_groups("0::/ours\n", V2)
    machine.write("sys/fs/cgroup/ours/cpu.max", "max 100000\n")
    machine.write("sys/fs/cgroup/ours-too/cpu.max", "100000 100000\n")
    assert limits(machine.root).cpus is None


def test_a_container_of_version_2_is_the_root_of_what_it_sees(machine: Machine) -> None:
    machine.add_groups("0::/\n", V2)
    machine.write("sys/fs/cgroup/cpu.max", "150000 100000\n")
    machine.write("sys/fs/cgroup/memory.max", f"{2 * GIB}\n")
    assert limits(machine.root) == Limits(1.5, 2 * GIB)


@pytest.mark.parametrize("path", ["/docker/0ff1ce", "/../../init.scope"])
def test_a_path_from_above_the_mount_means_the_mount(machine: Machine, path: str) -> None:
    machine.add_groups(f"0::{path}\n", V2)
    machine.write("sys/fs/cgroup/cpu.max", "200000 100000\n")
    assert limits(machine.root).cpus == 2


def test_version_1_is_nested_too(machine: Machine) -> None:
    machine.add_groups(IN_V1, V1)
    v1_group(machine, "", quota_us=-1, memory=0x7FFFFFFFFFFFF000)
    v1_group(machine, "kubepods", quota_us=-1, memory=64 * GIB)
    v1_group(machine, "kubepods/pod7", quota_us=25_000, period_us=10_000, memory=3 * GIB)
    v1_group(machine, "kubepods/pod7/box", quota_us=400_000, memory=0x7FFFFFFFFFFFF000)
    assert limits(machine.root) == Limits(2.5, 3 * GIB)


def test_a_container_of_version_1_sees_its_own_group_at_the_mount(machine: Machine) -> None:
    mounts = V1.replace(" / /sys/fs/cgroup/", " /kubepods/pod7/box /sys/fs/cgroup/")
    machine.add_groups(IN_V1, mounts)
    v1_group(machine, "", quota_us=200_000, memory=GIB)
    assert limits(machine.root) == Limits(2.0, GIB)


def test_both_versions_at_once_count_together(machine: Machine) -> None:
    """As systemd lays it out between the two: controllers in version 1, processes in version 2."""
    unified = "33 25 0:29 / /sys/fs/cgroup/unified rw shared:15 - cgroup2 cgroup2 rw\n"
    machine.add_groups(IN_V1 + "0::/kubepods\n", V1 + unified)
    v1_group(machine, "kubepods/pod7/box", quota_us=300_000, memory=2 * GIB)
    machine.write("sys/fs/cgroup/unified/kubepods/memory.max", f"{GIB}\n")
    assert limits(machine.root) == Limits(3.0, GIB)


@pytest.mark.parametrize("text", ["", "max", "100000", "100000 0", "much 100000", "max max"])
def test_what_cannot_be_read_limits_nothing(machine: Machine, text: str) -> None:
    machine.add_groups("0::/\nnonsense\n", V2 + "nonsense\n31 - cgroup\n")
    machine.write("sys/fs/cgroup/cpu.max", text)
    assert limits(machine.root).cpus is None


def test_a_quota_below_one_cpu_still_leaves_one_thread(machine: Machine) -> None:
    machine.add_groups("0::/\n", V2)
    machine.write("sys/fs/cgroup/cpu.max", "25000 100000\n")
    assert quota(machine.root) == cores(machine.root) == 1


def test_memory_is_what_is_allowed_of_it(machine: Machine) -> None:
    machine.add_groups("0::/\n", V2)
    whole = total_bytes(machine.root)
    machine.write("sys/fs/cgroup/memory.max", f"{1 << 60}\n")
    assert (allowed_bytes(machine.root), total_bytes(machine.root)) == (None, whole)
    machine.write("sys/fs/cgroup/memory.max", f"{300 << 20}\n")
    assert (allowed_bytes(machine.root), total_bytes(machine.root)) == (300 << 20, 300 << 20)
