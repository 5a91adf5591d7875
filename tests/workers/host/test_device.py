import os
import subprocess
import sys
from pathlib import Path

import pytest

PIN = """
import os, sys
from pathlib import Path
from workers.host.device import describe, pin
pinned = pin(sys.argv[1], gpus=Path(sys.argv[2]), pci=Path(sys.argv[3]))
assert "torch" not in sys.modules
print(pinned.device, os.environ["CUDA_VISIBLE_DEVICES"] or "none", os.environ["OMP_NUM_THREADS"], len(os.sched_getaffinity(0)))
print(describe(pinned, gpus=Path(sys.argv[2])))
"""


def pinned_in_a_process(device: str, gpus: Path, pci: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PIN, device, str(gpus), str(pci)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.stdout.split()


@pytest.fixture
def two_gpus(tmp_path: Path) -> tuple[Path, Path]:
    gpus, pci = tmp_path / "gpus", tmp_path / "pci"
    for address, cores in (("0000:07:00.0", "0"), ("0000:0a:00.0", "0-1")):
        (gpus / address).mkdir(parents=True)
        (gpus / address / "information").write_text(f"Model: \t NVIDIA H100 80GB HBM3\nGPU UUID: \t GPU-{address[5:7]}aa-1\n")
        (pci / address).mkdir(parents=True)
        (pci / address / "local_cpulist").write_text(cores + "\n")
    return gpus, pci


def test_auto_takes_the_first_gpu_and_moves_beside_it(two_gpus: tuple[Path, Path]) -> None:
    device, visible, _threads, cores, *_ = pinned_in_a_process("auto", *two_gpus, CUDA_VISIBLE_DEVICES="0,1")
    assert (device, visible, cores) == ("cuda:0", "0", "1")


def test_auto_is_the_cpu_where_there_is_no_gpu(tmp_path: Path) -> None:
    device, visible, threads, *_ = pinned_in_a_process("auto", tmp_path / "none", tmp_path)
    assert (device, visible, threads) == ("cpu", "none", "1")


def test_a_scheduler_that_hides_gpus_is_obeyed(two_gpus: tuple[Path, Path]) -> None:
    assert pinned_in_a_process("auto", *two_gpus, CUDA_VISIBLE_DEVICES="")[0] == "cpu"
    assert pinned_in_a_process("cuda:0", *two_gpus, CUDA_VISIBLE_DEVICES="1")[1] == "1"


@pytest.mark.parametrize(("allowed", "cores"), [("0", "1"), ("1", "2"), ("1,0", "2"), ("GPU-0aaa", "2"), ("GPU-unknown", "2")])
def test_the_cores_are_those_beside_the_gpu_that_a_scheduler_chose(two_gpus: tuple[Path, Path], allowed: str, cores: str) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core is beside every GPU")
    device, visible, _threads, near, *_ = pinned_in_a_process("cuda:0", *two_gpus, CUDA_VISIBLE_DEVICES=allowed)
    assert (device, visible, near) == ("cuda:0", allowed.partition(",")[0], cores)


def test_a_container_that_hides_pci_shows_its_gpus_as_device_nodes(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()
    script = (
        "import sys; from pathlib import Path; from workers.host.device import pin; "
        "print(pin('auto', gpus=Path('/no'), nodes=Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "device='cuda:0'" in done.stdout


def test_a_gpu_that_is_not_there_is_a_sentence(two_gpus: tuple[Path, Path]) -> None:
    script = "import sys; from pathlib import Path; from workers.host.device import pin; pin('cuda:9', gpus=Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, str(two_gpus[0])], capture_output=True, text=True, check=False)
    assert "this machine shows 2 NVIDIA GPU(s)" in done.stderr
