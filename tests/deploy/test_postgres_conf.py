"""deploy/postgres: a real server starts with these files, and does what they promise."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from api.local.home.home import Home
from api.local.processes.children import Child, open_log, spawn
from api.local.processes.ports import free_port
from api.local.servers.postgres import QUIET, EmbeddedPostgres, binary
from api.local.servers.unprivileged import Unprivileged
from db import migrate
from db.settings import Role
from tests.deploy.conftest import DEPLOY, make_secrets
from tests.waiting import wait_until

CONF = DEPLOY / "postgres"
SMALL = {"shared_buffers": "16MB", "max_wal_size": "256MB"}  # the file's sizes are for a bigger machine
TLS_SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))  # Debian's; the wheel is built without TLS


@dataclass
class Running:
    child: Child
    log: Path
    port: int
    socket: Path
    password: str

    def connect(self, host: str, **options: str) -> "psycopg.Connection[dict[str, object]]":
        return psycopg.connect(
            host=host, port=self.port, dbname="postgres", user="postgres", password=self.password, row_factory=dict_row, **options
        )


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
    for name, value in {**QUIET, **migrate._QUIET}.items():
        if name not in ("log_connections", "log_line_prefix"):
            assert written[name] == value, name


@pytest.mark.skipif(not TLS_SERVERS, reason="no PostgreSQL with TLS is installed")
def test_tls_is_on_with_our_certificates_and_needed_to_log_in(secrets_folder: Path, tmp_path: Path) -> None:
    program = TLS_SERVERS[-1]
    folder, data = tmp_path, tmp_path / "data"
    keys = tmp_path / "keys"
    shutil.copytree(secrets_folder, keys)
    if os.geteuid() == 0:
        for path in keys.iterdir():
            os.chown(path, 0, 0)
    password = (keys / "db-superuser").read_text().strip()
    tls = (CONF / "tls.conf").read_text().replace("/run/secrets", str(keys))
    (folder / "tls.conf").write_text(tls)
    (folder / "postgresql.conf").write_text("include = 'tls.conf'\npassword_encryption = 'scram-sha-256'\n")
    initdb = [*Unprivileged(program).prefix, str(program.with_name("initdb")), f"--pgdata={data}", "--username=postgres", "--no-sync"]
    made = subprocess.run(
        [*initdb, f"--pwfile={keys / 'db-superuser'}", "--auth=scram-sha-256"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    server = start(
        [str(program), "-c", f"config_file={folder / 'postgresql.conf'}", "-c", f"hba_file={CONF / 'pg_hba.conf'}"],
        data,
        folder,
        password,
        {"fsync": "off"},
    )
    try:
        with server.connect("localhost", sslmode="verify-full", sslrootcert=str(keys / "ca.crt")) as connection:
            found = connection.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
            assert found is not None
            assert found["version"] in {"TLSv1.2", "TLSv1.3"}
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects connection"):
            server.connect("localhost", sslmode="disable")
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            server.connect("localhost", sslmode="verify-full", sslrootcert=str(_other_ca(tmp_path / "other")))
    finally:
        server.child.end(signal.SIGINT, 10)


def _other_ca(folder: Path) -> Path:
    make_secrets(folder)
    return folder / "ca.crt"
