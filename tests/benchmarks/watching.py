"""What the stack's processes use while something runs: CPU time and resident memory, by the names in run/state.json."""

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import psutil

SAMPLE_SECONDS = 0.05


def processes(children: Mapping[str, int]) -> dict[str, list[psutil.Process]]:
    """Each part of the stack with the processes below it."""
    found = {}
    for name, pid in children.items():
        try:
            process = psutil.Process(pid)
            found[name] = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_seconds(children: Mapping[str, int]) -> dict[str, float]:
    """Since each part began, finished children of its processes included."""
    used: dict[str, float] = {}
    for name, group in processes(children).items():
        for process in group:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used[name] = used.get(name, 0.0) + times.user + times.system + times.children_user + times.children_system
    return used


class PeakMemory:
    """The highest resident memory of each part while the block runs, in bytes."""

    def __init__(self, children: Mapping[str, int]) -> None:
        self._children = children
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak_bytes: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            for name, group in processes(self._children).items():
                size = 0
                for process in group:
                    try:
                        size += process.memory_info().rss
                    except psutil.NoSuchProcess:
                        continue
                self.peak_bytes[name] = max(size, self.peak_bytes.get(name, 0))
            if self._ended.wait(SAMPLE_SECONDS):
                return
