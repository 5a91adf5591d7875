"""What a stack is made of: the servers, and our own programs with their commands, environments and ways to end."""

import http.client
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Protocol

from api.local.home.home import Home
from api.local.home.secret_files import read_or_make, write_private
from api.local.processes.children import Child, open_log, spawn
from api.local.processes.devices import Placed
from api.local.processes.ports import LOOPBACK, free_port
from db.process_names import new_start
from db.settings import Role

FLOWER_USER: Final = "textmill"
# The last shards, some 350 bytes each, and once a minute on disk: for a Flower that is killed.
FLOWER_KEEPS: Final[dict[str, object]] = {
    "persistent": True,
    "state_save_interval": 60_000,
    "max_tasks": 5_000,
    "purge_offline_workers": 86_400,  # seconds: each start of a worker is another one
    "tasks_columns": "name,kwargs,state,result,received,runtime,worker,uuid",
}
WORKER_NICENESS: Final = 5  # models take every core they get; the API and Postgres must still answer at once
PROBE_SECONDS: Final = 0.5
ROUTINE: Final = re.compile(r'^\S+ \S+ INFO |"level": "info"|^\[I ')
ROOT: Final = Path(__file__).parents[3]


class Part(Protocol):
    """Something that runs, and is started again when it dies."""

    name: str
    grace_seconds: float
    child: Child | None

    def start(self) -> None:
        """Raises StackError or OSError where it cannot."""

    def is_ready(self) -> bool:
        """Whether it answers. Returns soon."""

    def signal_end(self, *, hurry: bool) -> None:
        """Tells it to end; returns at once."""

    def stop(self, *, hurry: bool) -> None:
        """Ends it, waits for that, and removes what it left."""

    def last_words(self) -> str:
        """Why it died, from its log."""


@dataclass
class Program:
    """One of our own processes. ``make`` gives its command and environment at each start: ports are chosen anew."""

    name: str
    log: Path
    make: Callable[[], tuple[list[str], dict[str, str]]]
    ready: Callable[[], bool]
    grace_seconds: float = 10.0
    niceness: int = 0
    child: Child | None = field(default=None, init=False)
    _log_start: int = field(default=0, init=False)

    def start(self) -> None:
        command, environment = self.make()
        with open_log(self.log) as log:
            self._log_start = log.tell()
            # SIGKILL, should we die: Postgres goes with us, so there is nothing left to drain into. Leases bring the work back.
            self.child = spawn(command, signal.SIGKILL, output=log, environment=environment, niceness=self.niceness)

    def is_ready(self) -> bool:
        return self.ready()

    def signal_end(self, *, hurry: bool) -> None:
        if self.child is not None:
            self.child.signal(signal.SIGKILL if hurry else signal.SIGTERM)

    def stop(self, *, hurry: bool) -> None:
        if self.child is not None:
            self.child.end(signal.SIGKILL if hurry else signal.SIGTERM, self.grace_seconds)

    def last_words(self) -> str:
        return last_line(self.log, self._log_start)


def python(module: str, *arguments: str) -> list[str]:
    """-P: the current folder is not searched for modules."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment_for(home: Home, role: Role | None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, with the home named, this source tree importable, and of the database passwords none but its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TEXTMILL_DB_PASSWORD_", "FLOWER_")) or (role and name == f"TEXTMILL_DB_PASSWORD_{role.name}")
    }
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "TEXTMILL_HOME": str(home.path),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        **(extra or {}),
    }


def api_program(home: Home, port: int) -> Program:
    return Program(
        "api",
        home.logs / "api.log",
        lambda: (python("api.app", "--host", LOOPBACK, "--port", str(port)), environment_for(home, Role.API)),
        ready=lambda: answers_http(port, "/readyz"),
        grace_seconds=15.0,  # its own limit for answers that still stream is 10 s
    )


class MetricsPorts:
    """The port on which each part without an address of its own serves /metrics: a free one at each of its starts. Answering there is how
    such a part shows that it is up."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def choose(self, name: str) -> str:
        self.of[name] = free_port()
        return str(self.of[name])

    def answers(self, name: str) -> bool:
        return listens(self.of[name])


class Starts:
    """What tells each start of a part from those before it; a worker is told, and calls itself so."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def draw(self, name: str) -> str:
        self.of[name] = new_start()
        return self.of[name]


def dispatcher_program(home: Home, metrics: MetricsPorts) -> Program:
    name = "dispatcher"
    return Program(
        name,
        home.logs / "dispatcher.log",
        lambda: (
            python("workers.dispatch.dispatcher"),
            environment_for(home, Role.DISPATCHER, {"TEXTMILL_METRICS_PORT": metrics.choose(name)}),
        ),
        ready=lambda: metrics.answers(name),
    )


def worker_program(
    home: Home, worker: Placed, drain_seconds: float, metrics: MetricsPorts, starts: Starts, preload: Sequence[str] = ()
) -> Program:
    """It is ready once it has loaded ``preload``, or else TEXTMILL_MODELS."""
    told = {"TEXTMILL_DEVICE": worker.device, "TEXTMILL_DEVICE_SHARE": worker.share}
    if preload:
        told["TEXTMILL_MODELS"] = ",".join(preload)
    return Program(
        worker.name,
        home.logs / f"{worker.name}.log",
        lambda: (
            python("workers.host.main", starts.draw(worker.name)),
            environment_for(home, Role.WORKER, {**told, "TEXTMILL_METRICS_PORT": metrics.choose(worker.name)}),
        ),
        ready=lambda: metrics.answers(worker.name),
        grace_seconds=drain_seconds + 10.0,
        niceness=WORKER_NICENESS,
    )


def flower_program(home: Home, port: int) -> Program:
    """Flower, read-only, behind a generated password; what it saw lies in the home's ``flower``, for the next start. What it is told
    lies in a file: a command line can be read by every user."""
    config = home.run / "flower.py"

    def make() -> tuple[list[str], dict[str, str]]:
        password = read_or_make(home.secrets / "flower")
        settings = {
            "address": LOOPBACK,
            "port": port,
            "basic_auth": [f"{FLOWER_USER}:{password}"],
            "read_only": True,
            "db": str(home.flower / "state"),
            **FLOWER_KEEPS,
        }
        lines = ["from workers import flower_access", *(f"{name} = {value!r}" for name, value in settings.items())]
        write_private(config, "\n".join(lines))
        return python("celery", "-A", "workers.app:app", "flower", f"--conf={config}"), environment_for(home, None)

    return Program("flower", home.logs / "flower.log", make, ready=lambda: listens(port))


def answers_http(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def listens(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=PROBE_SECONDS):
            return True
    except OSError:
        return False


def last_line(log: Path, since: int) -> str:
    """The last line after ``since`` that tells of a fault; our logs hold no content."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(since, end - 8192))
            lines = _faults(file)
    except OSError:
        return ""
    return in_words(lines[-1])[:300] if lines else ""


def in_words(line: str) -> str:
    """What a line of our own logs says, without the JSON around it."""
    try:
        told = json.loads(line)
    except ValueError:
        return line
    event = told.get("event") if isinstance(told, dict) else None
    if not isinstance(event, str) or not event:
        return line
    return f"{event} ({told['error']})" if isinstance(told.get("error"), str) else event


def _faults(file: IO[bytes]) -> list[str]:
    lines = [line.strip() for line in file.read().decode(errors="replace").split("\n")]
    return [line for line in lines if line and not ROUTINE.search(line)]
