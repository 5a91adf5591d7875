"""Login roles as a server that others set up must have them: quiet in its log, and back to what they are if somebody raised them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import URL

from db.server.migrate import bootstrap, current_revision
from db.server.revision import head_revision
from db.server.session import dsn
from db.settings import Role, StoreSettings
from tests.conftest import Server


def run(url: URL, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn(url), autocommit=True) as conn:
        found = conn.execute(statement.encode())
        return found.fetchall() if found.description else []


@pytest.fixture
def empty(server: Server) -> Iterator[URL]:
    """A bootstrapped database that holds nothing yet, as its superuser reaches it."""
    name = f"empty_{uuid4().hex[:8]}"
    bootstrap(server.postgres.superuser_url(), server.passwords, name)
    yield server.postgres.superuser_url(name)
    server.drop_database(name)


def test_a_role_that_was_raised_is_brought_down_again(server: Server, empty: URL) -> None:
    run(empty, "ALTER ROLE textmill_worker SUPERUSER INHERIT REPLICATION")
    run(empty, "ALTER ROLE textmill_worker SET log_statement = 'all'")
    run(empty, f"GRANT ALL ON DATABASE {empty.database} TO PUBLIC")
    bootstrap(server.postgres.superuser_url(), server.passwords, str(empty.database))
    assert run(
        empty,
        "SELECT rolsuper, rolreplication, rolinherit, 'log_statement=none' = ANY(rolconfig)"
        " FROM pg_roles WHERE rolname = 'textmill_worker'",
    ) == [(False, False, False, True)]
    assert run(empty, "SELECT has_database_privilege('public', current_database(), 'CONNECT')") == [(False,)]


def test_what_a_role_sends_is_never_logged(empty: URL) -> None:
    """Set on the roles, for the server's own settings may be others: a failing statement would be quoted, with its values."""
    found = dict(run(empty, "SELECT rolname, rolconfig FROM pg_roles WHERE rolname LIKE 'textmill%'"))
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


@pytest.mark.parametrize("password", ["two words", "it's", 'a "quote"', "back\\slash", "per%20cent", "a@b:c/d?e#f", "pässwörd"])
def test_a_password_may_hold_anything(server: Server, empty: URL, password: str) -> None:
    try:
        bootstrap(server.postgres.superuser_url(), {Role.AUDITOR: password}, str(empty.database))
        assert run(empty.set(username=Role.AUDITOR.login, password=password), "SELECT current_user") == [(Role.AUDITOR.login,)]
    finally:
        bootstrap(server.postgres.superuser_url(), {Role.AUDITOR: server.passwords[Role.AUDITOR]}, str(empty.database))


def test_the_module_migrates_the_database_of_the_settings(server: Server, settings: StoreSettings, empty: URL) -> None:
    environment = {**os.environ, "TEXTMILL_HOME": str(settings.home), "TEXTMILL_DATABASE_URL": server.address(str(empty.database))}
    done = subprocess.run(
        [sys.executable, "-m", "db.server.migrate"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    owner = empty.set(drivername="postgresql+psycopg", username=Role.OWNER.login, password=server.passwords[Role.OWNER])
    assert current_revision(owner) == head_revision()
