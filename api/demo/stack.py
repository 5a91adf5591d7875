"""The stack under the demo and the benchmarks: found running, or started and stopped again. And what Flower says about it."""

import os
from base64 import b64encode
from dataclasses import dataclass
from typing import Final

import httpx
import msgspec

from api.cli.terminal.connection import api_key, home, server_url
from api.client import Client
from api.local import detach
from api.local.home.home import Home
from api.local.home.instance import find_running, read_state
from api.local.processes.parts import FLOWER_USER
from api.local.processes.ports import is_free
from api.local.up import UpOptions
from db.errors import TextmillError

API_PORT: Final = 8910
FLOWER_PORT: Final = 5555
FREE: Final = 0  # lets the stack take any
FLOWER_SECONDS: Final = 30.0  # it asks every worker and waits for the slow ones


@dataclass(frozen=True, slots=True)
class Stack:
    """``started``: by us, so ours to stop. ``state`` is what it published when it was ready."""

    home: Home
    state: dict[str, object]
    started: bool

    @property
    def flower(self) -> str | None:
        address = self.state.get("flower")
        return address if isinstance(address, str) else None

    @property
    def children(self) -> dict[str, int]:
        """Process ids by the names of the parts."""
        return msgspec.convert(self.state.get("children", {}), dict[str, int])

    @property
    def key(self) -> str:
        return api_key(self.home.path, server_url(self.home.path))[0]

    def connect(self) -> Client:
        return Client(server_url(self.home.path), self.key)

    def stop(self) -> None:
        detach.stop(self.home)

    def workers_in_flower(self) -> list[str]:
        """Names of the workers that Flower has just asked. Empty where it lists none."""
        if self.flower is None:
            return []
        password = (self.home.secrets / "flower").read_text().strip()
        headers = {"authorization": "Basic " + b64encode(f"{FLOWER_USER}:{password}".encode()).decode()}
        try:
            answer = httpx.get(
                f"{self.flower}/api/workers", params={"refresh": "1"}, headers=headers, timeout=FLOWER_SECONDS, trust_env=False
            )
            workers = msgspec.json.decode(answer.content) if answer.is_success else None
        except (httpx.HTTPError, msgspec.DecodeError):
            return []
        return sorted(workers) if isinstance(workers, dict) else []


def ensure() -> Stack:
    """The stack of this home, started where none runs; on other ports where the usual ones are taken. Raises TextmillError."""
    where = Home(home().absolute())
    if find_running(where) is not None:
        state = read_state(where)
        if state.get("ready") is not True:
            raise TextmillError("A stack is starting or ending in this home; look at `textmill status`, then try again.", code="not_ready")
        return Stack(where, state, started=False)
    options = UpOptions(API_PORT if is_free(API_PORT) else FREE, FLOWER_PORT if is_free(FLOWER_PORT) else FREE, None)
    return Stack(where, detach.start(where, options), started=True)


def own_environment() -> None:
    """Speaks to its own home's stack, whatever server the shell is set to."""
    for name in ("TEXTMILL_API_URL", "TEXTMILL_API_KEY"):
        os.environ.pop(name, None)
