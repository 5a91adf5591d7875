"""Bringing a database up: twice changes nothing, two at once wait for each other, a later version's database is left alone."""

import ast
import base64
import hashlib
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL

from db import migrations
from db.connect import Store
from db.errors import Denied, SettingsError
from db.operators.api_keys import authenticate
from db.schema import metadata
from db.sealing.keys import KeyRing, LocalKeyFile
from db.server.migrate import _LOCK, bootstrap, current_revision, migrate
from db.server.revision import head_revision
from db.settings import Role
from tests.conftest import Server
from tests.waiting import wait_until


@pytest.fixture
def empty(server: Server) -> Iterator[str]:
    """The name of a database with roles and nothing in it."""
    name = f"empty_{next(server.names)}"
    bootstrap(server.postgres.superuser_url(), server.passwords, name)
    yield name
    server.drop_database(name)


def as_role(server: Server, database: str, role: Role) -> URL:
    return server.postgres.superuser_url(database).set(
        drivername="postgresql+psycopg", username=role.login, password=server.passwords[role]
    )


def as_superuser(server: Server, database: str) -> psycopg.Connection:
    return psycopg.connect(server.postgres.superuser_url(database).render_as_string(hide_password=False), autocommit=True)


def tables(server: Server, database: str) -> set[str]:
    with as_superuser(server, database) as conn:
        return {name for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def catalogue(server: Server, database: str) -> list[tuple[object, ...]]:
    with as_superuser(server, database) as conn:
        return (
            conn.execute(
                "SELECT c.oid, c.relname, c.relacl::text, c.relrowsecurity FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = 'public' ORDER BY c.oid"
            ).fetchall()
            + conn.execute("SELECT polname, polrelid, polqual::text FROM pg_policy ORDER BY oid").fetchall()
        )


def test_an_empty_database_is_brought_to_the_head(server: Server, empty: str) -> None:
    owner = as_role(server, empty, Role.OWNER)
    assert current_revision(owner) is None
    migrate(owner)
    assert current_revision(owner) == head_revision()
    assert set(metadata.tables) < tables(server, empty)


def test_a_second_time_changes_nothing(server: Server, empty: str) -> None:
    owner = as_role(server, empty, Role.OWNER)
    migrate(owner)
    before = catalogue(server, empty)
    migrate(owner)
    bootstrap(server.postgres.superuser_url(), server.passwords, empty)
    assert catalogue(server, empty) == before


def test_two_at_once_wait_for_each_other(server: Server, empty: str) -> None:
    owner, failed = as_role(server, empty, Role.OWNER), []

    def run() -> None:
        try:
            migrate(owner)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(2)]
    with as_superuser(server, empty) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        for thread in threads:
            thread.start()
        wait_for_two(holder)
        assert tables(server, empty) == set()
        holder.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
        for thread in threads:
            thread.join(60)
    assert failed == []
    assert not any(thread.is_alive() for thread in threads)
    assert current_revision(owner) == head_revision()


def wait_for_two(conn: psycopg.Connection) -> None:
    query = (
        "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()"
    )
    wait_until(lambda: conn.execute(query).fetchone() == (2,), "both wait", 60)


def test_jobs_that_run_when_versions_come_keep_all_that_their_tenant_has(server: Server, empty: str) -> None:
    """The owner, under forced row-level security, sees no row of theirs."""
    owner = as_role(server, empty, Role.OWNER)
    migrate(owner, revision="0020")
    with as_superuser(server, empty) as conn:
        conn.execute("SET session_replication_role = replica")  # without the files that the jobs are over
        for tenant, state in (("a", "in_progress"), ("b", "completed")):
            ids = {"tenant": str(uuid.uuid5(uuid.NAMESPACE_DNS, tenant)), "state": state}
            conn.execute(
                "INSERT INTO jobs (tenant_id, job_id, file_id, principal_id, task, endpoint, state, completion_window_seconds, deadline)"
                " VALUES (%(tenant)s, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'classify', 'e', %(state)s, 60, now())",
                ids,
            )
            conn.execute(
                "INSERT INTO label_sets (tenant_id, label_set_id, name_hmac, body_sealed) VALUES (%(tenant)s, gen_random_uuid(), 'n', 'b')",
                ids,
            )
    migrate(owner)
    with as_superuser(server, empty) as conn:
        pinned = conn.execute(
            "SELECT j.state, count(*) FROM job_pins JOIN jobs j USING (tenant_id, job_id) JOIN label_sets ON label_set_id = version_id"
            " GROUP BY 1"
        ).fetchall()
        forced = conn.execute(
            "SELECT bool_and(relforcerowsecurity) FROM pg_class WHERE relname IN ('jobs', 'label_sets', 'models')"
        ).fetchone()
    assert (pinned, forced) == ([("in_progress", 1)], (True,))


