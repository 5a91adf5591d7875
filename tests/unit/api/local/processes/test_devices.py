"""Which devices of a machine get a worker, without a process."""

from pathlib import Path

import pytest

from api.local.processes.devices import devices, workers_on
from tests.machines import EIGHT, Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def on(machine: Machine, **environment: str) -> list[str]:
    return devices(environment, machine.root)


def test_a_machine_without_a_gpu_works_on_its_cpu(machine: Machine) -> None:
    assert on(machine) == on(machine, CUDA_VISIBLE_DEVICES="0") == ["cpu"]


def test_every_gpu_gets_a_worker(machine: Machine) -> None:
    machine.add_driver(EIGHT[:3])
    assert on(machine) == ["cuda:0", "cuda:1", "cuda:2"]
    assert on(machine, CUDA_VISIBLE_DEVICES="2,0") == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles", "3", "3,0", "-1,0", "0,0", "GPU-unknown"])
def test_gpus_that_are_hidden_get_none(machine: Machine, hidden: str) -> None:
    machine.add_driver(EIGHT[:3])
    assert on(machine, CUDA_VISIBLE_DEVICES=hidden) == ["cpu"]


def test_what_stands_behind_a_number_that_is_too_high_gets_none(machine: Machine) -> None:
    machine.add_driver(EIGHT[:3])
    assert on(machine, CUDA_VISIBLE_DEVICES="1,3,0") == ["cuda:0"]


def test_a_container_that_shows_device_nodes_alone_gets_a_worker_for_each(machine: Machine) -> None:
    machine.add_nodes()
    assert on(machine) == ["cpu"]
    machine.add_nodes(0, 1)
    assert on(machine) == ["cuda:0", "cuda:1"]
    assert on(machine, CUDA_VISIBLE_DEVICES="1,2") == ["cuda:0"]


def test_the_device_that_is_named_is_the_only_one(machine: Machine) -> None:
    machine.add_driver(EIGHT)
    assert on(machine, TEXTMILL_DEVICE="cuda:1") == ["cuda:1"]


def test_workers_are_dealt_round_the_devices_and_know_their_share() -> None:
    assert workers_on(["cuda:0", "cuda:1"], None) == [("worker-cuda0", "cuda:0", "1/1"), ("worker-cuda1", "cuda:1", "1/1")]
    assert workers_on(["cuda:0", "cuda:1"], 3) == [
        ("worker-cuda0", "cuda:0", "1/2"),
        ("worker-cuda1", "cuda:1", "1/1"),
        ("worker-cuda0-2", "cuda:0", "2/2"),
    ]
    assert workers_on(["cpu"], 2) == [("worker-cpu", "cpu", "1/2"), ("worker-cpu-2", "cpu", "2/2")]
    assert workers_on(["cpu"], 0) == []
    assert workers_on(["MIG-GPU-aa/1/0"], None) == [("worker-MIG-GPU-aa10", "MIG-GPU-aa/1/0", "1/1")]
