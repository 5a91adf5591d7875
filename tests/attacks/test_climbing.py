"""Somebody runs SQL of their own as a component's role (T7, T15): what they cannot make of it.

The tenant is theirs to choose, and the keys guard against that; the role, the rules and the machine below are not.
"""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from db.actors import Actor
from db.connect import Store
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.db.conftest import AsSuperuser, as_superuser  # noqa: F401
from tests.db.flow import Flow
from tests.looking import on_record

Stores = Callable[[Role], Store]

WAYS_UP = [
    "ALTER TABLE rows DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE rows NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE rows OWNER TO CURRENT_USER",
    "CREATE POLICY mine ON rows TO PUBLIC USING (true)",
    "DROP POLICY api_of_tenant ON rows",
    "ALTER TABLE audit_events DISABLE TRIGGER ALL",
    "TRUNCATE audit_events",
    "CREATE OR REPLACE VIEW leased_shard AS SELECT tenant_id, shard_id, job_id, file_id, first_idx, end_idx FROM shards",
    "CREATE TABLE mine (content bytea)",
    "CREATE TRIGGER mine BEFORE INSERT ON rows FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE mine AS ON INSERT TO audit_events DO INSTEAD NOTHING",
    "CREATE STATISTICS mine ON tenant_id, job_id FROM results",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA mine",
    "CREATE EXTENSION file_fdw",
    "CREATE PUBLICATION mine FOR TABLE rows",
    "CREATE ROLE mine",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "COPY (SELECT 1) TO '/tmp/textmill-mine'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'content')",
    "SELECT lo_put(1, 0, 'content')",
    "SELECT loread(0, 1)",
    "SELECT pg_logical_emit_message(false, 'mine', 'content')",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_lock(1, 2)",
    "SELECT pg_advisory_lock_shared(1)",
    "SELECT pg_try_advisory_lock(1, 2)",
    "SELECT pg_try_advisory_lock_shared(1)",
    "SELECT pg_try_advisory_xact_lock(1)",
    "SELECT pg_advisory_xact_lock(1, 2)",
    "SELECT pg_advisory_unlock_all()",
    "SELECT rolpassword FROM pg_authid",
    "SELECT stavalues1 FROM pg_statistic",
    "SET session_replication_role = replica",
    "SET log_statement = 'all'",
    "SET log_min_error_statement = 'error'",
    "SET log_parameter_max_length = -1",
    "SELECT pg_reload_conf()",
    "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')",
]
COMPONENTS = [role for role in Role if role is not Role.OWNER]
components = pytest.mark.parametrize("role", COMPONENTS)


def connect(settings: StoreSettings, role: Role) -> psycopg.Connection:
    url = settings.database_url_for(role).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


