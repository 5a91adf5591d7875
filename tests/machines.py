"""Machines that this one is not, as files under a folder: GPUs as the driver, nvidia-smi and the kernel show them; control groups."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SMI = """#!/bin/sh
case "$1" in
  -L) printf '%s\\n' {listed} ;;
  *) printf '%s\\n' {told} ;;
esac
"""


@dataclass(frozen=True)
class Card:
    """A GPU of such a machine. ``cpus``: what the kernel says lies beside it; "" where it says nothing."""

    number: int
    cpus: str = ""
    slices: Sequence[str] = ()
    cut: bool = False

    @property
    def pci(self) -> str:
        return f"0000:{0x17 + 0x11 * self.number:02x}:00.0"

    @property
    def uuid(self) -> str:
        return f"GPU-{self.number:x}{self.number:x}aa0000-1111-2222-3333-444455556666"


EIGHT = [Card(number, "0-47" if number < 4 else "48-95") for number in range(8)]  # four on each of two sockets


class Machine:
    """Parameters: ``root`` stands for /. What is not laid out is not there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def add_nodes(self, *numbers: int) -> None:
        for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in numbers)):
            self.write(f"dev/{name}", "")

    def add_driver(self, cards: Sequence[Card], *, woken: bool = True) -> None:
        """The folders of /proc/driver/nvidia and of the PCI bus. ``woken`` off: no process has asked for the GPUs yet."""
        for card in cards:
            uuid = card.uuid if woken else "GPU-????????-????-????-????-????????????"
            folder = f"proc/driver/nvidia/gpus/{card.pci}"
            told = {"Model": f"NVIDIA H100 {card.number}", "GPU UUID": uuid, "Device Minor": card.number}
            self.write(f"{folder}/information", "".join(f"{name}: \t\t {value}\n" for name, value in told.items()))
            if card.cpus:
                self.write(f"sys/bus/pci/devices/{card.pci}/local_cpulist", card.cpus + "\n")

    def add_smi(self, cards: Sequence[Card], *, fails: bool = False) -> None:
        """An nvidia-smi that knows two questions, as the real one answers them."""
        told, listed = [], []
        for index, card in enumerate(cards):
            mode = "Enabled" if card.cut or card.slices else "Disabled"
            told.append(f"{index}, {card.uuid}, 0000{card.pci.upper()}, {mode}, NVIDIA H100 {card.number}")
            listed.append(f"GPU {index}: NVIDIA H100 {card.number} (UUID: {card.uuid})")
            listed += [f"  MIG 1g.10gb     Device  {at}: (UUID: {uuid})" for at, uuid in enumerate(card.slices)]
        script = SMI.format(listed=shlex.join(listed) or "''", told=shlex.join(told) or "''")
        if fails:
            script = "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n"
        self.write("usr/bin/nvidia-smi", script).chmod(0o755)

    def add_siblings(self, pairs: Sequence[tuple[int, int]]) -> None:
        for pair in pairs:
            for cpu in pair:
                self.write(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{pair[0]},{pair[1]}\n")

    def add_groups(self, of_process: str, mounts: str) -> None:
        """/proc/self/cgroup and /proc/self/mountinfo."""
        self.write("proc/self/cgroup", of_process)
        self.write("proc/self/mountinfo", mounts)
