"""Debian's PgBouncer before the tests' Postgres, where it is installed."""

import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from api.local.processes.children import open_log, spawn
from api.local.processes.parts import listens
from api.local.processes.ports import free_port
from api.local.servers.unprivileged import Unprivileged
from tests.conftest import Server
from tests.waiting import wait_until

PROGRAM: Final = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
MODES: Final = ("session", "transaction", "statement")
needed: Final = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


@contextmanager
def pooler(server: Server, database: str, folder: Path, *, in_turn: bool = False) -> Iterator[Mapping[str, str]]:
    """By each of MODES: the address of ``database`` through a pooler. It knows the login
    roles' passwords, and refuses what it does not know of what a client says at its start. ``in_turn``: it
    gives the session that waited longest, and not the last one that came back."""
    assert PROGRAM is not None
    port, unprivileged = free_port(), Unprivileged(Path(PROGRAM))
    behind = f"host={server.postgres.socket_dir} port=5432 dbname={database}"
    databases = [f"{mode} = {behind} pool_mode={mode}" for mode in MODES]
    users = folder / "users.txt"
    users.write_text("".join(f'"{role.login}" "{password}"\n' for role, password in server.passwords.items()))
    config = folder / "pgbouncer.ini"
    config.write_text(
        "\n".join(
            [
                "[databases]",
                *databases,
                "[pgbouncer]",
                f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =",
                f"auth_type = scram-sha-256\nauth_file = {users}",
                f"max_client_conn = 300\ndefault_pool_size = 60\nserver_round_robin = {int(in_turn)}",
            ]
        )
    )
    for path in (folder, users, config):
        unprivileged.give(path)
    with open_log(folder / "pgbouncer.log") as log:
        child = spawn([PROGRAM, str(config)], signal.SIGTERM, prefix=unprivileged.prefix, output=log)
    try:
        wait_until(lambda: listens(port), "the pooler listens", otherwise=(folder / "pgbouncer.log").read_text)
        yield {name: f"postgresql://127.0.0.1:{port}/{name}" for name in MODES}
    finally:
        child.end(signal.SIGQUIT, 5)
