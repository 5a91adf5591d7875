"""The embedded Postgres and Valkey: made, started, stopped, and left in no state that the next start cannot mend."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from api import cli
from api.local.doctor.folder import permissions
from api.local.doctor.place import Place
from api.local.home.home import Home
from api.local.home.refusals import StackError, StackExit
from api.local.servers import unprivileged
from api.local.servers.postgres import MAX_SOCKET_PATH, EmbeddedPostgres, binary
from api.local.servers.unprivileged import Unprivileged
from api.local.servers.valkey import EmbeddedValkey
from db.connect import Store
from db.settings import Role, StoreSettings
from tests.waiting import wait_until

ROOT = Path(__file__).parents[4]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    Home(tmp_path / "h").prepare()
    return tmp_path / "h"


def ask(postgres: EmbeddedPostgres, statement: str) -> object:
    with psycopg.connect(postgres.superuser_url().render_as_string(hide_password=False)) as conn:
        row = conn.execute(statement).fetchone()  # type: ignore[call-overload]
    assert row is not None
    return row[0]


def test_every_test_has_a_database_of_its_own_with_the_real_roles(settings: StoreSettings, stores: Callable[[Role], Store]) -> None:
    for role in Role:
        with stores(role).transaction() as conn:
            assert conn.exec_driver_sql("SELECT current_user").scalar() == role.login
            assert conn.exec_driver_sql("SELECT current_database()").scalar() in (settings.database_url or "")


def test_postgres_is_made_once_and_keeps_its_data(home: Path) -> None:
    postgres = EmbeddedPostgres(home, durable=False)
    postgres.start()
    with psycopg.connect(postgres.superuser_url().render_as_string(hide_password=False), autocommit=True) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 1")
    postgres.stop()
    again = EmbeddedPostgres(home, durable=False)
    again.start()
    try:
        assert ask(again, "SELECT count(*) FROM kept") == 1
        assert ask(again, "SHOW data_checksums") == "on"
        assert ask(again, "SHOW listen_addresses") == ""
        assert ask(again, "SHOW log_parameter_max_length_on_error") == "0"
    finally:
        again.stop()
    assert again.child is None


def test_durable_postgres_syncs(home: Path) -> None:
    postgres = EmbeddedPostgres(home)
    postgres.start()
    try:
        assert [ask(postgres, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes", "jit")] == [
            "on",
            "on",
            "on",
            "off",
        ]
    finally:
        postgres.stop()


def test_a_role_needs_its_password_and_the_folder_keeps_others_out(home: Path) -> None:
    postgres = EmbeddedPostgres(home, durable=False)
    postgres.start()
    try:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(postgres.superuser_url().set(password="wrong").render_as_string(hide_password=False))
        for folder in (home / "postgres", home / "run", home / "secrets"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "secrets" / "db-superuser").stat().st_mode) == 0o600
    finally:
        postgres.stop()


def test_what_a_dead_initdb_left_is_made_anew(home: Path) -> None:
    (home / "postgres").mkdir()
    (home / "postgres" / "PG_VERSION").write_text("18\n")
    (home / "postgres.draft").mkdir()
    (home / "postgres.draft" / "junk").write_text("half")
    postgres = EmbeddedPostgres(home, durable=False)
    postgres.start()
    try:
        assert ask(postgres, "SELECT 1") == 1
    finally:
        postgres.stop()
    assert not (home / "postgres.draft").exists()


def test_a_folder_of_another_major_version_is_refused_and_left_alone(home: Path) -> None:
    control = home / "postgres" / "global" / "pg_control"
    control.parent.mkdir(parents=True)
    control.write_bytes(b"data of somebody")
    (home / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(StackError, match="PostgreSQL 17") as refusal:
        EmbeddedPostgres(home, durable=False).start()
    assert refusal.value.exit_code is StackExit.BAD_HOME
    assert control.read_bytes() == b"data of somebody"


def test_a_long_home_gets_its_socket_in_a_short_folder(tmp_path: Path) -> None:
    home = tmp_path / ("a" * 60) / ("b" * 60)
    Home(home).prepare()
    postgres = EmbeddedPostgres(home, durable=False)
    postgres.start()
    try:
        folder = postgres.socket_dir
        assert len(str(folder)) <= MAX_SOCKET_PATH
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert ask(postgres, "SELECT 1") == 1
    finally:
        postgres.stop()
    assert not folder.exists()


def test_a_stale_pid_file_that_names_another_program_does_not_stop_a_start(home: Path) -> None:
    postgres = EmbeddedPostgres(home, durable=False)
    postgres.start()
    postgres.stop()
    (home / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{home / 'postgres'}\n1\n5432\n\n\n\n")
    postgres.start()
    postgres.stop()


def test_a_killed_postgres_starts_again(home: Path) -> None:
    postgres = EmbeddedPostgres(home, durable=False)
    postgres.start()
    assert postgres.child is not None
    postgres.child.end(signal.SIGKILL, 5)
    again = EmbeddedPostgres(home, durable=False)
    again.start()
    try:
        assert ask(again, "SELECT 1") == 1
    finally:
        again.stop()


def test_where_user_namespaces_are_refused_root_runs_postgres_as_another_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works = unprivileged._works(("setpriv", "--reuid=65534", "--inh-caps=-all,+dac_override", "--ambient-caps=+dac_override", "--"))
    if os.geteuid() != 0 or not works:
        pytest.skip("not root, or nobody else may be")
    if not unprivileged.is_open_to_all(binary("initdb")):
        pytest.skip("the environment lies in a folder of root's alone: see the refusal below")
    monkeypatch.setattr(unprivileged, "_works", lambda prefix: prefix[0] == "setpriv")
    postgres = EmbeddedPostgres(home, durable=False)
    for _ in range(2):
        postgres.start()
        assert postgres.child is not None
        assert psutil.Process(postgres.child.pid).uids().effective != 0
        assert ask(postgres, "SELECT 1") == 1
        postgres.stop()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    monkeypatch.setattr(unprivileged, "_works", lambda prefix: False)
    with pytest.raises(StackError, match="ordinary user"):
        EmbeddedPostgres(home)


def test_root_is_told_when_no_other_user_may_enter_the_programs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(unprivileged, "_works", lambda prefix: prefix[0] == "setpriv")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "initdb"
    program.touch(mode=0o755)
    with pytest.raises(StackError, match="no other user may enter"):
        Unprivileged(program)


def test_nothing_survives_a_parent_that_is_killed(home: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from api.local.servers.postgres import EmbeddedPostgres
from api.local.servers.valkey import EmbeddedValkey
home = Path(sys.argv[1])
postgres, valkey = EmbeddedPostgres(home, durable=False), EmbeddedValkey(home)
postgres.start()
valkey.start()
print(postgres.child.pid, valkey.child.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        family = [psutil.Process(pid) for pid in pids]
        family += [grandchild for process in family for grandchild in process.children(recursive=True)]
        parent.kill()
    wait_until(lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family))


def test_valkey_wants_its_password_and_shows_it_to_nobody(home: Path) -> None:
    valkey = EmbeddedValkey(home)
    valkey.start()
    try:
        password = (home / "secrets" / "redis").read_text().strip()
        assert valkey.child is not None
        assert password not in " ".join(psutil.Process(valkey.child.pid).cmdline())
        assert stat.S_IMODE((home / "valkey" / "valkey.conf").stat().st_mode) == 0o600
        with redis.Redis(port=valkey.port, retry=None) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis.from_url(valkey.url) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
    finally:
        valkey.stop()


def test_valkey_says_that_its_port_is_taken(home: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(StackError, match="listening on port"):
            EmbeddedValkey(home, port=holder.getsockname()[1]).start()


def test_the_brokers_answer(broker_url: str) -> None:
    with redis.Redis.from_url(broker_url) as client:
        assert client.ping()
        assert client.dbsize() == 0


def test_roles_are_made_on_a_server_of_ones_own_with_the_passwords_given(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres = EmbeddedPostgres(home, durable=False)
    postgres.start()
    try:
        address = postgres.superuser_url()
        monkeypatch.setenv("TEXTMILL_HOME", str(tmp_path / "other"))
        monkeypatch.setenv("TEXTMILL_SUPERUSER_URL", address.render_as_string(hide_password=False))
        monkeypatch.setenv("TEXTMILL_DB_PASSWORD_API", "of-the-api")
        assert cli.run(["db", "bootstrap"]) == 0
        assert {path.name for path in (tmp_path / "other" / "secrets").iterdir()} == {f"db-{role}" for role in Role if role != Role.API}
        monkeypatch.setenv("TEXTMILL_DATABASE_URL", postgres.address("textmill"))
        assert cli.run(["db", "migrate"]) == 0
        assert cli.run(["db", "migrate"]) == 0
        with psycopg.connect(StoreSettings().database_url_for(Role.API).set(drivername="postgresql").render_as_string(False)) as conn:
            assert conn.execute("SELECT current_user").fetchone() == ("textmill_api",)
    finally:
        postgres.stop()


def test_bootstrap_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["db", "bootstrap"]) == 2
    assert "TEXTMILL_SUPERUSER_URL" in capsys.readouterr().err


@pytest.mark.parametrize("left", [None, ""])
def test_a_database_without_its_password_is_not_started_and_none_is_made_up(left: str | None, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    (home.postgres / "global").mkdir(parents=True)
    (home.postgres / "global" / "pg_control").touch()
    (home.postgres / "PG_VERSION").write_text("18\n")
    if left is not None:
        (home.secrets / "db-superuser").write_text(left)
    with pytest.raises(StackError, match=r"secrets/ of the home that was backed up is missing"):
        EmbeddedPostgres(home.path).start()
    assert [each.name for each in home.secrets.iterdir()] == ([] if left is None else ["db-superuser"])
    assert [each.check for each in permissions(Place.of(home)) if not each.ok] == ["secrets"]


def test_a_database_with_the_password_of_another_home_is_stopped_again(home: Path) -> None:
    postgres = EmbeddedPostgres(home, durable=False)
    postgres.start()
    postgres.stop()
    (home / "secrets" / "db-superuser").write_text("of another home\n")
    with pytest.raises(StackError, match=r"is not the password .* secrets/ of the home that was backed up is missing"):
        postgres.start()
    assert not (postgres.data / "postmaster.pid").exists()
