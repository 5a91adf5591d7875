"""The NVIDIA GPUs that a process here could use, and which of them it may.

What there is: nvidia-smi says it, with the slices of MIG; where it is missing or fails, the driver's folder under /proc, and of a container
that hides that too the device nodes. Which may be used: CUDA_VISIBLE_DEVICES, read as CUDA reads it.
Sources: the CUDA programming guide on environment variables; torch.cuda._parse_visible_devices; NVIDIA's MIG user guide.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from workers.machine.cgroup import ROOT

ASK_SECONDS: Final = 20.0  # without the persistence daemon the driver wakes every GPU first
QUERY: Final = "--query-gpu=index,uuid,pci.bus_id,mig.mode.current,name"
SLICED: Final = "Enabled"
NUMBER: Final = re.compile(r"\+?\d+")  # CUDA reads as strtoul does: what stands behind the digits counts for nothing
LISTED_GPU: Final = re.compile(r"GPU (\d+):")
LISTED_SLICE: Final = re.compile(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)")
ADDRESS: Final = re.compile(r"[0-9a-fA-F]+")
OLD_SLICE: Final = re.compile(r"MIG-(GPU-[^/]+)/\d+/\d+")  # of drivers before R470: by the GPU and two numbers
SHORT: Final = 12  # characters of a UUID, with its kind: what people tell one from another by, and what CUDA takes


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. ``index`` is nvidia-smi's number; ``uuid``, ``pci`` (as the kernel writes it: 0000:65:00.0) and ``model`` are empty where
    nobody tells. ``cut``: whether MIG has cut it into ``slices``, which are UUIDs; None: nobody tells."""

    index: int
    uuid: str = ""
    pci: str = ""
    model: str = ""
    cut: bool | None = None
    slices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """What one worker runs on: a whole GPU, or a slice of one. ``token`` in CUDA_VISIBLE_DEVICES makes a process see it alone. ``gpu``
    None: its UUID is taken on trust."""

    token: str
    gpu: Gpu | None

    @property
    def name(self) -> str:
        """For people: cuda:N with nvidia-smi's number, or the beginning of a UUID."""
        return self.token[:SHORT] if self.gpu is None or self._is_slice else f"cuda:{self.gpu.index}"

    def is_same(self, other: "Device") -> bool:
        """Whether both name one device, be it in other words."""
        if self.gpu is None or other.gpu is None or self._is_slice or other._is_slice:
            return self.token == other.token
        return self.gpu == other.gpu

    @property
    def _is_slice(self) -> bool:
        return self.token.startswith("MIG-")


def installed(root: Path = ROOT) -> list[Gpu]:
    """In nvidia-smi's order, which is that of their PCI addresses; less those whose device node this container was not given."""
    return _told_by_smi(root) or _told_by_the_driver(root) or _shown_as_nodes(root)


def devices(gpus: list[Gpu]) -> list[Device]:
    """All that there is to run on: each whole GPU, each slice of the others."""
    return [device for gpu in gpus for device in _devices_of(gpu)]


