"""Deployments to look at: each part's home as deploy/make-secrets lays it, on servers that are well, and what may be broken of that."""

import json
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
import redis
from psycopg import sql
from sqlalchemy import make_url

from api.local.doctor.place import ROLES, Part
from api.local.home.secret_files import write_private
from api.local.processes.ports import free_port
from db.connect import open_store
from db.server.session import dsn
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.db.conftest import AsSuperuser

WITH_KEY: Final = ("api", "worker")
WITH_QUEUE: Final = ("worker", "dispatcher", "flower")


class WebServer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(8)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@dataclass
class Deployment:
    """One part's home, and what is in its environment. ``store`` is where key and passwords come from."""

    part: Part
    folder: Path
    store: StoreSettings
    server: Server
    as_superuser: AsSuperuser
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / self.part

    @property
    def key_file(self) -> Path:
        return self.home / "keys" / "kek.json"

    def lay(self) -> None:
        for name in ("keys", "secrets", "run"):
            (self.home / name).mkdir(parents=True, mode=0o700)
        for role in self.roles:
            write_private(self.home / "secrets" / f"db-{role.value}", self.server.passwords[role])
        if self.part in WITH_KEY:
            shutil.copy(self.store.kek_path, self.key_file)
        if self.part in WITH_QUEUE:
            self.queue_is(str(self.store.redis_url))
        if self.part == "flower":
            write_private(self.home / "flower.py", "port = 5555")
        with closing(open_store(self.store, Role.API, pool_size=1)) as store:
            store.authority()  # with the first API key a store has its key
        self.environment |= {"TEXTMILL_HOME": str(self.home), "TEXTMILL_DATABASE_URL": str(self.store.database_url)}

    @property
    def database(self) -> str:
        """The name of the store's."""
        return str(make_url(str(self.store.database_url)).database)

    def at(self, database: str) -> str:
        """The address of another database of the same server."""
        return make_url(str(self.store.database_url)).set(database=database).render_as_string()

    def queue(self, password: str | None = None) -> str:
        """The address of the queue, or with another password, or with none where that is empty."""
        url = make_url(str(self.store.redis_url))
        asked = url._replace(password=(url.password if password is None else password) or None)
        return asked.render_as_string(hide_password=False)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Whose passwords are here: `textmill db bootstrap` takes all of them from the home of the migrations."""
        return tuple(Role) if self.part == "migrate" else tuple(role for part, role in ROLES.items() if part == self.part)

    # What may be broken

    def database_is(self, url: str) -> None:
        self.environment["TEXTMILL_DATABASE_URL"] = url

    @contextmanager
    def database_is_a_web_server(self) -> Iterator[None]:
        with socketserver.TCPServer(("127.0.0.1", 0), WebServer) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            self.database_is(f"postgresql://127.0.0.1:{server.server_address[1]}/textmill")
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def queue_is(self, url: str) -> None:
        write_private(self.home / "run" / "redis.url", url)

    def password_is(self, password: str) -> None:
        for role in self.roles:
            write_private(self.home / "secrets" / f"db-{role.value}", password)

    def has_no_password(self) -> None:
        for role in self.roles:
            (self.home / "secrets" / f"db-{role.value}").unlink()

    def key_is_another(self, *, with_id: bool) -> None:
        """Of another store; or other bytes under the same id."""
        made = json.loads(self.key_file.read_text())
        other = {**made, "key": made["key"][::-1][1:].replace("=", "A") + "="}
        write_private(self.key_file, json.dumps({**other, "kek_id": "0" * 32} if with_id else other))

    def revision_is(self, revision: str) -> None:
        self.as_superuser("UPDATE alembic_version SET version_num = %s, oldest_program = %s", [revision, revision])


def a_port_where_nobody_listens() -> int:
    return free_port()


@contextmanager
def evicting(url: str) -> Iterator[None]:
    with redis.Redis.from_url(url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            yield
        finally:
            client.config_set("maxmemory-policy", "noeviction")


@contextmanager
def set_by_itself(deployment: Deployment, role: Role) -> Iterator[None]:
    """Somebody had the login of ``role``."""
    login = dsn(deployment.store.database_url_for(role))
    with psycopg.connect(login, autocommit=True) as conn:
        conn.execute("ALTER ROLE CURRENT_USER SET work_mem = '64kB'")
        try:
            yield
        finally:
            conn.execute("ALTER ROLE CURRENT_USER RESET work_mem")


@contextmanager
def powerless(deployment: Deployment) -> Iterator[None]:
    """The queue's address names a user who may log in and no more."""
    url = make_url(deployment.queue())
    with redis.Redis.from_url(deployment.queue()) as client:
        client.acl_setuser("nobody", enabled=True, reset=True, passwords=["+x"], commands=["+auth", "+hello"])
        try:
            deployment.queue_is(url.set(username="nobody", password="x").render_as_string(hide_password=False))
            yield
        finally:
            client.acl_deluser("nobody")


@contextmanager
def full(connect: Callable[[], "psycopg.Connection[object]"]) -> Iterator[None]:
    """A server that has no connection left."""
    held: list[psycopg.Connection[object]] = []
    try:
        try:
            while True:
                held.append(connect())
        except psycopg.OperationalError:
            pass
        yield
    finally:
        for each in held:
            each.close()


def make_roles(connection: "psycopg.Connection[object]", roles: Sequence[Role], password: str) -> None:
    """On a server that `textmill db bootstrap` refuses."""
    for role in roles:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role.login), sql.Literal(password)))
    connection.execute("CREATE DATABASE textmill")