def passes(conn: psycopg.Connection, statement: str) -> bool:
    """Whether the server does it; undone, where it does. A refusal must be one of rights, not of syntax."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(statement.encode())
    except InsufficientPrivilege:
        return False
    return True


@components
def test_a_component_changes_neither_rules_nor_roles_nor_files(settings: StoreSettings, role: Role) -> None:
    with connect(settings, role) as conn:
        assert [way for way in WAYS_UP if passes(conn, way)] == []


LOCKS = {
    "pg_advisory_xact_lock": {Role.API, Role.WORKER, Role.DISPATCHER},
    "pg_advisory_xact_lock_shared": {Role.API},
    "pg_try_advisory_lock": {Role.DISPATCHER},
}


@components
def test_a_component_takes_the_kinds_of_locks_that_its_own_statements_take(settings: StoreSettings, role: Role) -> None:
    with connect(settings, role) as conn:
        assert {lock for lock in LOCKS if passes(conn, f"SELECT {lock}(1)")} == {lock for lock, takers in LOCKS.items() if role in takers}


def test_the_ways_past_tables_are_there_where_nobody_took_them_away(server: Server) -> None:
    """The control: a role like ours in a database that was not prepared for it."""
    server.execute("CREATE ROLE anybody LOGIN PASSWORD 'anybody'")
    server.execute("CREATE DATABASE unprepared TEMPLATE template0")
    try:
        url = server.postgres.superuser_url("unprepared").set(username="anybody", password="anybody")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as conn:
            assert passes(conn, "SELECT lo_create(0)")
            assert passes(conn, "SELECT pg_advisory_lock(1)")
            assert passes(conn, "SELECT pg_logical_emit_message(false, 'mine', 'content')")
    finally:
        server.drop_database("unprepared")
        server.execute("DROP ROLE anybody")


@components
def test_a_component_gets_into_its_own_database_alone(server: Server, settings: StoreSettings, role: Role) -> None:
    for name in ("postgres", "template1"):
        url = server.postgres.superuser_url(name).set(username=role.login, password=server.passwords[role])
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(url.render_as_string(hide_password=False))
    connect(settings, role).close()


@components
def test_a_component_becomes_no_other(settings: StoreSettings, role: Role) -> None:
    others = {other.login for other in Role} - {role.login} | {"pg_read_all_data", "pg_read_server_files", "postgres"}
    with connect(settings, role) as conn:
        known = {name for (name,) in conn.execute("SELECT rolname FROM pg_roles")}
        ways = [f"{way} {other}" for other in others & known for way in ("SET ROLE", "SET SESSION AUTHORIZATION")]
        assert len(ways) >= 2 * (len(Role) - 1)
        assert [way for way in ways if passes(conn, way)] == []
        assert {name for (name,) in conn.execute("SELECT DISTINCT current_user FROM pg_roles")} == {role.login}


@components
def test_to_switch_row_security_off_is_to_be_refused(settings: StoreSettings, stores: Stores, tenant: Actor, role: Role) -> None:
    """``row_security = off`` means: an error rather than an answer that policies have thinned."""
    Flow(stores).job(tenant, 3)
    with connect(settings, role) as conn:
        conn.execute("SET row_security = off")
        assert not any(passes(conn, f"SELECT tenant_id FROM {table}") for table in ("rows", "results", "audit_events", "data_keys", "jobs"))


def test_a_function_of_ones_own_sees_no_row_that_its_caller_may_not(stores: Stores, tenant: Actor) -> None:
    """Were a condition of ours evaluated before the policy, it could tell what it saw: here, by writing it down."""
    flow = Flow(stores)
    foreign = flow.new_tenant()
    flow.upload(tenant, 3)
    theirs = flow.upload(foreign, 5)
    with on_record(flow.api, tenant.tenant_id) as conn:
        for statement in (
            "CREATE TEMPORARY TABLE seen (file_id uuid)",
            "CREATE FUNCTION pg_temp.spy(uuid) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
            " $$ BEGIN INSERT INTO seen VALUES ($1); RETURN true; END $$",
            "SELECT count(*) FROM rows WHERE pg_temp.spy(file_id)",
            "SELECT count(*) FROM files WHERE pg_temp.spy(file_id)",
        ):
            conn.exec_driver_sql(statement)
        seen = conn.exec_driver_sql("SELECT file_id FROM seen").scalars().all()
        conn.rollback()
    assert len(seen) == 4
    assert theirs.file_id not in seen


@components
def test_the_planners_statistics_show_nothing_of_anybody(
    settings: StoreSettings,
    stores: Stores,
    tenant: Actor,
    as_superuser: AsSuperuser,  # noqa: F811
    role: Role,
) -> None:
    """The commonest values of a column are content, too."""
    flow = Flow(stores)
    flow.job(tenant, 30)
    flow.answer(flow.claim())
    as_superuser("ANALYZE")
    assert as_superuser("SELECT count(*) FROM pg_stats WHERE schemaname = 'public' AND tablename = 'rows'") != [(0,)]
    with connect(settings, role) as conn:
        kept: list[tuple[Any, ...]] = conn.execute("SELECT tablename FROM pg_stats WHERE schemaname = 'public'").fetchall()
    assert [name for (name,) in kept if name != "alembic_version"] == []
