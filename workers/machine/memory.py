"""How much memory there is for this process and those beside it: the machine's, or what a container or a unit allows of it."""

from pathlib import Path

import psutil

from workers.machine.cgroup import ROOT, limits


def allowed_bytes(root: Path = ROOT) -> int | None:
    """What the control groups allow, where that is less than the machine has; None: all of it."""
    allowed = limits(root).memory_bytes
    return allowed if allowed is not None and allowed < psutil.virtual_memory().total else None


def total_bytes(root: Path = ROOT) -> int:
    """The machine's, or what is allowed of it."""
    return allowed_bytes(root) or int(psutil.virtual_memory().total)
