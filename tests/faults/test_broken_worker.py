"""The places where a worker is broken are there: they are named by strings, and only the matrix, which takes long, goes there."""

import subprocess
import sys


def test_every_fault_finds_its_place() -> None:
    """In a process of its own: each of them changes what it finds."""
    install = "from tests.faults.broken_worker import FAULTS\nfor name, install in FAULTS.items(): install(1)"
    done = subprocess.run([sys.executable, "-c", install], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
