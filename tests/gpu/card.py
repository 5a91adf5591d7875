"""The NVIDIA GPUs of this machine as the driver shows them, and how busy one is. Needs no torch and no package of ours.

NVML's own binding (nvidia-ml-py) is asked where it is installed, else nvidia-smi. Its utilisation is the share of the last sample period
(a sixth of a second to one second, by product) in which any kernel ran; with MIG there is none.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

PROC: Final = Path("/proc/driver/nvidia/gpus")
NODES: Final = Path("/dev")
SAMPLE_SECONDS: Final = 0.2
QUERY: Final = ("index", "name", "uuid", "pci.bus_id", "memory.total", "driver_version", "mig.mode.current", "compute_cap")


@dataclass(frozen=True, slots=True)
class Card:
    index: int
    name: str
    uuid: str
    pci: str  # as the kernel writes it: 0000:65:00.0
    memory_mib: int
    driver: str
    mig: bool
    capability: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def present(proc: Path = PROC, nodes: Path = NODES) -> bool:
    """Whether there is an NVIDIA GPU at all. A container may hide the driver's folder and show only the device nodes."""
    with suppress(OSError):
        if any(proc.iterdir()):
            return True
    return any(nodes.glob("nvidia[0-9]*"))


def cards() -> list[Card]:
    """In the order of their PCI addresses, as nvidia-smi numbers them. Empty where nvidia-smi is missing or fails."""
    return [card for line in _smi("--query-gpu=" + ",".join(QUERY)) if (card := read_card(line)) is not None]


def read_card(line: str) -> Card | None:
    """A line of nvidia-smi's CSV; None where it is not one."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != len(QUERY) or not fields[0].isdigit():
        return None
    index, name, uuid, pci, memory, driver, mig, capability = fields
    return Card(int(index), name, uuid, pci.lower()[-12:], int(memory) if memory.isdigit() else 0, driver, mig == "Enabled", capability)


def own_index(environment: Mapping[str, str] = os.environ) -> int:
    """The number, for nvidia-smi, of the GPU that torch calls cuda:0 here."""
    first = environment.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    if first.isdigit():
        return int(first)
    return next((card.index for card in cards() if first and card.uuid.startswith(first)), 0)


def _smi(query: str, index: int | None = None) -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    chosen = [] if index is None else [f"--id={index}"]
    command = [program, query, *chosen, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


@dataclass(frozen=True, slots=True)
class Reading:
    """``busy_percent`` None: this GPU does not say (MIG)."""

    busy_percent: float | None
    used_bytes: int


Read = Callable[[], Reading | None]


def reader(index: int) -> tuple[Read, str]:
    """How the GPU of this index is read here, and the name of that way."""
    try:
        import pynvml  # type: ignore[import-not-found, unused-ignore]

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except Exception:  # not installed, or no NVML here
        return lambda: _read_smi(index), "nvidia-smi"

    def read() -> Reading | None:
        busy: float | None
        try:
            busy = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        except pynvml.NVMLError:
            busy = None
        try:
            return Reading(busy, int(pynvml.nvmlDeviceGetMemoryInfo(handle).used))
        except pynvml.NVMLError:
            return None

    return read, "NVML"


def _read_smi(index: int) -> Reading | None:
    lines = _smi("--query-gpu=utilization.gpu,memory.used", index)
    if not lines:
        return None
    busy, _, used = (part.strip() for part in lines[0].partition(","))
    try:
        return Reading(float(busy) if busy.replace(".", "").isdigit() else None, int(used) << 20)
    except ValueError:
        return None


class Watch:
    """Reads the GPU every fifth of a second while the block runs. Without a GPU (``index`` None) it reads nothing."""

    def __init__(self, index: int | None) -> None:
        self._read: Read
        self._read, self.way = (lambda: None, "no GPU") if index is None else reader(index)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.readings: list[Reading] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            reading = self._read()
            if reading is not None:
                self.readings.append(reading)

    def figures(self) -> dict[str, Any]:
        """The mean of the device's busy share, and the most memory that was in use, of everybody."""
        busy = [reading.busy_percent for reading in self.readings if reading.busy_percent is not None]
        return {
            "device_busy_percent": round(sum(busy) / len(busy), 1) if busy else "not told",
            "device_memory_peak_mib": max((reading.used_bytes for reading in self.readings), default=0) >> 20,
            "read_by": self.way,
        }
