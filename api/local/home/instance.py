"""Which stack runs in a home: one lock, a pid file that can be checked, and what the others read about it (``run/state.json``)."""

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec

from api.local.home.home import Home
from api.local.home.refusals import StackError, StackExit, folder_refusal
from api.local.home.secret_files import write_private
from db.private_files import NoText, read_private

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ProcessName:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    start_ticks: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """None where there is no such process."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        if fields[0] in ("Z", "X"):
            return None
        return cls(pid, int(fields[19]), _boot_id())

    @classmethod
    def parse(cls, text: str) -> Self | None:
        words = text.split()
        if len(words) != 3 or not words[0].isdigit() or not words[1].isdigit():
            return None
        return cls(int(words[0]), int(words[1]), words[2])

    def __str__(self) -> str:
        return f"{self.pid} {self.start_ticks} {self.boot}"

    @property
    def lives(self) -> bool:
        return ProcessName.of(self.pid) == self


class Instance:
    """The right to run a stack in a home, held until :meth:`release` or the end of the process."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock: int | None = None

    def acquire(self) -> bool:
        """True where a stale pid file had to be removed. StackError where a stack runs in this home already."""
        try:
            lock = os.open(self._home.run / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise folder_refusal(self._home.run, error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            refuse_second(self._home)
            raise _already_runs(self._home, "just starting") from None
        except OSError:  # a network disk without locks: the pid file must do
            refuse_second(self._home)
        self._lock = lock
        pid_file = self._home.run / "up.pid"
        stale = pid_file.exists()
        us = ProcessName.of(os.getpid())
        assert us is not None
        try:
            (self._home.run / "state.json").unlink(missing_ok=True)
            write_private(pid_file, str(us))
        except OSError as error:
            raise folder_refusal(self._home.run, error) from None
        return stale

    def publish(self, state: Mapping[str, object]) -> None:
        """What ``textmill status`` and every other command reads. Holds no secret."""
        with suppress(OSError):  # a full disk must not stop what runs
            write_private(self._home.run / "state.json", msgspec.json.encode(state).decode())

    def release(self) -> None:
        if self._lock is None:
            return
        for name in ("state.json", "up.pid", "database.url", "redis.url"):
            with suppress(OSError):
                (self._home.run / name).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None


def find_running(home: Home) -> ProcessName | None:
    """The `textmill up` of this home, if one lives: the number in ``run/up.pid`` is believed only with its start time and its command."""
    try:
        written = ProcessName.parse(read_private(home.run / "up.pid"))
    except (OSError, NoText):
        return None
    if written is None or not written.lives:
        return None
    with suppress(OSError):
        words = Path(f"/proc/{written.pid}/cmdline").read_bytes().split(b"\0")
        if b"up" in words:
            return written
    return None


def refuse_second(home: Home) -> None:
    """StackError where a stack runs in this home."""
    running = find_running(home)
    if running is not None:
        raise _already_runs(home, f"pid {running.pid}")


def _already_runs(home: Home, which: str) -> StackError:
    return StackError(
        f"A stack already runs in {home.path} ({which}); `textmill down` stops it, or set TEXTMILL_HOME for another one.",
        StackExit.ALREADY_RUNS,
        code="already_runs",
    )


def read_state(home: Home) -> dict[str, object]:
    """Empty where nothing was published. Raises SettingsError where others could have written it: keys and texts go where it says."""
    try:
        state = msgspec.json.decode(read_private(home.run / "state.json"))
    except (OSError, NoText, msgspec.DecodeError):
        return {}
    return state if isinstance(state, dict) else {}


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return "-"
