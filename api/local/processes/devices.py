"""One worker a device: which devices this machine has, without loading torch."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from workers.machine.cgroup import ROOT
from workers.machine.gpus import installed, visible

CPU: Final = "cpu"


def devices(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> list[str]:
    """``cuda:0``, ``cuda:1``, … for the GPUs and slices that this process may use; else one CPU. TEXTMILL_DEVICE names the only one."""
    chosen = environment.get("TEXTMILL_DEVICE") or "auto"
    if chosen != "auto":
        return [chosen]
    return [f"cuda:{place}" for place, _ in enumerate(visible(installed(root), environment))] or [CPU]


class Placed(NamedTuple):
    """A worker of the stack. ``share``: which of how many on its device, as TEXTMILL_DEVICE_SHARE says it."""

    name: str
    device: str
    share: str


def workers_on(available: list[str], wanted: int | None) -> list[Placed]:
    """One worker a device, or ``wanted`` of them, dealt round the devices."""
    dealt = [available[index % len(available)] for index in range(len(available) if wanted is None else wanted)]
    placed: list[Placed] = []
    for index, device in enumerate(dealt):
        again = dealt[:index].count(device)
        name = f"worker-{re.sub(r'[^A-Za-z0-9-]', '', device)}" + (f"-{again + 1}" if again else "")
        placed.append(Placed(name, device, f"{again + 1}/{dealt.count(device)}"))
    return placed
