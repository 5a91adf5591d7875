"""Processes that we start, as the kernel sees them."""

import signal
import sys
from pathlib import Path

from api.local.processes.children import spawn
from tests.waiting import wait_until


def test_whether_a_child_is_stopped_is_seen(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        child = spawn([sys.executable, "-c", "import signal; signal.pause()"], signal.SIGKILL, output=log)
    try:
        assert not child.is_stopped()
        child.signal(signal.SIGSTOP)
        wait_until(child.is_stopped)
        child.signal(signal.SIGCONT)
        wait_until(lambda: not child.is_stopped())
    finally:
        child.end(signal.SIGKILL, 5)
    assert not child.is_stopped()
