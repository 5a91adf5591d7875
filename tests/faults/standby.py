"""A second Postgres that follows the first over a link that can be held or cut, and takes its place."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from api.local.processes.children import open_log, spawn
from api.local.servers.postgres import EmbeddedPostgres, binary
from tests.faults.house import House
from tests.faults.proxy import Proxy

PORT = 5433  # a part of its socket's name
NAME = "standby"


@dataclass(frozen=True)
class Standby:
    primary: EmbeddedPostgres
    link: Proxy  # what the primary's log comes over

    @property
    def socket(self) -> Path:
        return self.primary.socket_dir / f".s.PGSQL.{PORT}"

    def execute(self, statement: str, *, on_primary: bool = False) -> list[tuple[object, ...]]:
        url = self.primary.superuser_url()
        chosen = url if on_primary else url.update_query_dict({"port": str(PORT)})
        with psycopg.connect(chosen.render_as_string(hide_password=False), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def is_followed(self) -> bool:
        return bool(self.execute("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'", on_primary=True))

    def is_waited_for(self) -> bool:
        found = self.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'", on_primary=True)
        return bool(found)

    def wait_for_it(self) -> None:
        """From now on the primary tells nobody of a commit that the standby does not have."""
        self.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'", on_primary=True)
        self.execute("SELECT pg_reload_conf()", on_primary=True)

    def promote(self) -> None:
        self.link.cut()
        [(promoted,)] = self.execute("SELECT pg_promote(true, 60)")
        assert promoted is True


@contextmanager
def standby_of(primary: EmbeddedPostgres, house: House) -> Iterator[Standby]:
    """Started, and following."""
    with (primary.data / "pg_hba.conf").open("a") as rules:
        rules.write("local replication all scram-sha-256\n")
    data = primary.data.with_name("standby")
    with Proxy.of_postgres(primary.address("postgres")) as link:
        standby = Standby(primary, link)
        standby.execute("SELECT pg_reload_conf()", on_primary=True)
        url = primary.superuser_url()
        password = str(url.password)
        command = [str(binary("pg_basebackup")), "-h", str(primary.socket_dir), "-U", str(url.username), "-D", str(data), "-c", "fast"]
        made = subprocess.run(command, env={**os.environ, "PGPASSWORD": password}, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        source = f"host=127.0.0.1 port={link.port} user={url.username} password={password} application_name={NAME}"
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"port = {PORT}\nprimary_conninfo = '{source}'\n")
        (data / "standby.signal").touch()
        for path in (data, *data.rglob("*")):
            primary._unprivileged.give(path)
        with open_log(primary.log.with_name("standby.log")) as log:
            command = [str(binary("postgres")), "-D", str(data)]
            child = spawn(command, signal.SIGINT, prefix=primary._unprivileged.prefix, output=log)
        try:
            house.wait_for(lambda: standby.socket.exists() and standby.is_followed(), "the standby follows")
            yield standby
        finally:
            child.end(signal.SIGQUIT, 5)
