"""A process that starts on a database of another version, or with another key file, says so in a sentence, and ends."""

import base64
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from api.cli import run
from api.local.home.secret_files import write_private
from db import migrations
from db.actors import Actor
from db.connect import dsn, open_store
from db.errors import SettingsError
from db.settings import Role, StoreSettings
from db.versions import ensure_current, head_revision
from tests.conftest import Server
from tests.db.conftest import AsSuperuser
from tests.db.test_migrate import as_role, empty  # noqa: F401

PARTS = {Role.API: ["api", "--port", "1"], Role.WORKER: ["worker", "--device", "cpu"], Role.DISPATCHER: ["dispatcher"]}
components = pytest.mark.parametrize("role", PARTS)


def test_the_numbers_of_the_files_are_the_order_of_the_chain() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert [head_revision()] == list(ScriptDirectory.from_config(config).get_heads())


@components
def test_a_database_at_this_version_is_taken(settings: StoreSettings, role: Role) -> None:
    ensure_current(settings.database_url_for(role))


@components
@pytest.mark.parametrize(("revision", "told"), [("0001", "run `textmill db migrate` first"), ("9999", "upgrade this one")])
def test_another_version_is_told(settings: StoreSettings, as_superuser: AsSuperuser, role: Role, revision: str, told: str) -> None:
    as_superuser("UPDATE alembic_version SET version_num = %s", [revision])
    with pytest.raises(SettingsError, match=told):
        ensure_current(settings.database_url_for(role))


@components
def test_a_database_from_before_it_could_be_asked_is_older(settings: StoreSettings, as_superuser: AsSuperuser, role: Role) -> None:
    as_superuser(f"REVOKE ALL ON alembic_version FROM {role.login}")
    with pytest.raises(SettingsError, match="run `textmill db migrate` first"):
        ensure_current(settings.database_url_for(role))


def test_an_empty_database_is_older(server: Server, empty: str) -> None:  # noqa: F811
    with pytest.raises(SettingsError, match="run `textmill db migrate` first"):
        ensure_current(as_role(server, empty, Role.API))


def test_a_database_that_is_away_is_no_reason_to_end(settings: StoreSettings) -> None:
    ensure_current(settings.database_url_for(Role.API).set(host="127.0.0.1", port=1, query={}))


@components
def test_nobody_changes_the_revision(settings: StoreSettings, role: Role) -> None:
    with psycopg.connect(dsn(settings.database_url_for(role))) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("UPDATE alembic_version SET version_num = '0001'")


@components
def test_each_part_ends_with_one_sentence(settings: StoreSettings, as_superuser: AsSuperuser, role: Role) -> None:
    as_superuser("UPDATE alembic_version SET version_num = '0001'")
    ended = run_part(settings, role)
    assert ended.returncode == 3
    assert "The database is older than this textmill: run `textmill db migrate` first." in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("role", [Role.API, Role.WORKER])
@pytest.mark.parametrize("kek_id", ["another", None], ids=["another id", "another key under the same id"])
def test_a_part_with_another_key_file_ends_with_one_sentence(
    settings: StoreSettings, as_superuser: AsSuperuser, tenant: Actor, role: Role, kek_id: str | None
) -> None:
    made = json.loads(settings.kek_path.read_text())
    with closing(open_store(settings, Role.API)) as store:
        store.authority()
    other = {**made, "kek_id": kek_id or made["kek_id"], "key": base64.b64encode(bytes(32)).decode()}
    write_private(settings.home / "other.json", json.dumps(other))
    ended = run_part(settings, role, TEXTMILL_KEK_FILE=str(settings.home / "other.json"))
    assert ended.returncode == 3
    assert "wrapped by another key file" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_a_tenant_before_there_are_tables_is_refused_in_a_sentence(
    server: Server,
    empty: str,  # noqa: F811
    settings: StoreSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TEXTMILL_HOME", str(settings.home))
    monkeypatch.setenv("TEXTMILL_DATABASE_URL", server.address(empty))
    assert run(["db", "tenant", "acme"]) == 3
    assert capsys.readouterr().err == "textmill: The database is older than this textmill: run `textmill db migrate` first.\n"


@pytest.mark.parametrize("role", [Role.API, Role.WORKER])
def test_a_part_without_its_key_file_ends_with_one_sentence(settings: StoreSettings, role: Role) -> None:
    ended = run_part(settings, role, TEXTMILL_KEK_FILE=str(settings.home / "none.json"))
    assert ended.returncode == 3
    assert "No key file at" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def run_part(settings: StoreSettings, role: Role, **more: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "TEXTMILL_HOME": str(settings.home),
        "TEXTMILL_DATABASE_URL": settings.database_url or "",
        "TEXTMILL_REDIS_URL": "redis://127.0.0.1:1/0",
        **more,
    }
    return subprocess.run([sys.executable, "-m", "api.cli", *PARTS[role]], env=environment, capture_output=True, text=True, timeout=60)
