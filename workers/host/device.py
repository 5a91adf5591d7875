"""Pins this process to one device. Must run before torch is imported: CUDA and OpenMP read their environment once."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from db.errors import SettingsError
from workers.machine import gpus
from workers.machine.cgroup import ROOT
from workers.machine.cores import cores, cpulist, quota, read_cpulist, shared_out, whole_cores
from workers.machine.cpu import telling_flags
from workers.machine.gpus import Device, Gpu

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
    """The device of this process: ``cpu``, or what the machine calls it, whatever number the process sees it under. ``threads_per_lane`` is
    what OpenMP was told; ``cores`` what the process may keep busy."""

    device: str
    cores: int
    lanes: int
    threads_per_lane: int
    gpu: Gpu | None = None


def pin(device: str, lanes: int | None = None, *, share: tuple[int, int] = (1, 1), root: Path = ROOT) -> Pinned:
    """Sets the environment (and, for a GPU, the CPU affinity) of this process.

    ``device`` is auto, cpu, cuda:N (the N-th of those that CUDA_VISIBLE_DEVICES leaves: a scheduler's choice is narrowed, never widened),
    or a UUID; ``share`` (2, 3) makes this the second of three workers on that GPU. On a CPU there is one lane a core by default, each of
    one thread: measured faster than one lane of all cores. Raises SettingsError where torch is already imported or the GPU is not there.
    """
    if "torch" in sys.modules:
        raise SettingsError("The device must be pinned before torch is imported: CUDA and OpenMP read their environment once.")
    there = [] if device == "cpu" else gpus.installed(root)
    chosen = _chosen(device, there)
    os.environ.update(QUIET)
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if chosen is None else chosen.token
    usable = cores(root) if chosen is None else _move_beside(chosen, gpus.devices(there), share, root)
    lane_count = lanes or (usable if chosen is None else 1)
    threads = max(1, usable // lane_count)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    return Pinned("cpu", usable, lane_count, threads) if chosen is None else Pinned(chosen.name, usable, lane_count, threads, chosen.gpu)


def describe(pinned: Pinned) -> str:
    """One line for the log and for people: what this process runs on."""
    if pinned.device == "cpu":
        flags = " ".join(sorted(telling_flags())) or "no known flags"
        return f"cpu ({pinned.cores} cores, {pinned.lanes} lanes of {pinned.threads_per_lane}; {flags})"
    gpu = pinned.gpu or Gpu(0)
    facts = [gpu.model or "NVIDIA GPU", gpu.uuid, gpu.pci]
    return f"{pinned.device} ({', '.join(filter(None, facts))}; {pinned.cores} cores of CPUs {cpulist(os.sched_getaffinity(0))})"


def _chosen(device: str, there: list[Gpu]) -> Device | None:
    """None: the CPU."""
    seen = gpus.visible(there)
    if device == "cpu" or (device == "auto" and not seen):
        return None
    if device == "auto":
        return seen[0]
    if device.startswith("cuda:"):
        found = next(iter(seen[int(device.removeprefix("cuda:")) :]), None)
    else:
        wanted = gpus.named(device, there)
        found = next((one for one in seen if wanted is not None and one.is_same(wanted)), None)
    if found is None:
        shown = f"this machine shows {len(there)} NVIDIA GPU(s)"
        allowed = "" if "CUDA_VISIBLE_DEVICES" not in os.environ else f", of which CUDA_VISIBLE_DEVICES allows {len(seen)} device(s)"
        raise SettingsError(f"TEXTMILL_DEVICE names {device}, and {shown}{allowed}.")
    return found


def _move_beside(chosen: Device, all_devices: list[Device], share: tuple[int, int], root: Path) -> int:
    """Moves this process to its share of the CPUs beside its GPU, so that host memory is one hop away and no worker is in another's way.
    Returns how many it can keep busy there.

    Each device of the machine has its part, whether a worker runs on it or not: workers that are started one by one know nothing of each
    other. One that is not known here leaves the affinity alone.
    """
    allowed = frozenset(os.sched_getaffinity(0))
    which, of = share
    place = next((index for index, device in enumerate(all_devices) if device.is_same(chosen)), None)
    if place is not None:
        near = [_beside(device, root) & allowed or allowed for device in all_devices]
        part = shared_out(near, whole_cores(allowed, root))[place]
        with suppress(OSError):
            os.sched_setaffinity(0, shared_out([part] * of, whole_cores(part, root))[which - 1])
    return max(1, min(len(os.sched_getaffinity(0)), quota(root) // (max(1, len(all_devices)) * of)))


def _beside(device: Device, root: Path) -> frozenset[int]:
    """The CPUs of the GPU's NUMA node; none where it belongs to none, or nobody tells."""
    if device.gpu is None or not device.gpu.pci:
        return frozenset()
    folder = root / "sys/bus/pci/devices" / device.gpu.pci
    with suppress(OSError, ValueError):
        return read_cpulist((folder / "local_cpulist").read_text())
    with suppress(OSError, ValueError):
        node = int((folder / "numa_node").read_text())
        return read_cpulist((root / f"sys/devices/system/node/node{node}/cpulist").read_text())
    return frozenset()
