"""The processes of the stack: how each is started, so that none outlives its parent, and how each is ended."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from api.local.home.refusals import StackError

MAX_LOG_BYTES: Final = 16 << 20  # at a start; a longer log becomes <name>.1 and the one before that goes
LAUNCHER: Final = Path(__file__).with_name("launch.py")


class Child:
    """A process we started."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen

    @property
    def pid(self) -> int:
        return self._popen.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._popen.poll()

    def is_stopped(self) -> bool:
        """Whether a signal stopped it (SIGSTOP): it is there, and does nothing. Not so while somebody debugs it."""
        import psutil

        try:
            return bool(psutil.Process(self._popen.pid).status() == psutil.STATUS_STOPPED)
        except psutil.Error:
            return False

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)  # nothing happens where it has ended

    def wait(self, seconds: float) -> bool:
        """Whether it has ended by then."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, number: int, seconds: float) -> bool:
        """Signals, waits, and kills what has not ended by then. True where it ended by itself."""
        self.signal(number)
        if self.wait(seconds):
            return True
        self.signal(signal.SIGKILL)
        self._popen.wait()
        return False


def spawn(
    command: Sequence[str],
    death_signal: int,
    *,
    output: IO[bytes],
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    niceness: int = 0,
) -> Child:
    """Starts ``command`` behind :mod:`api.local.processes.launch`, in a session of its own (Ctrl-C in the terminal is for us alone).

    The kernel sends it ``death_signal`` when the *thread* that calls this ends: call it from a thread that lives as long as the process.
    Raises StackError.
    """
    try:
        popen = subprocess.Popen(  # noqa: S603 -- a list, and no shell
            [*prefix, sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(death_signal)), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if environment is None else dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise StackError(f"{(*prefix, sys.executable)[0]} cannot be run: {error.strerror}.", code="no_process") from None
    if niceness:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, popen.pid, niceness)
    return Child(popen)


def open_log(path: Path) -> IO[bytes]:
    """For appending, mode 0600. Raises OSError."""
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def trim_log(path: Path) -> None:
    """Keeps a log that is being written below MAX_LOG_BYTES: what there is goes to ``<name>.1``. A line in between may be lost."""
    with suppress(OSError):
        if path.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))  # its writer appends: it goes on at the new end
            os.truncate(path, 0)
