"""Unit tests run alone, in a minute: none asks for a server or starts a process. One that must belongs to the same room beside."""

import os
import subprocess
from collections.abc import Iterable
from typing import NoReturn

import pytest

SERVERS = {"server", "valkey", "redis_server"}  # every other fixture that needs one asks for one of these


def refuse_servers(fixtures: Iterable[str]) -> None:
    if asked := SERVERS.intersection(fixtures):
        pytest.fail(f"a unit test asks for a server ({', '.join(sorted(asked))}): it belongs to tests/db, tests/workers or tests/api")


def refuse_processes(*_arguments: object, **_options: object) -> NoReturn:
    pytest.fail("a unit test starts a process: it belongs to tests/db, tests/workers or tests/api")


@pytest.fixture(autouse=True)
def alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_servers(request.fixturenames)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse_processes)
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system"):
        monkeypatch.setattr(os, name, refuse_processes)
