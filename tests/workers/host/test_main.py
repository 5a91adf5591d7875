"""A worker that is told to end before it has anything to drain."""

import subprocess
import sys

_IN_A_FINALIZER = """
import os, signal
from workers.host import main

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1_000):
            pass

signal.signal(signal.SIGTERM, main._end_at_once)
Finalized()
print("went on")
"""


def test_a_signal_that_arrives_where_exceptions_are_ignored_ends_it_too() -> None:
    done = subprocess.run([sys.executable, "-c", _IN_A_FINALIZER], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
