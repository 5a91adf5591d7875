"""Real servers for the tests: one Postgres and one Valkey a process of the run, a database of its own a test. Nothing is mocked, nothing
survives.

The servers die with this process in whatever way it ends (see api/local/processes/launch.py), lie in a folder of their own and listen on a
socket and on free ports, so that several runs may go on at once.
"""

import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import psycopg
import pytest
import redis
from psycopg import sql

from api.local.home.home import Home
from api.local.home.secret_files import write_private
from api.local.servers.postgres import EmbeddedPostgres
from api.local.servers.valkey import EmbeddedValkey
from db.actors import Actor
from db.connect import Store, open_store
from db.operators.api_keys import SCOPES
from db.operators.tenants import create_tenant
from db.sealing.keys import LocalKeyFile
from db.server.migrate import bootstrap, grant_database, migrate
from db.settings import Role, StoreSettings
from tests.faults.plugin import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtest_makereport,
    pytest_sessionfinish,
)

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
]

# Of no single example: the machine may be busy, and a test has a limit as a whole.
hypothesis.settings.register_profile("textmill", deadline=None)
hypothesis.settings.load_profile("textmill")

PREFIX = "textmill-tests-"
IN_MEMORY, NEEDED_BYTES = Path("/dev/shm"), 4 << 30  # a database is some 300 files: half as long to copy where no disk keeps a journal
TEMPLATE = "textmill_template"


@dataclass(frozen=True)
class Server:
    """The Postgres of this process: migrated once into a template, of which each test gets a copy (some 25 ms)."""

    postgres: EmbeddedPostgres
    passwords: dict[Role, str]
    names: Iterator[int]

    def execute(self, statement: sql.Composed | str) -> None:
        """As superuser."""
        url = self.postgres.superuser_url().render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(statement if isinstance(statement, sql.Composed) else sql.SQL(statement))

    def new_database(self) -> str:
        """An empty, migrated database of its own. Returns its name."""
        name = f"test_{next(self.names)}"
        identifier = sql.Identifier(name)
        url = self.postgres.superuser_url().render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    identifier, sql.Identifier(Role.OWNER.login), sql.Identifier(TEMPLATE)
                )
            )
            grant_database(conn, name)
        return name

    def drop_database(self, name: str) -> None:
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def address(self, database: str) -> str:
        """What TEXTMILL_DATABASE_URL takes; the passwords are files of a home (see the fixture ``settings``)."""
        return self.postgres.address(database)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Of bytes: how many. What they are may be megabytes, and differ between processes that must collect the same tests: gzip writes down
    the second."""
    return f"{len(val)} bytes" if isinstance(val, bytes) and (len(val) > 60 or val.startswith(b"\x1f\x8b")) else None


@pytest.fixture(scope="session", autouse=True)
def no_textmill_environment() -> Iterator[None]:
    """What the person who runs the tests has set for a stack of their own must not reach them."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("TEXTMILL_")}
    yield
    os.environ.update(kept)


@pytest.fixture(scope="session")
def servers_home() -> Iterator[Path]:
    """Where this run's servers live. A run that was killed could not remove its own; the next one does."""
    place = IN_MEMORY if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > NEEDED_BYTES else Path(tempfile.gettempdir())
    for left in place.glob(f"{PREFIX}*-*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place))
    Home(path).prepare()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def server(servers_home: Path) -> Iterator[Server]:
    """Postgres with our roles and a migrated template database."""
    postgres = EmbeddedPostgres(servers_home, durable=False)
    postgres.start()
    try:
        passwords = {role: uuid.uuid4().hex for role in Role}
        bootstrap(postgres.superuser_url(), passwords, TEMPLATE)
        owner = postgres.superuser_url(TEMPLATE).set(
            drivername="postgresql+psycopg", username=Role.OWNER.login, password=passwords[Role.OWNER]
        )
        migrate(owner)
        yield Server(postgres, passwords, itertools.count(1))
    finally:
        postgres.stop(hurry=True)


@pytest.fixture(scope="session")
def valkey(servers_home: Path) -> Iterator[str]:
    """The address of a Valkey, database 0."""
    running = EmbeddedValkey(servers_home)
    running.start()
    try:
        yield running.url
    finally:
        running.stop(hurry=True)


@pytest.fixture(scope="session")
def redis_server(servers_home: Path) -> Iterator[str]:
    """The address of a real Redis, where the machine has one; else the test is skipped."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    home = servers_home / "redis"
    Home(home).prepare()
    running = EmbeddedValkey(home, program=Path(program))
    running.start()
    try:
        yield running.url
    finally:
        running.stop(hurry=True)


@pytest.fixture(params=["valkey", "redis"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """An empty broker: Valkey, and Redis where ``redis-server`` is installed."""
    url: str = request.getfixturevalue("valkey" if request.param == "valkey" else "redis_server")
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def settings(server: Server, valkey: str, tmp_path: Path) -> Iterator[StoreSettings]:
    """A fresh home with keys and passwords, a fresh database, and the queue."""
    home = tmp_path / "home"
    Home(home).prepare()
    LocalKeyFile.create(home / "keys" / "kek.json")
    for role, password in server.passwords.items():
        write_private(home / "secrets" / f"db-{role.value}", password)
    database = server.new_database()
    yield StoreSettings(home=home, database_url=server.address(database), redis_url=valkey)
    server.drop_database(database)


@pytest.fixture
def stores(settings: StoreSettings) -> Iterator[Callable[[Role], Store]]:
    """Opens stores by role; one a role, closed after the test."""
    opened: dict[Role, Store] = {}

    def store(role: Role) -> Store:
        if role not in opened:
            opened[role] = open_store(settings, role)
        return opened[role]

    yield store
    for each in opened.values():
        each.close()


@pytest.fixture
def tenant(stores: Callable[[Role], Store]) -> Actor:
    """Somebody with all scopes in a tenant of their own."""
    tenant_id = create_tenant(stores(Role.API), "a tenant")
    return Actor(tenant_id=tenant_id, principal_id=uuid.uuid4(), key_id=None, scopes=SCOPES)
