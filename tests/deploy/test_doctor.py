"""`textmill doctor` names what is broken of a deployment, that alone, and what to do; one that is well is well in each part's home."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from api.local.doctor.doctor import examine
from api.local.doctor.finding import Finding
from api.local.doctor.place import Part
from api.local.home.home import Home
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.db.conftest import AsSuperuser, as_superuser
from tests.deploy.conftest import DEBIANS, Queue, make_secrets
from tests.deploy.conftest import start as start_queue
from tests.deploy.deployments import Deployment, a_port_where_nobody_listens, evicting, full, make_roles, powerless, set_by_itself
from tests.deploy.postgres import TLS_SERVERS, Running, with_tls
from tests.faults.proxy import Proxy
from tests.pooler import PROGRAM, pooler

__all__ = ["as_superuser"]

PARTS: Final[tuple[Part, ...]] = ("api", "worker", "dispatcher", "flower", "migrate")
# The tests' own server forgets commits, which is found; a GPU with a torch for CPUs is this machine's.
NOT_OF_THE_DEPLOYMENT: Final = ("durability", "gpu")


@dataclass(frozen=True)
class Servers:
    """What the deployments are broken with, each made when it is first asked for."""

    request: pytest.FixtureRequest

    @property
    def old(self) -> "OldServer":
        """Debian's PostgreSQL with TLS."""
        found: OldServer = self.request.getfixturevalue("old_server")
        return found

    @property
    def pooled(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.request.getfixturevalue("pooled")
        return found

    @property
    def queue(self) -> Queue:
        """Debian's Redis with TLS."""
        found: Queue = self.request.getfixturevalue("tls_queue")
        return found

    @property
    def plain(self) -> str:
        """The host and port of the tests' Postgres, by TCP, without TLS."""
        found: Proxy = self.request.getfixturevalue("by_tcp")
        return f"127.0.0.1:{found.port}"


@dataclass(frozen=True)
class OldServer:
    running: Running
    keys: Path

    def url(self, host: str = "localhost", database: str = "textmill", ca: Path | None = None) -> str:
        ca = ca or self.keys / "ca.crt"
        return f"postgresql://{host}:{self.running.port}/{database}?sslmode=verify-full&sslrootcert={ca}&hostaddr=127.0.0.1"


Broken = AbstractContextManager[object]
Breaks = Callable[[Deployment, Servers], Broken | None]


@dataclass(frozen=True)
class Case:
    """``breaks`` a deployment of ``part`` that is well; ``check`` is the one line that says so, with these words, and what to do."""

    what: str
    part: Part
    breaks: Breaks
    check: str
    found: str
    todo: str


def old(breaks: Callable[[Deployment, OldServer], Broken | None]) -> Breaks:
    """On Debian's server, with the passwords of its own."""

    def on(it: Deployment, servers: Servers) -> Broken | None:
        it.password_is("old")
        it.database_is(servers.old.url())
        return breaks(it, servers.old)

    return on


def _other_ca(it: Deployment, server: OldServer) -> None:
    made = make_secrets(it.folder / "other")
    assert made.returncode == 0, made.stderr
    it.database_is(server.url(ca=it.folder / "other" / "ca.crt"))


def _no_right(it: Deployment, _: Servers) -> None:
    it.as_superuser(f"REVOKE CONNECT ON DATABASE {it.database} FROM {Role.API.login}")


def _empty(it: Deployment, _: Servers) -> None:
    it.as_superuser("DROP TABLE alembic_version")


def _too_many(_: Deployment, server: OldServer) -> Broken:
    return full(lambda: server.running.connect(str(server.running.socket)))


CASES: Final = (
    # How it is reached
    Case("the CA is another one", "api", old(_other_ca), "postgres", "not signed by the CA in `sslrootcert`", "Name the CA that did sign"),
    Case(
        "the CA's file is not there",
        "worker",
        old(lambda it, server: it.database_is(server.url(ca=Path("/nowhere/ca.crt")))),
        "postgres",
        "cannot be read: /nowhere/ca.crt",
        "sslrootcert",
    ),
    Case(
        "the certificate is for another host name",
        "api",
        old(lambda it, server: it.database_is(server.url(host="db.internal"))),
        "postgres",
        'is for "postgres" (and 2 other names), not for the host “db.internal”',
        "as its certificate does",
    ),
    Case(
        "the server has no TLS",
        "dispatcher",
        lambda it, servers: it.database_is(f"postgresql://{servers.plain}/{it.database}?sslmode=require"),
        "postgres",
        "the server has no TLS",
        "tls.conf",
    ),
    Case(
        "the server wants TLS",
        "api",
        old(lambda it, server: it.database_is(f"postgresql://localhost:{server.running.port}/textmill?sslmode=disable")),
        "postgres",
        "lets nobody in without TLS",
        "sslmode=verify-full",
    ),
    Case(
        "the host is not known",
        "worker",
        lambda it, _: it.database_is("postgresql://db.nowhere.invalid:5432/textmill"),
        "postgres",
        "no machine is known by the name “db.nowhere.invalid”",
        "spelt right",
    ),
    Case(
        "nobody listens",
        "dispatcher",
        lambda it, _: it.database_is(f"postgresql://127.0.0.1:{a_port_where_nobody_listens()}/textmill"),
        "postgres",
        "nothing listens at 127.0.0.1, port",
        "Is the server running",
    ),
    Case(
        "what listens is no PostgreSQL",
        "api",
        lambda it, _: it.database_is_a_web_server(),
        "postgres",
        "does not answer as PostgreSQL does",
        "host and port",
    ),
    Case(
        "the server's rules leave it out",
        "api",
        old(lambda it, server: it.database_is(server.url(database="textmil"))),
        "postgres",
        "rules do not let textmill_api in",
        "pg_hba.conf",
    ),
    # Who logs in, and where
    Case("the password is another one", "worker", lambda it, _: it.password_is("x"), "postgres", "refuses textmill_worker", "db-worker"),
    Case(
        "no password is there",
        "dispatcher",
        lambda it, _: it.has_no_password(),
        "postgres",
        "password",
        "db-dispatcher",
    ),
    Case("the database is another one", "api", lambda it, _: it.database_is(it.at("textmil")), "postgres", "“textmil”", "db bootstrap"),
    Case("the database is not for this role", "api", _no_right, "postgres", "textmill_api has no right to the database", "db bootstrap"),
    Case("too many clients", "worker", old(_too_many), "postgres", "no connection left", "Raise max_connections"),
    Case("no address of a database", "api", lambda it, _: it.database_is("db.internal"), "postgres", "is not a database address", "//host"),
    Case(
        "the environment is not the part's",
        "worker",
        lambda it, _: it.environment.__delitem__("TEXTMILL_DATABASE_URL"),
        "postgres",
        "TEXTMILL_DATABASE_URL is not set",
        "textmill.env",
    ),
    # What kind of server it is
    Case(
        "PostgreSQL is too old", "api", old(lambda *_: None), "postgres", "The server is PostgreSQL 15, and textmill needs 16", "Upgrade it"
    ),
    Case(
        "a pooler in transaction mode",
        "dispatcher",
        lambda it, servers: it.database_is(servers.pooled["transaction"]),
        "postgres",
        "pool_mode transaction",
        "pool_mode = session",
    ),
    Case(
        "a pooler in statement mode",
        "api",
        lambda it, servers: it.database_is(servers.pooled["statement"]),
        "postgres",
        "pool_mode transaction or statement",
        "pool_mode = session",
    ),
    Case(
        "a login role was set to something",
        "dispatcher",
        lambda it, _: set_by_itself(it, Role.DISPATCHER),
        "login role",
        "something of its own: work_mem",
        "textmill db bootstrap",
    ),
    # The key
    Case("the key file is missing", "api", lambda it, _: it.key_file.unlink(), "key file", "No key file at", "TEXTMILL_KEK_FILE"),
    Case(
        "the key file is another store's", "worker", lambda it, _: it.key_is_another(with_id=True), "key", "is not the key file", "backup"
    ),
    Case("the key file has another key", "api", lambda it, _: it.key_is_another(with_id=False), "key", "is not the key file", "backup"),
    Case("the key file is damaged", "worker", lambda it, _: _write(it.key_file, "{"), "key file", "is damaged", "Restore it"),
    Case("a password is open to all", "dispatcher", lambda it, _: _open(it), "secrets", "may be read by others", "chmod 600"),
    # The tables
    Case("the schema is old", "api", lambda it, _: it.revision_is("0001"), "tables", "revision 0001, older", "textmill db migrate"),
    Case(
        "the schema is new", "worker", lambda it, _: it.revision_is("9999"), "tables", "made by a newer textmill", "Upgrade textmill here"
    ),
    Case("there are no tables", "dispatcher", _empty, "tables", "none", "textmill db migrate"),
    # The queue
    Case(
        "Redis has another password", "worker", lambda it, _: it.queue_is(it.queue("x")), "redis", "refuses the password", "run/redis.url"
    ),
    Case(
        "Redis has a password, and its address none",
        "dispatcher",
        lambda it, _: it.queue_is(it.queue("")),
        "redis",
        "refuses the password",
        "run/redis.url",
    ),
    Case(
        "Redis lets the user do nothing",
        "worker",
        lambda it, _: powerless(it),
        "redis",
        "may not do what textmill needs",
        "users.acl",
    ),
    Case(
        "Redis is down",
        "dispatcher",
        lambda it, _: it.queue_is(f"redis://127.0.0.1:{a_port_where_nobody_listens()}/0"),
        "redis",
        "nothing listens there",
        "Is it running",
    ),
    Case(
        "Redis has no such host", "flower", lambda it, _: it.queue_is("redis://q.nowhere.invalid/0"), "redis", "by that name", "spelt right"
    ),
    Case(
        "Redis has no TLS",
        "worker",
        lambda it, _: it.queue_is(it.queue().replace("redis:", "rediss:")),
        "redis",
        "no answer",
        "TLS",
    ),
    Case(
        "Redis wants TLS", "worker", lambda it, servers: it.queue_is(_without_tls(servers.queue)), "redis", "hung up at once", "rediss://"
    ),
    Case(
        "the CA of Redis is another one", "flower", lambda it, servers: _other_queue_ca(it, servers), "redis", "not signed", "ssl_ca_certs"
    ),
    Case("Redis evicts", "flower", lambda it, _: evicting(it.queue()), "redis", "allkeys-lru", "noeviction"),
    Case(
        "no queue is named",
        "worker",
        lambda it, _: (it.home / "run" / "redis.url").unlink(),
        "redis",
        "finds its queue nowhere",
        "Name the",
    ),
    # The environment
    Case(
        "a setting is misspelt",
        "api",
        lambda it, _: it.environment.update(TEXTMILL_MAX_UPLOAD_BYTE="1"),
        "settings",
        "did you mean TEXTMILL_MAX_UPLOAD_BYTES?",
        "textmill docs settings",
    ),
    Case(
        "a setting has no such value",
        "worker",
        lambda it, _: it.environment.update(TEXTMILL_THREADS="many"),
        "settings",
        "TEXTMILL_THREADS",
        "textmill docs settings",
    ),
)


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _open(it: Deployment) -> None:
    (it.home / "secrets" / "db-dispatcher").chmod(0o644)


def _without_tls(queue: Queue) -> str:
    return queue.url.replace("rediss:", "redis:").partition("?")[0]


def _other_queue_ca(it: Deployment, servers: Servers) -> None:
    made = make_secrets(it.folder / "other")
    assert made.returncode == 0, made.stderr
    it.queue_is(servers.queue.url.replace(str(servers.queue.folder / "secrets"), str(it.folder / "other")))


@pytest.fixture(scope="module")
def old_server(secrets_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldServer]:
    if not TLS_SERVERS:
        pytest.skip("no PostgreSQL with TLS is installed")
    with with_tls(tmp_path_factory.mktemp("old"), secrets_folder, max_connections="8") as running:
        with running.connect(str(running.socket)) as connection:
            connection.autocommit = True
            make_roles(connection, tuple(Role), "old")
        yield OldServer(running, secrets_folder)


@pytest.fixture
def pooled(server: Server, it: Deployment, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    if PROGRAM is None:
        pytest.skip("pgbouncer is not installed")
    (tmp_path / "pooler").mkdir()
    with pooler(server, it.database, tmp_path / "pooler") as addresses:
        yield addresses


@pytest.fixture(scope="module")
def tls_queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    if DEBIANS is None:
        pytest.skip("redis-server is not installed")
    server, queue = start_queue(DEBIANS, tmp_path_factory.mktemp("tls-queue"), tls=True)
    yield queue
    server.terminate()
    server.wait(10)


@pytest.fixture
def by_tcp(server: Server) -> Iterator[Proxy]:
    with Proxy.of_postgres(server.postgres.address("postgres")) as proxy:
        yield proxy


@pytest.fixture
def part(request: pytest.FixtureRequest) -> Part:
    chosen: Part = request.param
    return chosen


@pytest.fixture
def it(
    part: Part,
    settings: StoreSettings,
    server: Server,
    as_superuser: AsSuperuser,
    tmp_path: Path,
) -> Deployment:
    """A deployment of ``part`` that is well."""
    made = Deployment(part, tmp_path / "deployed", settings, server, as_superuser)
    made.lay()
    return made


@pytest.fixture
def look(it: Deployment, monkeypatch: pytest.MonkeyPatch) -> Callable[[Part | None], list[Finding]]:
    def look_at(whose: Part | None = None) -> list[Finding]:
        """What is not in order."""
        for name in [name for name in os.environ if name.startswith("TEXTMILL_")]:
            monkeypatch.delenv(name)
        for name, value in it.environment.items():
            monkeypatch.setenv(name, value)
        return [each for each in examine(Home(it.home), whose) if not each.ok and each.check not in NOT_OF_THE_DEPLOYMENT]

    return look_at


@pytest.mark.parametrize("part", PARTS, indirect=True)
@pytest.mark.parametrize("told", [False, True], ids=["by what lies there", "as it is told"])
def test_what_is_well_is_well_in_each_parts_home(it: Deployment, look: Callable[[Part | None], list[Finding]], told: bool) -> None:
    assert look(it.part if told else None) == []


@pytest.mark.parametrize("part", ["api", "worker", "dispatcher", "migrate"], indirect=True)
def test_what_is_well_is_well_through_a_pooler_that_keeps_sessions_apart(
    it: Deployment, look: Callable[[Part | None], list[Finding]], pooled: Mapping[str, str]
) -> None:
    it.database_is(pooled["session"])
    assert look(None) == []


@pytest.mark.parametrize(("part", "case"), [(case.part, case) for case in CASES], indirect=["part"], ids=[case.what for case in CASES])
def test_what_is_broken_is_named(
    it: Deployment, case: Case, request: pytest.FixtureRequest, look: Callable[[Part | None], list[Finding]]
) -> None:
    """By what lies in the home; and as that part's, where somebody says so."""
    with case.breaks(it, Servers(request)) or nullcontext():
        wrong = look(None)
        if case.what.startswith("no "):  # something is missing by which the home could be known
            assert [each.check for each in look(case.part)] == [case.check]
    assert [each.check for each in wrong] == [case.check], wrong
    [finding] = wrong
    assert case.found in finding.found
    assert case.todo in finding.todo
    for secret in it.server.passwords.values():
        assert secret not in finding.found + finding.todo
