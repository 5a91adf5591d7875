"""A process that starts on a database of another version, or with another key file, says so in a sentence, and ends."""

import base64
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
from db.connect import open_store
from db.errors import AnotherSchema, SettingsError
from db.queue.leader import Leadership
from db.server.migrate import LOCK, migrate, oldest_program
from db.server.revision import head_revision
from db.server.session import dsn
from db.server.versions import ensure_current
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores
from tests.db.server.test_migrate import as_role, empty  # noqa: F401
from tests.waiting import wait_until

PARTS = {Role.API: ["api", "--port", "1"], Role.WORKER: ["worker", "--device", "cpu"], Role.DISPATCHER: ["dispatcher"]}
components = pytest.mark.parametrize("role", PARTS)


def test_the_numbers_of_the_files_are_the_order_of_the_chain() -> None:
    assert [head_revision()] == list(ScriptDirectory.from_config(chain()).get_heads())


@components
def test_a_database_at_this_version_is_taken(settings: StoreSettings, role: Role) -> None:
    ensure_current(settings.database_url_for(role))


@components
@pytest.mark.parametrize(("revision", "told"), [("0001", "run `textmill db migrate` first"), ("9999", "upgrade this one")])
def test_another_version_is_told(settings: StoreSettings, as_superuser: AsSuperuser, role: Role, revision: str, told: str) -> None:
    move_to(as_superuser, revision)
    with pytest.raises(SettingsError, match=told):
        ensure_current(settings.database_url_for(role))


@components
def test_a_newer_database_that_serves_this_version_is_taken(settings: StoreSettings, as_superuser: AsSuperuser, role: Role) -> None:
    move_to(as_superuser, "9999", head_revision())
    ensure_current(settings.database_url_for(role))


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("revision", "code"), [("0001", "older_database"), ("9999", "newer_home")])
def test_a_running_process_touches_nothing_of_another_version(
    settings: StoreSettings, stores: Stores, as_superuser: AsSuperuser, role: Role, revision: str, code: str
) -> None:
    at, store = head_revision(), stores(role)
    copy = store.hurried(1_000).guarded(lambda _: None)
    copy.ask()
    move_to(as_superuser, revision)
    for _ in range(2):
        with pytest.raises(AnotherSchema) as refused, copy.transaction():
            pytest.fail("the transaction went on")
        assert (refused.value.code, refused.value.status, store.schema.fits) == (code, 503, False)
    move_to(as_superuser, at)
    store.ask()
    assert store.schema.fits


def test_a_running_process_goes_on_beside_a_newer_version_that_serves_it(stores: Stores, tenant: Actor, as_superuser: AsSuperuser) -> None:
    move_to(as_superuser, "9999", head_revision())
    Flow(stores).job(tenant, 3)


def test_a_migration_begins_between_transactions_and_those_that_wait_see_what_it_left(
    settings: StoreSettings, stores: Stores, as_superuser: AsSuperuser
) -> None:
    """One that had begun before could otherwise end on tables that it was not made for."""
    owner = dsn(settings.database_url_for(Role.OWNER))
    with psycopg.connect(owner) as migration:
        with stores(Role.API).transaction():
            migration.execute("SET LOCAL lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                migration.execute(LOCK)
            migration.rollback()
        migration.execute(LOCK)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(stores(Role.API).ask)
            wait_until(lambda: as_superuser("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)], "it waits")
            migration.execute("UPDATE alembic_version SET version_num = '9999', oldest_program = '9999'")
            migration.commit()
            with pytest.raises(AnotherSchema):
                waiting.result(20)


def test_who_stands_by_or_leads_lets_go_of_the_lead_where_the_database_is_another(stores: Stores, as_superuser: AsSuperuser) -> None:
    at, leadership = head_revision(), Leadership(stores(Role.DISPATCHER), "host:1:start")
    assert leadership.held()
    move_to(as_superuser, "9999")
    assert not leadership.held()
    move_to(as_superuser, at)
    assert leadership.held()
    leadership.give_up()


def test_every_migration_says_what_it_serves_as_one_that_is_there(server: Server, empty: str) -> None:  # noqa: F811
    script = ScriptDirectory.from_config(chain())
    known = {each.revision for each in script.walk_revisions()}
    for each in script.walk_revisions():
        assert getattr(each.module, "oldest_program", each.revision) in {older for older in known if older <= each.revision}
    migrate(as_role(server, empty, Role.OWNER))
    with psycopg.connect(server.postgres.superuser_url(empty).render_as_string(hide_password=False)) as conn:
        found = conn.execute("SELECT version_num, oldest_program FROM alembic_version").fetchone()
    assert found == (head_revision(), oldest_program(script))


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


def move_to(as_superuser: AsSuperuser, revision: str, oldest_program: str | None = None) -> None:
    """As a migration leaves it."""
    as_superuser("UPDATE alembic_version SET version_num = %s, oldest_program = %s", [revision, oldest_program or revision])


def chain() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def run_part(settings: StoreSettings, role: Role, **more: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "TEXTMILL_HOME": str(settings.home),
        "TEXTMILL_DATABASE_URL": settings.database_url or "",
        "TEXTMILL_REDIS_URL": "redis://127.0.0.1:1/0",
        **more,
    }
    return subprocess.run([sys.executable, "-m", "api.cli", *PARTS[role]], env=environment, capture_output=True, text=True, timeout=60)
