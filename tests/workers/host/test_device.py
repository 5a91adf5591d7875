"""A worker's device, as a fresh process pins itself: on a machine with eight GPUs on two nodes of 48 CPUs each, which this one is not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.machines import EIGHT, Card, Machine

PIN = """
import json, os, sys
from pathlib import Path
from db.errors import SettingsError
from workers.host.device import describe, pin
from workers.machine.cores import cpulist, read_cpulist
cpus = [read_cpulist(sys.argv[3])]
os.sched_getaffinity = lambda _pid: set(cpus[-1])
os.sched_setaffinity = lambda _pid, mask: cpus.append(frozenset(mask))
which, _, of = sys.argv[4].partition("/")
try:
    pinned = pin(sys.argv[1], root=Path(sys.argv[2]), share=(int(which), int(of)))
except SettingsError as error:
    print(json.dumps({"refused": error.message}))
    sys.exit()
assert "torch" not in sys.modules
facts = {"device": pinned.device, "visible": os.environ["CUDA_VISIBLE_DEVICES"], "threads": os.environ["OMP_NUM_THREADS"]}
print(json.dumps({**facts, "cpus": cpulist(cpus[-1]), "moved": len(cpus) > 1, "told": describe(pinned)}))
"""


def pinned(device: str, machine: Machine, visible: str | None = None, *, cpus: str = "0-95", share: str = "1/1") -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    command = [sys.executable, "-c", PIN, device, str(machine.root), cpus, share]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.add_driver(EIGHT)
    return machine


def test_auto_is_the_cpu_where_there_is_no_gpu(tmp_path: Path) -> None:
    found = pinned("auto", Machine(tmp_path), cpus="0-3")
    assert (found["device"], found["visible"], found["threads"], found["moved"]) == ("cpu", "", "1", False)


def test_auto_takes_the_first_gpu_and_its_share_of_the_cpus_beside_it(machine: Machine) -> None:
    found = pinned("auto", machine)
    assert (found["device"], found["visible"], found["cpus"], found["threads"]) == ("cuda:0", "0", "0-11", "12")


@pytest.mark.parametrize("visible", ["6", EIGHT[6].uuid, EIGHT[6].uuid[:9], "6,0"])
@pytest.mark.parametrize("device", ["auto", "cuda:0"])
def test_the_gpu_that_a_scheduler_chose_is_the_one_that_is_pinned_to_and_named(machine: Machine, device: str, visible: str) -> None:
    found = pinned(device, machine, visible)
    assert (found["device"], found["visible"], found["cpus"]) == ("cuda:6", "6", "72-83")
    assert found["told"] == f"cuda:6 (NVIDIA H100 6, {EIGHT[6].uuid}, {EIGHT[6].pci}; 12 cores of CPUs 72-83)"


def test_a_number_counts_those_that_a_scheduler_left(machine: Machine) -> None:
    assert pinned("cuda:1", machine, "6,3")["device"] == "cuda:3"
    assert pinned("cuda:3", machine)["device"] == "cuda:3"


def test_a_uuid_names_a_device(machine: Machine) -> None:
    machine.add_smi([Card(0, slices=["MIG-aa-1", "MIG-bb-2"]), EIGHT[1]])
    assert pinned(EIGHT[1].uuid[:9], machine)["device"] == "cuda:1"
    found = pinned("MIG-bb", machine)
    assert (found["device"], found["visible"]) == ("MIG-bb-2", "MIG-bb-2")
    assert "MIG-bb" in pinned("MIG-bb", machine, "MIG-aa-1")["refused"]


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles", "8", "8,0", "0,0", "GPU-unknown"])
def test_gpus_that_are_hidden_are_not_used(machine: Machine, hidden: str) -> None:
    found = pinned("auto", machine, hidden)
    assert (found["device"], found["visible"], found["moved"]) == ("cpu", "", False)
    assert pinned("cuda:0", machine, hidden)["refused"].endswith(
        "cuda:0, and this machine shows 8 NVIDIA GPU(s), of which CUDA_VISIBLE_DEVICES allows 0 device(s)."
    )


def test_a_gpu_that_is_not_there_is_a_sentence(machine: Machine) -> None:
    assert pinned("cuda:9", machine)["refused"] == "TEXTMILL_DEVICE names cuda:9, and this machine shows 8 NVIDIA GPU(s)."


def test_workers_of_one_gpu_share_its_cpus(machine: Machine) -> None:
    shares = [pinned("cuda:5", machine, share=f"{which}/3")["cpus"] for which in (1, 2, 3)]
    assert shares == ["60-63", "64-67", "68-71"]


def test_slices_of_one_gpu_share_its_cpus(machine: Machine) -> None:
    machine.add_smi([Card(0, "0-47", ["MIG-a", "MIG-b"]), *EIGHT[1:4]])
    assert [pinned(f"cuda:{place}", machine)["cpus"] for place in range(3)] == ["0-9", "10-19", "20-29"]


def test_what_a_container_may_not_use_is_not_shared_out(machine: Machine) -> None:
    assert pinned("cuda:6", machine, cpus="40-55")["cpus"] == "52-53"


def test_where_none_of_the_cpus_beside_a_gpu_may_be_used_the_others_are(machine: Machine) -> None:
    assert pinned("cuda:6", machine, cpus="0-7")["cpus"] not in {"", "0-7"}


def test_gpus_of_no_node_share_all_cpus(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.add_driver([Card(0), Card(1)])
    for card in (Card(0), Card(1)):
        machine.write(f"sys/bus/pci/devices/{card.pci}/numa_node", "-1\n")
        machine.write(f"sys/bus/pci/devices/{card.pci}/local_cpulist", "\n")
    assert [pinned(f"cuda:{number}", machine, cpus="0-7")["cpus"] for number in (0, 1)] == ["0-3", "4-7"]


def test_a_node_is_asked_for_its_cpus_where_the_gpu_does_not_list_them(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.add_driver([Card(0)])
    machine.write(f"sys/bus/pci/devices/{Card(0).pci}/numa_node", "1\n")
    machine.write("sys/devices/system/node/node1/cpulist", "4-7\n")
    assert pinned("auto", machine, cpus="0-7")["cpus"] == "4-7"


def test_a_containers_quota_is_shared_out_too(machine: Machine) -> None:
    machine.add_groups("0::/\n", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    machine.write("sys/fs/cgroup/cpu.max", "3200000 100000\n")
    assert pinned("cuda:0", machine)["threads"] == "4"
    assert pinned("cuda:0", machine, share="2/2")["threads"] == "2"
    assert pinned("cpu", machine)["threads"] == "1"


def test_a_gpu_that_is_taken_on_trust_leaves_the_affinity_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.add_nodes(6)
    found = pinned("auto", machine, "GPU-0aaa-1111-2222", cpus="0-7")
    assert (found["device"], found["visible"], found["cpus"], found["moved"]) == ("GPU-0aaa-111", "GPU-0aaa-1111-2222", "0-7", False)
