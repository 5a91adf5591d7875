"""A call that keeps the interpreter to itself: the watchdog's thread cannot look."""

import subprocess
import sys

HANGS = """
import ctypes
from workers.host import watchdog
watchdog.STARVED_SECONDS = 0.1
watchdog.Watchdog(0.4).start()
text = "a secret"
ctypes.PyDLL(None).sleep(20)
"""


def test_a_call_that_lets_nobody_else_run_ends_the_process_and_what_it_writes_holds_no_values() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert 'File "<string>", line 7 in <module>' in ended.stderr
    assert "secret" not in ended.stderr
