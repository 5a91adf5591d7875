"""One worker a device: which devices this machine has, without loading torch."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from workers.host.device import NVIDIA_GPUS, NVIDIA_NODES, gpu_names

CPU: Final = "cpu"


def devices(environment: Mapping[str, str] = os.environ, gpus: Path = NVIDIA_GPUS, nodes: Path = NVIDIA_NODES) -> list[str]:
    """``cuda:0``, ``cuda:1``, … for the GPUs this process may use; else one CPU. TEXTMILL_DEVICE names the only one."""
    chosen = environment.get("TEXTMILL_DEVICE", "auto")
    if chosen != "auto":
        return [chosen]
    count = len(gpu_names(gpus, nodes))
    allowed = environment.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        count = min(count, len([name for name in allowed.split(",") if name.strip()]))
    return [f"cuda:{index}" for index in range(count)] or [CPU]


def workers_on(available: list[str], wanted: int | None) -> list[tuple[str, str]]:
    """Name and device of each worker: one a device, or ``wanted`` of them, dealt round the devices."""
    dealt = [available[index % len(available)] for index in range(len(available) if wanted is None else wanted)]
    named: list[tuple[str, str]] = []
    for index, device in enumerate(dealt):
        again = dealt[:index].count(device)
        named.append((f"worker-{device.replace(':', '')}" + (f"-{again + 1}" if again else ""), device))
    return named