def test_the_numbers_of_versions_that_were_deleted_before_they_were_kept_are_kept(server: Server, empty: str) -> None:
    owner = as_role(server, empty, Role.OWNER)
    migrate(owner, revision="0028")
    with as_superuser(server, empty) as conn:
        conn.execute(
            "INSERT INTO label_sets (tenant_id, label_set_id, name_hmac, body_sealed, number, deleted_at)"
            " SELECT %(tenant)s, gen_random_uuid(), name::bytea, 'b', number, CASE WHEN gone THEN now() END"
            " FROM (VALUES ('a', 1, false), ('a', 2, true), ('a', 3, true), ('b', 1, false)) AS made (name, number, gone)",
            {"tenant": str(uuid.uuid4())},
        )
    migrate(owner)
    with as_superuser(server, empty) as conn:
        kept = conn.execute("SELECT name_hmac, number FROM deleted_versions").fetchall()
        forced = conn.execute(
            "SELECT bool_and(relforcerowsecurity) FROM pg_class WHERE relname IN ('label_sets', 'models', 'deleted_versions')"
        ).fetchone()
    assert (kept, forced) == ([(b"a", 3)], (True,))


def test_what_a_migration_changes_of_rows_it_changes_though_its_owner_sees_none(server: Server, empty: str) -> None:
    owner = as_role(server, empty, Role.OWNER)
    migrate(owner, revision="0009")
    with as_superuser(server, empty) as conn:
        conn.execute("SET session_replication_role = replica")  # without the files that the jobs are over
        conn.execute(
            "INSERT INTO jobs (tenant_id, job_id, file_id, principal_id, task, endpoint, state, completion_window_seconds, deadline,"
            " created_at) SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), task, 'e', 'in_progress', 60,"
            " now(), '2026-01-31'"
            " FROM unnest(ARRAY['train', 'classify']) AS task"
        )
        conn.execute(
            "INSERT INTO shards (tenant_id, shard_id, job_id, file_id, first_idx, end_idx, state)"
            " SELECT tenant_id, gen_random_uuid(), job_id, file_id, 0, 9, 'ready' FROM jobs"
        )
    migrate(owner)
    with as_superuser(server, empty) as conn:
        found = conn.execute(
            "SELECT task, turn_at::date::text, whole FROM jobs JOIN shards USING (tenant_id, job_id) ORDER BY task"
        ).fetchall()
        unforced = conn.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relrowsecurity AND NOT relforcerowsecurity"
        ).fetchall()
    assert (found, unforced) == ([("classify", "2026-01-31", False), ("train", "2026-01-31", True)], [])


