"""The CPUs of this process: which it may use, how many of them at once, and how several workers share them."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from workers.machine.cgroup import ROOT, limits


def cores(root: Path = ROOT) -> int:
    """How many CPUs this process can keep busy: those of its affinity, or of its container's quota where that is less."""
    return min(len(os.sched_getaffinity(0)), quota(root))


def quota(root: Path = ROOT) -> int:
    """Whole CPUs of the control groups' quota, at least one; where there is none, as many as any machine has."""
    allowed = limits(root).cpus
    return 1 << 16 if allowed is None else max(1, int(allowed))


def read_cpulist(text: str) -> frozenset[int]:
    """The kernel's list format: ``0-3,8,10-11``. Raises ValueError where it is empty or no list."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def cpulist(cpus: Iterable[int]) -> str:
    """The other way: what `taskset -c` and people read."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def whole_cores(allowed: frozenset[int], root: Path = ROOT) -> list[frozenset[int]]:
    """The CPUs of ``allowed``, those that are one core's hardware threads together; each alone where the kernel does not tell."""
    found: set[frozenset[int]] = set()
    for cpu in allowed:
        try:
            siblings = read_cpulist((root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except (OSError, ValueError):
            siblings = frozenset({cpu})
        found.add((siblings | {cpu}) & allowed)
    return sorted(found, key=min)


def shared_out(near: Sequence[frozenset[int]], whole: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """The CPUs of each worker, in the order of ``near``, which says which CPUs suit it.

    ``whole`` are the cores to be shared out; none is cut in two. No two workers get the same one, unless they are more than the cores that
    suit them: then each gets one all the same. Those that suit few are given first; otherwise all get as many, give or take one, and lie
    side by side.
    """
    suits: dict[tuple[int, ...], list[frozenset[int]]] = {}
    for core in whole:
        if workers := tuple(worker for worker, cpus in enumerate(near) if core & cpus):
            suits.setdefault(workers, []).append(core)
    shares: list[list[frozenset[int]]] = [[] for _ in near]
    for workers, cores_of_them in sorted(suits.items(), key=lambda each: len(each[0])):
        due: Counter[int] = Counter()
        for _ in cores_of_them:
            due[min(workers, key=lambda worker: len(shares[worker]) + due[worker])] += 1
        rest = iter(cores_of_them)
        for worker in workers:
            shares[worker].extend(islice(rest, due[worker]))
    for worker, share in enumerate(shares):
        if not share and (fit := [core for core in whole if core & near[worker]]):
            share.append(fit[worker % len(fit)])
    return [frozenset().union(*share) for share in shares]
