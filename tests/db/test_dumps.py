"""A dump of the database goes into another server's, as the page on operations tells it, and is read there with the key file alone."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from api.local.servers.postgres import binary
from db.connect import open_store
from db.files.rows import iter_rows
from db.server.migrate import bootstrap, current_revision, migrate
from db.server.revision import head_revision
from db.settings import Role, StoreSettings
from tests.attacks.canaries import Search, new_canary
from tests.conftest import Server
from tests.db.flow import Flow, Stores, plain

PAGE = Path(__file__).parents[2] / "api" / "docs" / "pages" / "operations.md"
PASSWORD = "of the backup's role"


@pytest.fixture
def backup_role(server: Server, settings: StoreSettings) -> Iterator[None]:
    """Made by the statements of the page."""
    (block,) = (each for each in re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL) if "textmill_backup" in each)
    database = settings.database_url_for(Role.OWNER).database
    for statement in block.replace("…", PASSWORD.replace("'", "''")).replace("DATABASE textmill ", f"DATABASE {database} ").split(";\n"):
        server.execute(statement) if statement.strip() else None
    yield
    server.execute(f"REVOKE ALL ON DATABASE {database} FROM textmill_backup")
    server.execute("DROP ROLE textmill_backup")


def run(server: Server, name: str, *arguments: str, user: str, password: str) -> "subprocess.CompletedProcess[str]":
    login = {**os.environ, "PGHOST": str(server.postgres.socket_dir), "PGUSER": user, "PGPASSWORD": password}
    return subprocess.run([str(binary(name)), *arguments], env=login, capture_output=True, text=True, check=False)


@pytest.fixture
def empty(server: Server, settings: StoreSettings) -> Iterator[StoreSettings]:
    """Another database, straight behind `textmill db bootstrap`, and the same home."""
    name = f"{settings.database_url_for(Role.OWNER).database}_restored"
    bootstrap(server.postgres.superuser_url(), server.passwords, name)
    yield settings.model_copy(update={"database_url": server.address(name)})
    server.drop_database(name)


@pytest.mark.usefixtures("backup_role")
def test_a_dump_is_restored_into_an_empty_database(
    server: Server, settings: StoreSettings, empty: StoreSettings, stores: Stores, tmp_path: Path
) -> None:
    flow = Flow(stores)
    actor = flow.new_tenant()
    file = flow.upload(actor, 12)
    name, dump = str(settings.database_url_for(Role.OWNER).database), str(tmp_path / "dump")
    dumped = run(server, "pg_dump", "-Fc", "-d", name, "-f", dump, user="textmill_backup", password=PASSWORD)
    assert dumped.returncode == 0, dumped.stderr
    superuser = server.postgres.superuser_url()
    restored = run(
        server,
        "pg_restore",
        "--exit-on-error",
        "-d",
        str(empty.database_url_for(Role.OWNER).database),
        dump,
        user=str(superuser.username),
        password=str(superuser.password),
    )
    assert restored.returncode == 0, restored.stderr
    migrate(empty.database_url_for(Role.OWNER))
    assert current_revision(empty.database_url_for(Role.OWNER)) == head_revision()
    with closing(open_store(empty, Role.API)) as store:
        assert list(iter_rows(store, actor, file.file_id)) == list(iter_rows(flow.api, actor, file.file_id))
    with psycopg.connect(_url(empty, Role.WORKER)) as conn:  # who held no lease sees nothing, here as there
        conn.execute("SELECT set_config('textmill.tenant', %s, true)", [str(actor.tenant_id)])
        assert conn.execute("SELECT count(*) FROM rows").fetchone() == (0,)


def test_the_owner_makes_no_dump(server: Server, settings: StoreSettings, tmp_path: Path) -> None:
    owner = settings.database_url_for(Role.OWNER)
    refused = run(
        server, "pg_dump", "-d", str(owner.database), "-f", str(tmp_path / "dump"), user=str(owner.username), password=str(owner.password)
    )
    assert refused.returncode != 0
    assert "row-level security" in refused.stderr


@pytest.mark.usefixtures("backup_role")
def test_whoever_has_the_backups_role_reads_no_text(server: Server, settings: StoreSettings, stores: Stores, tmp_path: Path) -> None:
    flow, secret = Flow(stores), new_canary()
    flow.upload(flow.new_tenant(), [plain(0, body=json.dumps({"input": secret}).encode(), custom_id=secret)], name=secret)
    name, dump = str(settings.database_url_for(Role.OWNER).database), tmp_path / "dump"
    assert run(server, "pg_dump", "-d", name, "-f", str(dump), user="textmill_backup", password=PASSWORD).returncode == 0
    assert re.search(rb"COPY public\.rows_p\d+ .*\n[^\\]", dump.read_bytes()), "the dump has no row"
    assert not Search({"text": secret}).in_bytes(dump.read_bytes(), "the dump")


def _url(settings: StoreSettings, role: Role) -> str:
    return settings.database_url_for(role).set(drivername="postgresql").render_as_string(hide_password=False)
