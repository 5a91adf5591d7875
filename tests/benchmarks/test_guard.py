import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.benchmarks.guard import MARK, guarded, marked

ROOT = Path(__file__).parents[2]
# A benchmark that starts a child in a session of its own, tells its mark, and waits.
BENCHMARK = """
import subprocess, sys, time
from tests.benchmarks.guard import guarded
with guarded() as run:
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    print(run, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_benchmark_has_started_ends_with_it() -> None:
    benchmark = subprocess.Popen([sys.executable, "-c", BENCHMARK], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert benchmark.stdout is not None
        run = benchmark.stdout.readline().strip()
        started = marked(run)
        assert [process.name() for process in started] == ["sleep"]
    finally:
        benchmark.kill()
        benchmark.wait(10)
        benchmark.stdout.close()
    gone, left = psutil.wait_procs(started, 20)
    assert (len(gone), left) == (1, [])


def test_what_is_left_at_the_end_is_ended_and_nothing_else_is() -> None:
    other = subprocess.Popen(["sleep", "600"])
    try:
        with guarded():
            ours = subprocess.Popen(["sleep", "600"])
        assert ours.wait(20) < 0
        assert other.poll() is None
        assert MARK not in os.environ
    finally:
        other.kill()
        other.wait(10)
