"""Between `textmill up` and a part it starts: run as a program (``python -I -S launch.py PARENT SIGNAL COMMAND…``), it becomes COMMAND.

What must be true of a child before its first instruction is done here and not in a hook between fork and exec, which may deadlock in a
process with threads: the kernel sends the child SIGNAL when its parent dies in whatever way, so nothing is left behind; no core dumps,
which would hold texts and keys; and files are made for this user alone.

Imports nothing of textmill: it costs some 15 ms.
"""

import ctypes
import os
import resource
import sys

PR_SET_PDEATHSIG = 1


def launch(parent: int, death_signal: int, command: list[str]) -> None:
    """Never returns."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise SystemExit("textmill: the kernel cannot tie a part to its parent")
    if os.getppid() != parent:  # it died before the line above
        raise SystemExit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    os.execvp(command[0], command)  # noqa: S606 -- becoming the command is what this file is for


if __name__ == "__main__":
    launch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