def test_a_migration_waits_for_the_transactions_that_are_under_way(server: Server, empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is older would otherwise end on tables that it was not made for."""
    monkeypatch.setattr("db.server.migrate.LOCK_SECONDS", 0.1)
    owner, waits, ended = as_role(server, empty, Role.OWNER), threading.Event(), threading.Event()
    migrate(owner, revision="0025")

    def pause(_seconds: float) -> None:
        waits.set()
        ended.wait(30)

    monkeypatch.setattr("db.server.migrate.time.sleep", pause)
    with as_superuser(server, empty) as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            other.execute("SELECT version_num FROM alembic_version")  # as every transaction of a program does
            migration = pool.submit(migrate, owner)
            assert waits.wait(30)
            assert current_revision(owner) == "0025"
        ended.set()
        migration.result(30)
    assert current_revision(owner) == head_revision()


def test_a_migration_gives_up_where_a_transaction_does_not_end(server: Server, empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.server.migrate.LOCK_SECONDS", 0.1)
    monkeypatch.setattr("db.server.migrate.PATIENCE_SECONDS", 0.0)
    owner = as_role(server, empty, Role.OWNER)
    migrate(owner, revision="0023")
    with as_superuser(server, empty) as other, other.transaction():
        other.execute("SELECT count(*) FROM alembic_version")
        with pytest.raises(SettingsError, match="nothing was changed: pg_stat_activity"):
            migrate(owner, revision="0024")
    assert current_revision(owner) == "0023"


def test_a_migration_that_fails_leaves_nothing(server: Server, empty: str) -> None:
    with as_superuser(server, empty) as conn:
        conn.execute("CREATE TABLE shards ()")  # in the way of the tenth statement
    with pytest.raises(Exception, match="shards"):
        migrate(as_role(server, empty, Role.OWNER))
    assert tables(server, empty) == {"shards"}
    with as_superuser(server, empty) as conn:
        conn.execute("DROP TABLE shards")
    migrate(as_role(server, empty, Role.OWNER))


def test_the_database_of_a_later_version_is_left_alone(server: Server, empty: str) -> None:
    owner = as_role(server, empty, Role.OWNER)
    migrate(owner)
    with as_superuser(server, empty) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    before = catalogue(server, empty)
    with pytest.raises(SettingsError, match="made by a newer textmill: upgrade this one, or restore an older backup") as caught:
        migrate(owner)
    assert caught.value.code == "newer_home"
    assert catalogue(server, empty) == before
    assert current_revision(owner) == "9999"


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OWNER])
def test_only_the_owner_migrates(server: Server, empty: str, role: Role) -> None:
    with pytest.raises(Exception, match="permission denied"):
        migrate(as_role(server, empty, role))
    assert tables(server, empty) == set()


def test_bootstrap_changes_a_password_and_never_sends_it(server: Server, empty: str) -> None:
    """A server that logs statements would keep it."""
    new = "a new password with ' and %"
    talkative = server.postgres.superuser_url().update_query_dict({"options": "-c log_statement=all"})
    address = server.postgres.superuser_url(empty).set(username=Role.AUDITOR.login, password="")
    try:
        bootstrap(talkative, {**server.passwords, Role.AUDITOR: new}, empty)
        with psycopg.connect(address.render_as_string(), password=new) as conn:
            assert conn.execute("SELECT current_user").fetchone() == (Role.AUDITOR.login,)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(address.render_as_string(), password=server.passwords[Role.AUDITOR])
    finally:
        bootstrap(server.postgres.superuser_url(), server.passwords, empty)
    log = server.postgres.log.read_bytes()
    assert b'ALTER ROLE "textmill_auditor"' in log
    assert b"a new password" not in log


def test_bootstrap_takes_away_what_was_given_too_much(server: Server, empty: str) -> None:
    login = sql.Identifier(Role.AUDITOR.login)
    with as_superuser(server, empty) as conn:
        conn.execute(sql.SQL("ALTER ROLE {} CREATEDB CREATEROLE BYPASSRLS").format(login))
        conn.execute(sql.SQL("GRANT ALL ON SCHEMA public TO PUBLIC"))
        bootstrap(server.postgres.superuser_url(), server.passwords, empty)
        found = conn.execute(
            "SELECT rolcreatedb OR rolcreaterole OR rolbypassrls, has_schema_privilege('public', 'public', 'CREATE')"
            " FROM pg_roles WHERE rolname = %s",
            [Role.AUDITOR.login],
        ).fetchone()
    assert found == (False, False)


MIGRATIONS = sorted((Path(migrations.__file__).parent / "versions").glob("[0-9]*.py"))


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_a_migration_imports_nothing_of_the_program_that_may_change(path: Path) -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(path.read_text()))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [it.name for it in getattr(node, "names", ())])
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name for name in imported if name.split(".")[0] in {"db", "workers", "api"}} <= {"db.migrations.from_sql"}


def test_the_keys_of_an_older_version_go_on_working_and_only_with_the_key_file(server: Server, empty: str) -> None:
    """Their plain hashes are vouched for once, by whoever migrates."""
    owner, kek = as_role(server, empty, Role.OWNER), LocalKeyFile("one", bytes(range(32)))
    secret, tenant_id, key_id = bytes(range(32)), uuid4(), uuid4()
    migrate(owner, revision="0021")
    with as_superuser(server, empty) as conn:
        conn.execute(
            "INSERT INTO api_keys (tenant_id, key_id, principal_id, key_hash, scopes, expires_at)"
            " VALUES (%s, %s, gen_random_uuid(), %s, '{submit,read}', '2999-12-31 23:00:00.5+01')",
            [tenant_id, key_id, hashlib.sha256(secret).digest()],
        )
    with pytest.raises(SettingsError, match="needs the key file"):
        migrate(owner)
    migrate(owner, lambda: kek)
    with closing(Store(as_role(server, empty, Role.API), Role.API, KeyRing(kek))) as store:
        presented = "tm_" + base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
        assert authenticate(store, presented).key_id == key_id
        with as_superuser(server, empty) as conn:
            conn.execute("UPDATE api_keys SET scopes = '{admin}'")
        with pytest.raises(Denied, match="altered"):
            authenticate(store, presented)
    with as_superuser(server, empty) as conn:
        assert conn.execute(
            "SELECT bool_and(relforcerowsecurity) FROM pg_class WHERE relname IN ('api_keys', 'store_keys')"
        ).fetchone() == (True,)
