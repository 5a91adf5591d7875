"""What the control groups of this process allow it: CPU time and memory, by the lowest limit on the way from its own group to the root.

Version 2 (one tree), version 1 (a tree for each controller), and both at once. A container often sees its own group as the root of the
mount, while the kernel tells a path from above it: then the mount itself is the group.
Sources: cgroup-v2.rst and cgroup-v1/ of the kernel's administration guide; cgroups(7), proc_pid_mountinfo(5).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")


@dataclass(frozen=True, slots=True)
class Limits:
    """``cpus``: of how many CPUs the time may be used, 1.5 being one and a half. None: nothing limits it."""

    cpus: float | None
    memory_bytes: int | None


def limits(root: Path = ROOT) -> Limits:
    """Of this process, now."""
    groups = list(_groups(root))
    return Limits(
        min((cpus for group in groups for cpus in _cpus(group)), default=None),
        min((size_bytes for group in groups for size_bytes in _memory(group)), default=None),
    )


def _cpus(group: Path) -> Iterator[float]:
    with suppress(OSError, ValueError, ZeroDivisionError):  # ValueError: "max"
        quota, period = (group / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota_us = int((group / "cpu.cfs_quota_us").read_text())
        if quota_us > 0:  # -1: none
            yield quota_us / int((group / "cpu.cfs_period_us").read_text())


def _memory(group: Path) -> Iterator[int]:
    """Version 1 writes "no limit" as a number that no machine has."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            size_bytes = int((group / name).read_text())
            if size_bytes < 1 << 62:
                yield size_bytes


def _groups(root: Path) -> Iterator[Path]:
    """The folders of our groups, in every tree, each with those above it."""
    mounts = list(_mounts(root))
    for line in _lines(root / "proc/self/cgroup"):
        _, _, group = line.partition(":")
        controllers, _, path = group.partition(":")
        for kinds, mounted, place in mounts:
            if kinds & set(controllers.split(",")):
                top = root / place.lstrip("/")
                own = top / _below(path, mounted)
                yield from _upwards(own if own.is_dir() else top, top)


def _mounts(root: Path) -> Iterator[tuple[set[str], str, str]]:
    """Of each tree: its controllers (an empty name for version 2, as /proc/self/cgroup writes it), what of it is mounted, and where."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, behind = line.partition(" - ")
        match before.split(), behind.split():
            case [_, _, _, mounted, place, *_], ["cgroup2", *_]:
                yield {""}, mounted, place
            case [_, _, _, mounted, place, *_], ["cgroup", _, options]:
                yield set(options.split(",")), mounted, place


def _below(path: str, mounted: str) -> str:
    """Where a group lies under the mount; "" where it lies outside of what is mounted."""
    inside = path == mounted or path.startswith(mounted.rstrip("/") + "/")
    return path[len(mounted.rstrip("/")) :].strip("/") if inside and ".." not in path else ""


def _upwards(group: Path, top: Path) -> Iterator[Path]:
    yield group
    while group != top:
        group = group.parent
        yield group


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
