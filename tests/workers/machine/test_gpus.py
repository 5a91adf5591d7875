"""Which GPUs there are, from whom it is known, and what CUDA_VISIBLE_DEVICES leaves of them. torch's own reading is the judge."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from api.local.processes.devices import devices as devices_of_up
from tests.machines import EIGHT, Card, Machine
from workers.machine.gpus import Gpu, devices, installed, named, visible

SLICES = ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def eight(machine: Machine) -> Machine:
    machine.add_smi(EIGHT)
    return machine


@pytest.fixture
def cut(machine: Machine) -> Machine:
    """A whole GPU between one that is cut in two and one that is cut but has no slice yet."""
    machine.add_smi([Card(0, slices=SLICES), Card(1), Card(2, cut=True)])
    return machine


def seen(machine: Machine, wanted: str | None) -> list[str]:
    return [device.name for device in visible(installed(machine.root), {} if wanted is None else {"CUDA_VISIBLE_DEVICES": wanted})]


def test_a_machine_without_a_gpu_has_none(machine: Machine) -> None:
    assert installed(machine.root) == []
    assert seen(machine, "0") == seen(machine, EIGHT[0].uuid) == []


def test_nvidia_smi_tells_number_address_uuid_and_model(eight: Machine) -> None:
    gpu = installed(eight.root)[6]
    assert (gpu.index, gpu.uuid, gpu.pci, gpu.model, gpu.cut) == (6, EIGHT[6].uuid, EIGHT[6].pci, "NVIDIA H100 6", False)


def test_without_nvidia_smi_the_driver_tells(machine: Machine) -> None:
    machine.add_driver(EIGHT)
    told = installed(machine.root)
    assert [(gpu.index, gpu.uuid, gpu.pci) for gpu in told] == [(at, card.uuid, card.pci) for at, card in enumerate(EIGHT)]
    assert told[6].model == "NVIDIA H100 6"


def test_an_nvidia_smi_that_fails_is_as_none(machine: Machine) -> None:
    machine.add_driver(EIGHT[:2])
    machine.add_smi(EIGHT, fails=True)
    assert [gpu.pci for gpu in installed(machine.root)] == [card.pci for card in EIGHT[:2]]


def test_a_gpu_whose_device_node_a_container_was_not_given_is_not_there(machine: Machine) -> None:
    """The kernel's folders show all of the machine's; CUDA counts what it can open."""
    machine.add_driver(EIGHT)
    machine.add_nodes(6)
    assert [(gpu.index, gpu.pci) for gpu in installed(machine.root)] == [(0, EIGHT[6].pci)]


def test_where_all_else_is_hidden_the_device_nodes_are_counted(machine: Machine) -> None:
    machine.add_nodes(*range(11))
    assert [gpu.index for gpu in installed(machine.root)] == list(range(11))
    assert seen(machine, "10,2") == ["cuda:10", "cuda:2"]


def test_a_folder_of_the_driver_that_tells_nothing_is_a_gpu_all_the_same(machine: Machine) -> None:
    (machine.root / "proc/driver/nvidia/gpus" / EIGHT[0].pci).mkdir(parents=True)
    machine.add_nodes(0)
    assert [(gpu.index, gpu.pci, gpu.uuid) for gpu in installed(machine.root)] == [(0, EIGHT[0].pci, "")]


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (None, range(8)),
        ("6", [6]),
        ("3,1", [3, 1]),
        (" 3 , 1 ", [3, 1]),
        ("", []),
        (" ", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("none", []),
        ("all", []),
        ("void", []),
        ("2,-1,3", [2]),  # what means nothing hides what stands behind it
        ("2,8,3", [2]),
        ("99", []),
        ("2,,3", [2]),
        ("2,", [2]),
        ("1gpu2,2ampere", [1, 2]),  # read as strtoul does
        ("+5", [5]),
        ("3,3", []),  # twice hides all
        ("3,4,3", []),
        (EIGHT[6].uuid, [6]),
        (EIGHT[6].uuid[:8], [6]),
        (f"{EIGHT[2].uuid},{EIGHT[1].uuid}", [2, 1]),
        (f"2,{EIGHT[1].uuid}", [2, 1]),
        (f"2,{EIGHT[2].uuid}", []),  # the same one in other words
        (f"{EIGHT[2].uuid},GPU-unknown,{EIGHT[1].uuid}", [2]),
        ("GPU-", []),  # anybody's
        ("MIG-unknown", []),
    ],
)
def test_what_cuda_visible_devices_leaves(eight: Machine, wanted: str | None, left: list[int]) -> None:
    assert seen(eight, wanted) == [f"cuda:{number}" for number in left]


@given(words=st.lists(st.sampled_from(["0", "1", "2", "3", "+1", "-1", "7", "", " 2", "1x", "x"]), max_size=5))
def test_numbers_are_read_as_torch_reads_them(words: list[str]) -> None:
    gpus, wanted = [Gpu(number, card.uuid) for number, card in enumerate(EIGHT)], ",".join(words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", wanted)
        judged = torch.cuda._parse_visible_devices()
    assert [device.name for device in visible(gpus, {"CUDA_VISIBLE_DEVICES": wanted})] == [f"cuda:{number}" for number in judged]


@given(lengths=st.lists(st.tuples(st.integers(0, 3), st.integers(4, 40)), min_size=1, max_size=3))
def test_uuids_are_cut_short_as_torch_lets_them(lengths: list[tuple[int, int]]) -> None:
    uuids = ["GPU-aa00-1", "GPU-aa00-2", "GPU-ab", "GPU-cd"]
    wanted = [uuids[gpu][:length] for gpu, length in lengths]
    left = visible([Gpu(number, uuid) for number, uuid in enumerate(uuids)], {"CUDA_VISIBLE_DEVICES": ",".join(wanted)})
    judged = torch.cuda._transform_uuid_to_ordinals(wanted, uuids)
    assert [device.name for device in left] == [f"cuda:{number}" for number in judged]


def test_every_slice_gets_a_worker(cut: Machine) -> None:

    assert devices_of_up({}, cut.root) == ["cuda:0", "cuda:1", "cuda:2"]
    assert devices_of_up({"CUDA_VISIBLE_DEVICES": f"{SLICES[1]},1"}, cut.root) == ["cuda:0", "cuda:1"]


def test_a_gpu_that_is_cut_is_its_slices(cut: Machine) -> None:
    there = devices(installed(cut.root))
    assert [device.token for device in there] == [*SLICES, "1"]
    assert seen(cut, None) == ["MIG-c6d4f1ef", "MIG-cba663e8", "cuda:1"]


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (f"{SLICES[1]},{SLICES[0]}", ["MIG-cba663e8", "MIG-c6d4f1ef"]),
        ("MIG-cba", ["MIG-cba663e8"]),
        ("MIG-c", []),  # either's
        ("MIG-0000", []),
        (f"{SLICES[0]},MIG-0000,{SLICES[1]}", ["MIG-c6d4f1ef"]),
        (f"{SLICES[0]},1", ["MIG-c6d4f1ef", "cuda:1"]),
        (f"{SLICES[0]},{SLICES[0]}", []),
        ("0", ["MIG-c6d4f1ef"]),  # of a cut GPU CUDA shows the first slice
        (Card(0).uuid, ["MIG-c6d4f1ef"]),
        ("1,2", ["cuda:1"]),  # the last is cut and has none
        (f"MIG-{Card(0).uuid}/1/0", ["MIG-GPU-00aa"]),  # as drivers before R470 name a slice
        (f"MIG-{Card(0).uuid[:-1]}/1/0", []),
    ],
)
def test_slices_are_named_by_their_uuids(cut: Machine, wanted: str, left: list[str]) -> None:
    assert seen(cut, wanted) == left


@pytest.mark.parametrize("wanted", [SLICES[0], "GPU-0aaa", f"{SLICES[0]},{SLICES[1]}"])
def test_a_uuid_is_taken_on_trust_where_nobody_knows_any(machine: Machine, wanted: str) -> None:
    """In a container without nvidia-smi, which shows device nodes alone."""
    machine.add_nodes(6)
    left = visible(installed(machine.root), {"CUDA_VISIBLE_DEVICES": wanted})
    assert [device.token for device in left] == wanted.split(",")


def test_a_uuid_that_the_driver_does_not_know_is_nobodys(machine: Machine) -> None:
    machine.add_driver(EIGHT)
    assert seen(machine, "GPU-unknown") == []
    assert seen(machine, SLICES[0]) == ["MIG-c6d4f1ef"]  # it tells of no slices


def test_a_gpu_that_nobody_has_woken_shows_question_marks_for_a_uuid(machine: Machine) -> None:
    machine.add_driver(EIGHT[:1], woken=False)
    assert installed(machine.root)[0].uuid == ""
    assert seen(machine, EIGHT[0].uuid) == [EIGHT[0].uuid[:12]]


def test_a_device_is_named_by_what_cuda_takes(cut: Machine) -> None:
    assert named("MIG-cba663e8", installed(cut.root)) is not None
    assert named("cuda:0", installed(cut.root)) is None
