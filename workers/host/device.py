"""Pins this process to one device. Must run before torch is imported: CUDA and OpenMP read their environment once.

Light: what is there is read from /proc and /sys, not through torch.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from db.errors import SettingsError
from workers.engines.contract.cpu import all_cpu_flags

NVIDIA_GPUS: Final = Path("/proc/driver/nvidia/gpus")
NVIDIA_NODES: Final = Path("/dev")
PCI_DEVICES: Final = Path("/sys/bus/pci/devices")
CGROUP_CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")
QUIET: Final = {
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # cuda:N is the N that nvidia-smi shows
    "TOKENIZERS_PARALLELISM": "false",  # the shards' threads already run side by side
    "OMP_WAIT_POLICY": "PASSIVE",  # idle OpenMP threads must not spin on the cores that seal and parse
    "KMP_BLOCKTIME": "0",
    "HF_HUB_OFFLINE": "1",  # models come from the registry: no network at load
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True, slots=True)
class Pinned:
    """The device of this process. ``threads_per_lane`` is what OpenMP was told; ``cores`` what the process may use."""

    device: str
    cores: int
    lanes: int
    threads_per_lane: int


def pin(device: str, lanes: int | None = None, *, gpus: Path = NVIDIA_GPUS, nodes: Path = NVIDIA_NODES, pci: Path = PCI_DEVICES) -> Pinned:
    """Sets the environment (and, for a GPU, the CPU affinity) of this process.

    ``device`` is auto, cpu or cuda:N. On a CPU there is one lane a core by default, each of one thread: measured faster than one lane of
    all cores. Raises SettingsError where torch is already imported or the GPU is not there.
    """
    if "torch" in sys.modules:
        raise SettingsError("The device must be pinned before torch is imported: CUDA and OpenMP read their environment once.")
    names = gpu_names(gpus, nodes)
    if device == "auto":
        device = "cuda:0" if names and os.environ.get("CUDA_VISIBLE_DEVICES", "0") != "" else "cpu"
    os.environ.update(QUIET)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        index = int(device.removeprefix("cuda:"))
        if index >= len(names):
            raise SettingsError(f"TEXTMILL_DEVICE names {device}, and this machine shows {len(names)} NVIDIA GPU(s).")
        visible = os.environ["CUDA_VISIBLE_DEVICES"] = _visible(os.environ, index)
        if (name := _named(visible, names, gpus)) is not None:
            _move_near(pci / name / "local_cpulist")
    cores = available_cores()
    lane_count = lanes or (cores if device == "cpu" else 1)
    threads = max(1, cores // lane_count)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    return Pinned(device, cores, lane_count, threads)


def available_cores(cpu_max: Path = CGROUP_CPU_MAX) -> int:
    """Cores this process may use: its affinity, or the container's quota where that is smaller."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return cores


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The CPU's feature flags that decide which arithmetic is fast."""
    wanted = {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8", "amx_tile", "asimd", "bf16", "i8mm"}
    return all_cpu_flags(cpuinfo) & wanted


def describe(pinned: Pinned, *, gpus: Path = NVIDIA_GPUS, nodes: Path = NVIDIA_NODES) -> str:
    """One line for the log and for people: what this process runs on."""
    if pinned.device == "cpu":
        flags = " ".join(sorted(cpu_flags())) or "no known flags"
        return f"cpu ({pinned.cores} cores, {pinned.lanes} lanes of {pinned.threads_per_lane}; {flags})"
    name = _named(os.environ["CUDA_VISIBLE_DEVICES"], gpu_names(gpus, nodes), gpus)
    model = "NVIDIA GPU" if name is None else _told(gpus / name, "Model") or "NVIDIA GPU"
    return f"{pinned.device} ({model}, {pinned.cores} cores near it)"


def gpu_names(gpus: Path = NVIDIA_GPUS, nodes: Path = NVIDIA_NODES) -> list[str]:
    """PCI addresses in the order of PCI_BUS_ID; in a container that hides them, the names of the device nodes."""
    try:
        found = sorted(entry.name for entry in gpus.iterdir())
    except OSError:
        found = []
    return found or sorted(entry.name for entry in nodes.glob("nvidia[0-9]*"))


def _named(visible: str, names: list[str], gpus: Path) -> str | None:
    """Which of ``names`` CUDA_VISIBLE_DEVICES means, by number or by (the start of) its UUID; None where the driver does not tell."""
    if visible.isdigit():
        return names[int(visible)] if int(visible) < len(names) else None
    return next((name for name in names if _told(gpus / name, "GPU UUID").startswith(visible)), None)


def _told(gpu: Path, what: str) -> str:
    """What the driver tells of a GPU under that name; empty where it does not."""
    try:
        lines = (gpu / "information").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(what)), "")


def _visible(environment: Mapping[str, str], index: int) -> str:
    """The index-th of the GPUs this process may see already: a scheduler's choice is narrowed, never widened."""
    allowed = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if not allowed:
        return str(index)
    if index >= len(allowed):
        raise SettingsError(f"TEXTMILL_DEVICE names cuda:{index}, and CUDA_VISIBLE_DEVICES allows {len(allowed)} GPU(s).")
    return allowed[index]


def _move_near(cpulist: Path) -> None:
    """Runs on the cores beside the GPU, so that host memory is one hop away; leaves the affinity alone where that is unknown."""
    try:
        near = parse_cpulist(cpulist.read_text())
        allowed = os.sched_getaffinity(0) & near
        if allowed:
            os.sched_setaffinity(0, allowed)
    except (OSError, ValueError):
        return


def parse_cpulist(text: str) -> set[int]:
    """The kernel's list format: ``0-3,8,10-11``."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores
