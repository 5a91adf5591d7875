"""The kernel's lists of CPUs, and how workers share them."""

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import Machine
from workers.machine.cores import cpulist, read_cpulist, shared_out, whole_cores


def alone(cpus: range) -> list[frozenset[int]]:
    return [frozenset({cpu}) for cpu in cpus]


def test_the_kernels_list_of_cpus_is_read_and_written() -> None:
    assert read_cpulist("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}
    assert cpulist(read_cpulist("10-11,0-3,8")) == "0-3,8,10-11"
    with pytest.raises(ValueError, match="invalid literal"):
        read_cpulist("\n")


def test_gpus_of_one_node_share_its_cpus_without_overlap() -> None:
    first, second = frozenset(range(48)), frozenset(range(48, 96))
    shares = shared_out([first] * 4 + [second] * 4, alone(range(96)))
    assert [cpulist(share) for share in shares] == ["0-11", "12-23", "24-35", "36-47", "48-59", "60-71", "72-83", "84-95"]


def test_hardware_threads_of_one_core_stay_together(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.add_siblings([(core, core + 8) for core in range(8)])
    allowed = frozenset(range(16))
    shares = shared_out([allowed] * 3, whole_cores(allowed, machine.root))
    assert [cpulist(share) for share in shares] == ["0-2,8-10", "3-5,11-13", "6-7,14-15"]


def test_a_sibling_that_this_process_may_not_use_is_not_counted(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.add_siblings([(0, 2), (1, 3)])
    assert whole_cores(frozenset({0, 1, 2}), machine.root) == [{0, 2}, {1}]


def test_a_gpu_without_a_node_takes_what_the_others_leave() -> None:
    """Its CPUs are all there are, so that those of one node alone are for the GPU beside them."""
    everywhere, node = frozenset(range(8)), frozenset(range(4, 8))
    assert shared_out([everywhere, node], alone(range(8))) == [{0, 1, 2, 3}, node]


def test_more_workers_than_cores_have_one_each() -> None:
    shares = shared_out([frozenset({0, 1})] * 5, alone(range(2)))
    assert all(len(share) == 1 for share in shares)
    assert frozenset().union(*shares) == {0, 1}


@given(
    near=st.lists(st.frozensets(st.integers(0, 11), min_size=1), min_size=1, max_size=6),
    width=st.sampled_from([1, 2, 3]),
)
def test_no_core_has_two_workers_while_each_worker_has_another(near: list[frozenset[int]], width: int) -> None:
    whole = [frozenset(range(first, first + width)) for first in range(0, 12, width)]
    shares = shared_out(near, whole)
    for share, cpus in zip(shares, near, strict=True):
        assert share
        assert all(core & cpus and core <= share for core in whole if core & share)  # beside its GPU, and no core cut in two
    wide = [share for share in shares if len(share) > width]
    assert all(not one & other for one, other in combinations(wide, 2))
