"""Ends what a benchmark has started when the benchmark itself is killed.

A process that gets SIGKILL ends nothing: its stack and its peers would run on, and be in the way of whatever is measured next. So a guard
of its own session holds the other end of a pipe, and when that breaks it kills everything that carries the run's mark in its environment.
Linux: it reads /proc.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import psutil

MARK: Final = "BENCHMARK_OF_TEXTMILL"  # no setting, which every part would name
SWEEPS: Final = 3  # one that was just being started is not in the first list


@contextmanager
def guarded() -> Iterator[str]:
    """Marks what this process starts from here on; when it ends, however it ends, those are ended. The mark's value."""
    run = uuid4().hex
    clean = {name: value for name, value in os.environ.items() if name != MARK}
    guard = subprocess.Popen(
        [sys.executable, "-P", "-m", __spec__.name, run],
        stdin=subprocess.PIPE,
        env={**clean, "PYTHONPATH": str(Path(__file__).parents[2])},
        start_new_session=True,
    )
    os.environ[MARK] = run
    try:
        yield run
    finally:
        os.environ.pop(MARK, None)
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()


def marked(run: str) -> list[psutil.Process]:
    """The processes that were started under this mark, the caller excepted."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == run:
                found.append(process)
    return found


def main(run: str) -> int:
    sys.stdin.buffer.read()  # until the benchmark has ended
    for _ in range(SWEEPS):
        left = marked(run)
        for process in left:
            with suppress(psutil.NoSuchProcess):  # psutil checks that the pid is still the same process
                process.kill()
        psutil.wait_procs(left, 5)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
