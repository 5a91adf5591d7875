"""The stack under the demo: found running, or started and stopped again. And what Flower says about it."""

import os
import subprocess
import sys
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import msgspec

from api.cli.connection import api_key, home, server_url
from api.client import Client
from api.local import ports
from db.errors import TextmillError

START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 60.0
DEFAULT_PORTS: Final = {"--port": 8910, "--flower-port": 5555}


@dataclass(frozen=True, slots=True)
class Stack:
    """``started``: by us, so ours to stop."""

    home: Path
    started: bool

    @property
    def flower(self) -> str | None:
        address = read_state(self.home).get("flower")
        return address if isinstance(address, str) else None

    def connect(self) -> Client:
        url = server_url(self.home)
        return Client(url, api_key(self.home, url))

    def stop(self) -> None:
        subprocess.run([*command(), "down"], check=False, timeout=STOP_SECONDS)  # noqa: S603 - our own program

    def workers_in_flower(self) -> list[str]:
        """Names of the workers that Flower has just asked. Empty where it lists none."""
        if self.flower is None:
            return []
        password = (self.home / "secrets" / "flower").read_text().strip()
        headers = {"authorization": "Basic " + b64encode(f"textmill:{password}".encode()).decode()}
        try:
            answer = httpx.get(f"{self.flower}/api/workers", params={"refresh": "1"}, headers=headers, timeout=30.0, trust_env=False)
            workers = msgspec.json.decode(answer.content) if answer.is_success else None
        except (httpx.HTTPError, msgspec.DecodeError):
            return []
        return sorted(workers) if isinstance(workers, dict) else []


def ensure() -> Stack:
    """Raises TextmillError where the stack cannot be started."""
    where = home()
    if is_up(where):
        return Stack(where, started=False)
    started = subprocess.run(  # noqa: S603 - our own program
        [*command(), "up", "--detach", *free_ports()], check=False, timeout=START_SECONDS
    )
    if started.returncode != 0 or not is_up(where):
        raise TextmillError("The stack did not start; `textmill doctor` tells what is wrong.", code="stack_not_started")
    return Stack(where, started=True)


def command() -> list[str]:
    return [sys.executable, "-m", "api.cli"]


def is_up(where: Path) -> bool:
    address = read_state(where).get("api")
    if not isinstance(address, str):
        return False
    try:
        return httpx.get(f"{address}/healthz", timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def read_state(where: Path) -> dict[str, object]:
    try:
        state = msgspec.json.decode((where / "run" / "state.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return state if isinstance(state, dict) else {}


def free_ports() -> list[str]:
    """Options for the ports whose default another program has."""
    taken = [option for option, port in DEFAULT_PORTS.items() if not ports.is_free(port)]
    return [word for option in taken for word in (option, str(ports.free_port()))]


def own_environment() -> None:
    """The demo speaks to its own home's stack, whatever server the shell is set to."""
    for name in ("TEXTMILL_API_URL", "TEXTMILL_API_KEY"):
        os.environ.pop(name, None)