def visible(gpus: list[Gpu], environment: Mapping[str, str] = os.environ) -> list[Device]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order.

    As CUDA does: the first name that means nothing (-1, NoDevFiles, a number that is too high, a UUID that is no one's) hides what stands
    behind it, and a device that is named twice hides all. Of a GPU that is cut into slices a number means the first one.
    """
    wanted = environment.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return devices(gpus)
    found: list[Device] = []
    for name in wanted.split(","):
        if (device := named(name.strip(), gpus)) is None:
            break
        if any(device.is_same(other) for other in found):
            return []
        found.append(device)
    return found


def named(name: str, gpus: list[Gpu]) -> Device | None:
    """What one word of CUDA_VISIBLE_DEVICES means. A UUID may be cut short as long as it is one's alone; where the UUIDs are not known
    here, as they are not without nvidia-smi, it is taken on trust."""
    if number := NUMBER.match(name):
        gpu = next((gpu for gpu in gpus if gpu.index == int(number[0])), None)
        return None if gpu is None else next(_devices_of(gpu), None)
    if old := OLD_SLICE.fullmatch(name):
        return next((Device(name, gpu) for gpu in gpus if gpu.uuid in {old[1], ""}), None)
    if name.startswith("GPU-"):
        fit = [device for gpu in gpus if gpu.uuid.startswith(name) for device in islice(_devices_of(gpu), 1)]
        told = all(gpu.uuid for gpu in gpus)
    elif name.startswith("MIG-"):
        fit = [Device(one, gpu) for gpu in gpus for one in gpu.slices if one.startswith(name)]
        told = all(gpu.cut is not None for gpu in gpus)
    else:
        return None
    if fit:
        return fit[0] if len(fit) == 1 else None
    return None if told else Device(name, None)


def _devices_of(gpu: Gpu) -> Iterator[Device]:
    if gpu.cut:
        yield from (Device(slice_, gpu) for slice_ in gpu.slices)
    else:
        yield Device(str(gpu.index), gpu)


def _told_by_smi(root: Path) -> list[Gpu]:
    gpus = [gpu for line in _smi(root, QUERY, "--format=csv,noheader") if (gpu := _read(line)) is not None]
    if not any(gpu.cut for gpu in gpus):
        return gpus
    slices: dict[int, list[str]] = {}
    listed = ""
    for line in _smi(root, "-L"):
        if of := LISTED_GPU.match(line):
            listed = of[1]
        elif listed and (of := LISTED_SLICE.match(line)):
            slices.setdefault(int(listed), []).append(of[1])
    return [replace(gpu, slices=tuple(slices.get(gpu.index, ()))) if gpu.cut else gpu for gpu in gpus]


def _read(line: str) -> Gpu | None:
    """A line that answers `QUERY`; None where it is none, as a message of nvidia-smi's about the driver."""
    index, uuid, pci, mig, model = (*(field.strip() for field in line.split(",", 4)), "", "", "", "", "")[:5]
    if not index.isdigit():
        return None
    return Gpu(int(index), uuid, _kernels_address(pci), model, mig == SLICED)


def _kernels_address(pci: str) -> str:
    """nvidia-smi writes the domain with eight digits and in capitals, the kernel with four and in small letters."""
    domain, _, rest = pci.lower().partition(":")
    try:
        return f"{int(domain, 16):04x}:{rest}"
    except ValueError:
        return ""


def _smi(root: Path, *arguments: str) -> list[str]:
    program = shutil.which("nvidia-smi", path=None if root == ROOT else str(root / "usr/bin"))
    if program is None:
        return []
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=ASK_SECONDS, check=False)  # noqa: S603 -- the driver's own program
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _told_by_the_driver(root: Path) -> list[Gpu]:
    """Where a container sees the folders of the whole machine's GPUs, those count whose device nodes it has."""
    try:
        folders = sorted(
            (root / "proc/driver/nvidia/gpus").iterdir(), key=lambda folder: [int(part, 16) for part in ADDRESS.findall(folder.name)]
        )
    except OSError:
        return []
    minors = _minors(root)
    told = [(folder.name, facts) for folder in folders for facts in [_information(folder)]]
    here = [(pci, facts) for pci, facts in told if not minors or facts.get("Device Minor") in {None, *map(str, minors)}]
    return [Gpu(index, facts.get("GPU UUID", ""), pci, facts.get("Model", "")) for index, (pci, facts) in enumerate(here)]


def _information(folder: Path) -> dict[str, str]:
    """What the driver tells of a GPU; without its UUID until somebody has woken it, for that is question marks."""
    try:
        lines = (folder / "information").read_text().splitlines()
    except OSError:
        return {}
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {name: value for name, value in told.items() if "?" not in value}


def _shown_as_nodes(root: Path) -> list[Gpu]:
    return [Gpu(index) for index, _ in enumerate(_minors(root))]


def _minors(root: Path) -> list[int]:
    nodes = (root / "dev").glob("nvidia[0-9]*")
    return sorted(int(minor) for node in nodes if (minor := node.name.removeprefix("nvidia")).isdigit())
