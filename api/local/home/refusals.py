"""Why the local stack will not start or stop: one sentence each, and the exit code that fits.

Exit codes of `textmill up`, `down`, `status` and `doctor` are :class:`StackExit`; 0, 2, 3 and 130 mean the same as in every other command.
"""

import errno
from enum import IntEnum
from pathlib import Path

from db.errors import TextmillError


class StackExit(IntEnum):
    """How a command about the stack ends."""

    OK = 0
    UNHEALTHY = 1  # doctor found something to mend, or a part of the stack is down
    USAGE = 2
    FAILED = 3  # a part would not start, or nothing runs in this home
    ALREADY_RUNS = 6
    PORT_TAKEN = 7
    BAD_HOME = 8  # read-only, full, or someone else's
    NEWER_HOME = 9
    INTERRUPTED = 130  # a second Ctrl-C cut the drain short


EXIT_CODES = (
    "Exit codes: 0 done · 1 something needs mending · 2 the command is wrong · 3 a part did not start, or nothing runs here · "
    "6 already running in this home · 7 a port is taken · 8 the home folder cannot be used (read-only, full, not ours) · "
    "9 the home folder is of a newer textmill · 130 the stop was hurried by a second Ctrl-C."
)


class StackError(TextmillError):
    """The stack cannot do it. ``message`` says what is wrong and what to do; it holds paths and numbers, never a secret."""

    default_code = "stack_failed"

    def __init__(self, message: str, exit_code: StackExit = StackExit.FAILED, *, code: str | None = None) -> None:
        super().__init__(message, code=code, status=503)
        self.exit_code = exit_code


def folder_refusal(path: Path, error: OSError) -> StackError:
    """What an error of the operating system about a file under the home folder means to a person."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StackError(f"The disk that holds {path} is full: make room, then start again.", StackExit.BAD_HOME, code="disk_full")
    if error.errno == errno.EROFS:
        return StackError(
            f"{path} is on a read-only disk: set TEXTMILL_HOME to a folder that can be written.", StackExit.BAD_HOME, code="read_only"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return StackError(
            f"{path} may not be written by this user: give it to this user, or set TEXTMILL_HOME to another folder.",
            StackExit.BAD_HOME,
            code="read_only",
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StackError(f"{path} is not a folder: set TEXTMILL_HOME to a folder.", StackExit.BAD_HOME, code="bad_home")
    return StackError(f"{path} cannot be used: {error.strerror or 'the operating system refused'}.", StackExit.BAD_HOME, code="bad_home")
