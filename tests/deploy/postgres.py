"""Postgres servers that run with other settings than `textmill up` gives them: the wheel's, and Debian's, which has TLS and is old."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from api.local.processes.children import Child, open_log, spawn
from api.local.processes.ports import free_port
from api.local.servers.unprivileged import Unprivileged
from tests.deploy.conftest import DEPLOY
from tests.waiting import wait_until

CONF: Final = DEPLOY / "postgres"
SMALL: Final = {"shared_buffers": "16MB", "max_wal_size": "256MB"}  # the file's sizes are for a bigger machine
TLS_SERVERS: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))  # Debian's; the wheel is built without TLS


@dataclass
class Running:
    child: Child
    log: Path
    port: int
    socket: Path
    password: str

    def connect(self, host: str, **options: str) -> "psycopg.Connection[dict[str, object]]":
        told = make_conninfo(host=host, port=self.port, dbname="postgres", user="postgres", password=self.password, **options)
        return psycopg.connect(told, row_factory=dict_row)


def start(command: list[str], data: Path, folder: Path, password: str, extra: dict[str, str]) -> Running:
    """Raises AssertionError with the log where it does not come up."""
    port, log = free_port(), folder / "server.log"
    settings = {"port": str(port), "unix_socket_directories": str(folder), "listen_addresses": "127.0.0.1", **SMALL, **extra}
    command = [*command, "-D", str(data), *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))]
    with open_log(log) as output:
        child = spawn(command, signal.SIGINT, prefix=Unprivileged(Path(command[0])).prefix, output=output)
    running = Running(child, log, port, folder, password)

    def answers() -> bool:
        assert child.exit_code() is None, log.read_text()
        try:
            running.connect(str(folder)).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        wait_until(answers, "the server answers", otherwise=log.read_text)
    except AssertionError:
        child.end(signal.SIGQUIT, 5)
        raise
    return running


@contextmanager
def with_tls(folder: Path, keys: Path, **extra: str) -> Iterator[Running]:
    """Debian's, with tls.conf and pg_hba.conf as they are, and of the certificates that deploy/make-secrets made in ``keys`` a copy."""
    program, data, own = TLS_SERVERS[-1], folder / "data", folder / "keys"
    shutil.copytree(keys, own)
    if os.geteuid() == 0:
        for path in own.iterdir():
            os.chown(path, 0, 0)
    (folder / "tls.conf").write_text((CONF / "tls.conf").read_text().replace("/run/secrets", str(own)))
    (folder / "postgresql.conf").write_text("include = 'tls.conf'\npassword_encryption = 'scram-sha-256'\n")
    initdb = [*Unprivileged(program).prefix, str(program.with_name("initdb")), f"--pgdata={data}", "--username=postgres", "--no-sync"]
    made = subprocess.run(
        [*initdb, f"--pwfile={own / 'db-superuser'}", "--auth=scram-sha-256"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    server = start(
        [str(program), "-c", f"config_file={folder / 'postgresql.conf'}", "-c", f"hba_file={CONF / 'pg_hba.conf'}"],
        data,
        folder,
        (own / "db-superuser").read_text().strip(),
        {"fsync": "off", **extra},
    )
    try:
        yield server
    finally:
        server.child.end(signal.SIGINT, 10)
