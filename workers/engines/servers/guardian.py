"""Between a worker and a server it starts: run as a program (``python -I -S guardian.py COMMAND…``), it starts COMMAND and ends it with all
that it started, when told so or when the worker is gone, in whatever way: then the pipe that is its standard input ends.

It leads a session of its own, so that all of them are one group. Imports nothing of textmill.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 5.0


def guard(command: list[str]) -> None:
    """Never returns."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the group's, which is for the others
    # A hook is safe here: no thread runs yet.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_the_guardian)  # noqa: S603 -- the operator's
    threading.Thread(target=_end_with_the_worker, args=(child,), daemon=True).start()
    child.wait()
    os.killpg(0, signal.SIGKILL)


def _end_with_the_worker(child: "subprocess.Popen[bytes]") -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGTERM)
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(0, signal.SIGKILL)


def _die_with_the_guardian() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    guard(sys.argv[1:])
