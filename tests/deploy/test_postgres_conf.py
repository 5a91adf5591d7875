"""deploy/postgres: a real server starts with these files, and does what they promise."""

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.local.home.home import Home
from api.local.servers.postgres import QUIET, EmbeddedPostgres, binary
from db.server import role_settings
from db.settings import Role
from tests.deploy.conftest import make_secrets
from tests.deploy.postgres import CONF, SMALL, TLS_SERVERS, Running, start, with_tls


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The wheel's PostgreSQL 18 with postgresql.conf and pg_hba.conf as they are. It has no TLS: tls.conf is not beside them."""
    folder = tmp_path_factory.mktemp("postgres")
    Home(folder / "home").prepare()
    embedded = EmbeddedPostgres(folder / "home", durable=False)
    embedded.start()
    password = str(embedded.superuser_url().password)
    embedded.stop()
    for name in ("postgresql.conf", "pg_hba.conf"):
        shutil.copy(CONF / name, folder / name)
    server = start(
        [str(binary("postgres")), "-c", f"config_file={folder / 'postgresql.conf'}", "-c", f"hba_file={folder / 'pg_hba.conf'}"],
        embedded.data,
        folder,
        password,
        {},
    )
    yield server
    server.child.end(signal.SIGINT, 10)


def test_the_server_takes_every_setting(running: Running) -> None:
    written = set(re.findall(r"^(\w+) =", (CONF / "postgresql.conf").read_text(), re.MULTILINE)) - {"include_if_exists"}
    overridden = {"listen_addresses", *SMALL}
    with running.connect(str(running.socket)) as connection:
        found = connection.execute("SELECT name, applied, error FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.conf'").fetchall()
    assert {row["name"] for row in found} == written
    assert {row["name"]: row["error"] for row in found if not row["applied"]}.keys() <= overridden


def test_the_server_understands_every_line_about_who_may_log_in(running: Running) -> None:
    with running.connect(str(running.socket)) as connection:
        rules = connection.execute("SELECT * FROM pg_hba_file_rules").fetchall()
    lines = [line for line in (CONF / "pg_hba.conf").read_text().splitlines() if line and not line.startswith("#")]
    assert len(rules) == len(lines)
    assert {rule["error"] for rule in rules} <= {None, "hostssl record cannot match because SSL is not supported by this build"}
    assert {rule["auth_method"] for rule in rules} == {"scram-sha-256", "reject"}


def test_nobody_gets_in_without_tls(running: Running) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects connection"):
        running.connect("127.0.0.1")


def test_the_roles_that_may_log_in_are_the_ones_textmill_has_and_the_one_for_backups() -> None:
    named = set(re.findall(r"^hostssl\s+textmill\s+(\w+)", (CONF / "pg_hba.conf").read_text(), re.MULTILINE))
    assert named == {role.login for role in Role} | {"textmill_backup"}


def test_a_failing_statement_leaves_nothing_of_itself_in_the_log(running: Running) -> None:
    with running.connect(str(running.socket)) as connection:
        connection.execute("CREATE TEMPORARY TABLE t (x text CHECK (x <> 'canary-7f3a'))")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("INSERT INTO t VALUES (%s)", ("canary-7f3a",))
    with running.connect(str(running.socket)) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT 'canary-7f3a' FROM nowhere")
    assert "canary-7f3a" not in running.log.read_text()
    assert "nowhere" in running.log.read_text()  # the log is written, and we look at the right one


def test_the_server_is_as_quiet_as_the_embedded_one_and_as_our_roles() -> None:
    text = (CONF / "postgresql.conf").read_text()
    written = {name: value.strip("'") for name, value in re.findall(r"^(\w+) = ('[^']*'|\S+)", text, re.MULTILINE)}
    for name, value in {**QUIET, **role_settings.QUIET}.items():
        if name not in ("log_connections", "log_line_prefix", "log_min_messages"):  # what administrators and the server do is told
            assert written[name] == value, name


@pytest.mark.skipif(not TLS_SERVERS, reason="no PostgreSQL with TLS is installed")
def test_tls_is_on_with_our_certificates_and_needed_to_log_in(secrets_folder: Path, tmp_path: Path) -> None:
    with with_tls(tmp_path, secrets_folder) as server:
        with server.connect("localhost", sslmode="verify-full", sslrootcert=str(secrets_folder / "ca.crt")) as connection:
            found = connection.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
            assert found is not None
            assert found["version"] in {"TLSv1.2", "TLSv1.3"}
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects connection"):
            server.connect("localhost", sslmode="disable")
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            server.connect("localhost", sslmode="verify-full", sslrootcert=str(_other_ca(tmp_path / "other")))


def _other_ca(folder: Path) -> Path:
    make_secrets(folder)
    return folder / "ca.crt"
