"""The soak's own Postgres, durable as `textmill up` makes it, and its own Valkey: started, broken, started again.

The kernel ends both with the thread that started them, so all of this is for the main thread.
"""

import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from api.local.home.home import Home
from api.local.home.refusals import StackError
from api.local.home.secret_files import write_private
from api.local.servers.postgres import EmbeddedPostgres
from api.local.servers.valkey import EmbeddedValkey
from db.sealing.keys import LocalKeyFile
from db.server.migrate import DATABASE, bootstrap, migrate
from db.settings import Role, StoreSettings

END_SECONDS: Final = 30.0
BACK_SECONDS: Final = 60.0
# A vacuum comes a minute after a start at the soonest, and no Postgres lives that long here: what was deleted would stay on the disk.
VACUUM_EVERY: Final = "5s"


class Servers:
    """``settings``: a home with keys and passwords, the database, the queue. Use :func:`running`."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.prepare()
        LocalKeyFile.create(self.home.keys / "kek.json")
        self.postgres = EmbeddedPostgres(self.home.path)
        self.valkey = EmbeddedValkey(self.home.path)

    def start(self) -> None:
        passwords = {role: uuid.uuid4().hex for role in Role}
        for role, password in passwords.items():
            write_private(self.home.secrets / f"db-{role.value}", password)
        self.postgres.start()
        bootstrap(self.postgres.superuser_url(), passwords)
        login = {"username": Role.OWNER.login, "password": passwords[Role.OWNER]}
        migrate(self.postgres.superuser_url(DATABASE).set(drivername="postgresql+psycopg", **login))  # type: ignore[arg-type]
        with self.superuser() as connection:
            connection.autocommit = True
            connection.execute(sql.SQL("ALTER SYSTEM SET autovacuum_naptime = {}").format(sql.Literal(VACUUM_EVERY)))
            connection.execute("SELECT pg_reload_conf()")
        self.valkey.start()

    @property
    def settings(self) -> StoreSettings:
        return StoreSettings(home=self.home.path, database_url=self.postgres.address(DATABASE), redis_url=self.valkey.url)

    def stop(self) -> None:
        self.valkey.stop(hurry=True)
        self.postgres.stop(hurry=True)

    def restart_postgres(self, number: signal.Signals) -> None:
        """SIGINT: fast; SIGQUIT: immediate; SIGKILL: what its processes leave must go by itself before the next one may start."""
        child = self.postgres.child
        assert child is not None
        child.signal(number)
        assert child.wait(END_SECONDS), "Postgres does not end"
        until = time.monotonic() + BACK_SECONDS
        while True:
            try:
                self.postgres.start()
                return
            except StackError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def restart_valkey(self, away_seconds: float) -> None:
        """Killed, and after a while an empty one at the same port."""
        child = self.valkey.child
        assert child is not None
        child.signal(signal.SIGKILL)
        assert child.wait(END_SECONDS)
        time.sleep(away_seconds)
        self.valkey.start()

    def superuser(self) -> "psycopg.Connection[Any]":
        url = self.postgres.superuser_url(DATABASE).render_as_string(hide_password=False)
        return psycopg.connect(url, connect_timeout=5)

    def size_bytes(self) -> int:
        """Of all that lies in the home: the database, its log, the logs."""
        total = 0
        for path in self.home.path.rglob("*"):
            try:
                total += path.lstat().st_blocks * 512
            except FileNotFoundError:  # removed meanwhile
                continue
        return total


@contextmanager
def running(folder: Path) -> Iterator[Servers]:
    servers = Servers(folder)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
