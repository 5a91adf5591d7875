"""Login roles as a server that others set up must have them: quiet in its log, and back to what they are if somebody raised them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import URL

from db.errors import AnotherSchema
from db.server.fitness import look
from db.server.migrate import bootstrap, current_revision
from db.server.revision import head_revision
from db.server.session import dsn
from db.server.versions import require_current
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
            "log_min_messages=fatal",
            "log_statement=none",
            "log_min_error_statement=panic",
            "log_min_duration_statement=-1",
            "log_parameter_max_length=0",
            "log_parameter_max_length_on_error=0",
            "log_error_verbosity=terse",
        } <= set(configured)  # type: ignore[call-overload]


WRITES = ("DO $$BEGIN RAISE LOG '{}'; END$$", "DO $$BEGIN RAISE WARNING '{}'; END$$", "SELECT '{}'::int", "SELECT * FROM {}")


@pytest.mark.parametrize("role", Role)
def test_no_login_role_writes_to_the_servers_log(server: Server, empty: URL, role: Role) -> None:
    mark = f"canary_{uuid4().hex}"
    login = empty.set(username=role.login, password=server.passwords[role])
    for statement in WRITES:
        with suppress(psycopg.Error):
            run(login, statement.format(mark))
    for statement in ("SET {} = 'none'", "RESET {}", "ALTER ROLE CURRENT_USER RESET {}", "ALTER ROLE CURRENT_USER SET {} = DEFAULT"):
        for setting in ("log_min_messages", "log_statement"):
            with suppress(psycopg.errors.InsufficientPrivilege):
                run(login, statement.format(setting))
                assert statement.startswith("RESET"), "of the session alone: to what the role has"
    run(login, "ALTER ROLE CURRENT_USER RESET ALL")
    run(login, WRITES[0].format(mark))
    assert mark not in server.postgres.log.read_text()
    run(empty, WRITES[0].format(mark))
    assert mark in server.postgres.log.read_text(), "the control: a superuser does"


def test_what_a_role_sets_itself_to_is_noticed_and_bootstrap_takes_it_away(
    server: Server, empty: URL, caplog: pytest.LogCaptureFixture
) -> None:
    """Postgres lets every role, and it stays, for all who log in as it."""
    login = empty.set(username=Role.AUDITOR.login, password=server.passwords[Role.AUDITOR])
    assert look(login).set_beside == ()
    try:
        run(login, f"ALTER ROLE CURRENT_USER IN DATABASE {empty.database} SET work_mem = '64kB'")
        run(login, "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
        assert look(login).set_beside == ("default_transaction_read_only", "work_mem")
        with suppress(AnotherSchema):
            require_current(login)
        assert "textmill_auditor is set to something of its own on the server (default_transaction_read_only, work_mem)" in caplog.text
    finally:
        bootstrap(server.postgres.superuser_url(), {Role.AUDITOR: server.passwords[Role.AUDITOR]}, str(empty.database))
    assert look(login).set_beside == ()


def test_what_the_database_is_set_to_is_noticed_and_bootstrap_takes_it_away(server: Server, empty: URL) -> None:
    """Its owner may, and it holds for all who log in; of all databases only a superuser may, and nobody asks them."""
    owner, auditor = (empty.set(username=role.login, password=server.passwords[role]) for role in (Role.OWNER, Role.AUDITOR))
    superuser = server.postgres.superuser_url()
    try:
        run(owner, f"ALTER DATABASE {empty.database} SET work_mem = '64kB'")
        run(superuser, "ALTER ROLE ALL SET DateStyle = 'ISO'")
        assert look(auditor).set_beside == ("work_mem",)
    finally:
        run(superuser, "ALTER ROLE ALL RESET DateStyle")
        bootstrap(superuser, {Role.AUDITOR: server.passwords[Role.AUDITOR]}, str(empty.database))
    assert look(auditor).set_beside == ()


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
