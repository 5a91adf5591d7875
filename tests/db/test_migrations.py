"""A database comes from nothing to this version in one step or not at all, and login roles come back to what they must be."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from db.errors import SettingsError
from db.migrate import _dsn, bootstrap, current_revision, head_revision, migrate
from db.schema import metadata
from db.settings import Role, StoreSettings
from tests.conftest import Server

TABLES = (
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')"
)


def run(url: URL, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(_dsn(url), autocommit=True) as conn:
        found = conn.execute(statement.encode())
        return found.fetchall() if found.description else []


@pytest.fixture
def empty(server: Server) -> Iterator[str]:
    """A bootstrapped database that holds nothing yet."""
    name = f"empty_{uuid4().hex[:8]}"
    bootstrap(server.postgres.superuser_url(), server.passwords, name)
    yield name
    server.drop_database(name)


@pytest.fixture
def as_owner(server: Server, empty: str) -> URL:
    owner = server.postgres.superuser_url(empty).set(username=Role.OWNER.login, password=server.passwords[Role.OWNER])
    return owner.set(drivername="postgresql+psycopg")


def test_an_empty_database_comes_to_this_version_and_stays_there(as_owner: URL) -> None:
    assert current_revision(as_owner) is None
    migrate(as_owner)
    assert current_revision(as_owner) == head_revision()
    there = run(as_owner, TABLES)
    assert set(metadata.tables) <= {name for (name,) in there}
    migrate(as_owner)
    assert current_revision(as_owner) == head_revision()
    assert run(as_owner, TABLES) == there


def test_several_processes_may_migrate_at_once(as_owner: URL) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            migrate(as_owner)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failed == []
    assert run(as_owner, "SELECT version_num FROM alembic_version") == [(head_revision(),)]


def test_a_migration_that_fails_half_way_leaves_nothing(as_owner: URL) -> None:
    run(as_owner, "CREATE TABLE shards (in_the_way int)")
    with pytest.raises(DBAPIError, match="already exists"):
        migrate(as_owner)
    assert run(as_owner, TABLES) == [("shards",)]
    run(as_owner, "DROP TABLE shards")
    migrate(as_owner)
    assert current_revision(as_owner) == head_revision()


def test_a_database_of_a_newer_version_is_left_alone(as_owner: URL) -> None:
    migrate(as_owner)
    run(as_owner, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError, match="newer textmill") as caught:
        migrate(as_owner)
    assert caught.value.code == "newer_home"
    assert current_revision(as_owner) == "9999"


def test_the_module_migrates_the_database_of_the_settings(settings: StoreSettings, as_owner: URL) -> None:
    environment = {
        **os.environ,
        "TEXTMILL_HOME": str(settings.home),
        "TEXTMILL_DATABASE_URL": as_owner.render_as_string(hide_password=False),
    }
    done = subprocess.run([sys.executable, "-m", "db.migrate"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert current_revision(as_owner) == head_revision()


# Login roles


def test_to_bootstrap_again_changes_nothing(server: Server, empty: str, as_owner: URL) -> None:
    migrate(as_owner)
    superuser = server.postgres.superuser_url(empty)
    rights = "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    of_database = f"SELECT datacl::text, pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{empty}'"
    before = run(superuser, rights), run(superuser, of_database)
    bootstrap(server.postgres.superuser_url(), server.passwords, empty)
    assert (run(superuser, rights), run(superuser, of_database)) == before


def test_a_role_that_was_raised_is_brought_down_again(server: Server, empty: str) -> None:
    superuser = server.postgres.superuser_url(empty)
    run(superuser, "ALTER ROLE textmill_worker SUPERUSER BYPASSRLS CREATEROLE INHERIT")
    run(superuser, "ALTER ROLE textmill_worker SET log_statement = 'all'")
    run(superuser, f"GRANT ALL ON DATABASE {empty} TO PUBLIC")
    run(superuser, "GRANT ALL ON SCHEMA public TO PUBLIC")
    bootstrap(server.postgres.superuser_url(), server.passwords, empty)
    assert run(
        superuser,
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolinherit, 'log_statement=none' = ANY(rolconfig)"
        " FROM pg_roles WHERE rolname = 'textmill_worker'",
    ) == [(False, False, False, False, True)]
    assert run(superuser, "SELECT has_database_privilege('public', current_database(), 'CONNECT')") == [(False,)]
    assert run(superuser, "SELECT has_schema_privilege('public', 'public', 'USAGE')") == [(False,)]


def test_a_new_password_replaces_the_old_one(server: Server, empty: str) -> None:
    url = server.postgres.superuser_url(empty).set(username=Role.AUDITOR.login)
    old = server.passwords[Role.AUDITOR]
    try:
        bootstrap(server.postgres.superuser_url(), {Role.AUDITOR: "it's \\new' --"}, empty)
        assert run(url.set(password="it's \\new' --"), "SELECT 1") == [(1,)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            run(url.set(password=old), "SELECT 1")
    finally:
        bootstrap(server.postgres.superuser_url(), {Role.AUDITOR: old}, empty)
    assert run(url.set(password=old), "SELECT 1") == [(1,)]


def test_what_a_role_sends_is_never_logged_by_the_server(server: Server, empty: str) -> None:
    """Set on the roles, which they cannot change: on a server that others set up, its own settings would quote a failing statement."""
    found = dict(run(server.postgres.superuser_url(empty), "SELECT rolname, rolconfig FROM pg_roles WHERE rolname LIKE 'textmill%'"))
    assert set(found) == {role.login for role in Role}
    for configured in found.values():
        assert {
            "log_statement=none",
            "log_min_error_statement=panic",
            "log_min_duration_statement=-1",
            "log_parameter_max_length=0",
            "log_parameter_max_length_on_error=0",
            "log_error_verbosity=terse",
        } <= set(configured)  # type: ignore[call-overload]


@pytest.mark.parametrize("role", list(Role))
def test_a_role_gets_into_its_database_and_into_no_schema_of_others(server: Server, empty: str, role: Role) -> None:
    url = server.postgres.superuser_url(empty).set(username=role.login, password=server.passwords[role])
    assert run(url, "SELECT current_user") == [(role.login,)]
    made = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(f"of_{role}")).as_string()
    if role is Role.OWNER:
        run(url, made)
    else:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(url, made)
