"""What the catalogue says of roles, grants and policies, and that the metadata the queries are written against is what is there.

How the roles fare in practice: tests/attacks/test_row_level_security.py.
"""

import re
from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from db.connect import Store
from db.schema import metadata
from db.settings import Role, StoreSettings
from tests.db.conftest import AsSuperuser

Stores = Callable[[Role], Store]
LOGINS = {role.login for role in Role}
# Lives beside the tables: which migration the database is at. No data of anybody.
BOOKKEEPING = {"alembic_version"}
# Who is granted something; 0 is the public, and has no name.
GRANTEE = "LEFT JOIN pg_roles r ON r.oid = a.grantee"
OWNERS = {"pg_database_owner", "postgres"}


def test_every_table_is_under_row_level_security_and_its_owner_too(as_superuser: AsSuperuser) -> None:
    found = as_superuser(
        "SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')"
    )
    names = {name for name, _, _ in found} - BOOKKEEPING
    assert {name for name, enabled, forced in found if not (enabled and forced)} == BOOKKEEPING
    partitions = {f"{parent}_p{part}" for parent in ("rows", "results") for part in range(8)}
    assert names == set(metadata.tables) | partitions


def test_a_partition_grants_nothing(as_superuser: AsSuperuser) -> None:
    """Whoever reads a partition by its name is under that partition's policies, not the parent's."""
    assert len(as_superuser("SELECT FROM pg_class WHERE relispartition AND relkind = 'r'")) == 16
    granted = as_superuser(
        "SELECT c.relname, coalesce(r.rolname, 'PUBLIC'), a.privilege_type FROM pg_class c"
        " CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a LEFT JOIN pg_roles r ON r.oid = a.grantee"
        " WHERE c.relispartition AND a.grantee <> c.relowner"
    )
    by_column = as_superuser(
        "SELECT c.relname FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid WHERE c.relispartition AND t.attacl IS NOT NULL"
    )
    assert granted == []
    assert by_column == []


def test_a_component_is_nobody_special(as_superuser: AsSuperuser) -> None:
    found = as_superuser(
        "SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolinherit"
        " FROM pg_roles WHERE rolname LIKE 'textmill%'"
    )
    assert {name for name, _, _ in found} == LOGINS
    assert all(may_log_in and not special for _, may_log_in, special in found)


def test_no_component_is_a_member_of_anything(as_superuser: AsSuperuser) -> None:
    """Else SET ROLE would lead from one to another."""
    members = as_superuser(
        "SELECT m.rolname, r.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles r ON r.oid = a.roleid"
        " WHERE m.rolname LIKE 'textmill%' OR r.rolname LIKE 'textmill%'"
    )
    assert members == []


def test_passwords_are_kept_as_scram_verifiers(as_superuser: AsSuperuser) -> None:
    kept = as_superuser("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'textmill%'")
    assert len(kept) == len(LOGINS)
    assert all(password.startswith("SCRAM-SHA-256$") for _, password in kept)


def test_the_public_may_nothing(as_superuser: AsSuperuser) -> None:
    """A list of grants that is empty means the defaults, which let the public in: so each is to name somebody, and nobody but us."""
    ours = {role.login for role in Role}
    granted = {
        "tables": "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) a",
        "columns": "pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " CROSS JOIN LATERAL aclexplode(t.attacl) a",
        "schema": "pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a",
    }
    for what, source in granted.items():
        found = as_superuser(f"SELECT DISTINCT coalesce(r.rolname, 'PUBLIC') FROM {source} {GRANTEE} WHERE n.nspname = 'public'")
        assert found, what
        assert {name for (name,) in found} <= ours | OWNERS, what
    on_database = as_superuser(
        f"SELECT coalesce(r.rolname, 'PUBLIC') FROM pg_database d, aclexplode(d.datacl) a {GRANTEE} WHERE d.datname = current_database()"
    )
    assert {name for (name,) in on_database} == ours
    functions = as_superuser(
        "SELECT p.proname, bool_or(a.grantee = 0) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " CROSS JOIN LATERAL aclexplode(p.proacl) a WHERE n.nspname = 'public' GROUP BY p.oid, p.proname"
    )
    assert functions == [("worker_moves_lease", False)]  # a trigger's, which nobody needs to be allowed to call
    assert as_superuser("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proacl IS NULL") == [(0,)]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OWNER])
def test_a_component_makes_nothing_in_the_database(as_superuser: AsSuperuser, role: Role) -> None:
    may = as_superuser(
        "SELECT has_schema_privilege(%(role)s, 'public', 'CREATE'), has_database_privilege(%(role)s, current_database(), 'CREATE'),"
        " has_database_privilege(%(role)s, current_database(), 'TEMPORARY')",
        {"role": role.login},
    )
    assert may == [(False, False, role in (Role.API, Role.WORKER))]


def test_nobody_but_the_owner_truncates_refers_or_hangs_triggers(as_superuser: AsSuperuser) -> None:
    """TRUNCATE is not under row-level security, a foreign key tells whether a value exists, a trigger sees every row."""
    found = as_superuser(
        "SELECT c.relname, coalesce(r.rolname, 'PUBLIC'), a.privilege_type, a.is_grantable FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) a"
        f" {GRANTEE} WHERE n.nspname = 'public' AND a.grantee <> c.relowner"
    )
    assert {role for _, role, _, _ in found} == LOGINS - {Role.OWNER.login}
    assert {right for _, _, right, _ in found} == {"SELECT", "INSERT", "UPDATE", "DELETE"}
    assert not any(grantable for *_, grantable in found)


def test_every_policy_names_its_roles(as_superuser: AsSuperuser) -> None:
    found = as_superuser("SELECT tablename, unnest(roles)::text FROM pg_policies WHERE schemaname = 'public'")
    assert {table for table, _ in found} == set(metadata.tables)
    assert {role for _, role in found} == LOGINS
    # For views of where results are, what waits and how fast it goes, and only while the API looks at them.
    of_owner = as_superuser(
        "SELECT tablename, cmd, qual LIKE '%SESSION_USER = ''textmill_api''%' FROM pg_policies WHERE 'textmill_owner' = ANY(roles)"
    )
    assert sorted(of_owner) == [(table, "SELECT", True) for table in ("files", "jobs", "results", "shards")]


# What is sealed and is seen without an event, and why nothing is read by that.
SEEN_UNRECORDED = {
    # A caller's row is looked up before it is known who calls, and by the statement that records an act. What opens the name is under a
    # policy: tests/attacks/test_on_record.py::test_a_key_name_that_is_seen_without_an_event_does_not_open.
    ("api_keys", "name_sealed"),
    # Of no tenant; it vouches for API keys and opens nothing that is sealed.
    ("store_keys", "wrapped"),
}
ASKING = (
    "SELECT tablename, unnest(roles)::text FROM pg_policies"
    " WHERE permissive = 'RESTRICTIVE' AND cmd = 'SELECT' AND qual LIKE '%own_events%'"
)


def test_everything_sealed_asks_for_an_event_of_the_transaction_but_what_is_named_here(as_superuser: AsSuperuser) -> None:
    assert seen_unrecorded(as_superuser) == SEEN_UNRECORDED
    sealed = {(name, column.name) for name, table in metadata.tables.items() for column in table.columns if is_sealed(column.name)}
    asking = {table for table, _ in as_superuser(ASKING)}
    assert {(table, column) for table, column in sealed if table not in asking} == SEEN_UNRECORDED, "in the metadata, too"
    assert asking <= {table for table, _ in sealed}, "no table is asked about in vain"


@pytest.mark.parametrize(
    "hole",
    [
        "CREATE VIEW shown AS SELECT weights_sealed FROM models; GRANT SELECT ON shown TO textmill_worker",
        "ALTER TABLE shards ADD COLUMN shown_sealed bytea",
        "DROP POLICY api_on_record ON rows",
    ],
)
def test_a_sealed_column_that_is_seen_unrecorded_is_found(as_superuser: AsSuperuser, hole: str) -> None:
    for statement in hole.split("; "):
        as_superuser(statement)
    assert seen_unrecorded(as_superuser) > SEEN_UNRECORDED


def seen_unrecorded(as_superuser: AsSuperuser) -> set[tuple[str, str]]:
    """What is sealed and readable to who holds keys, in tables and views, where no policy asks for an event."""
    asking = set(as_superuser(ASKING))
    return {
        (table, column)
        for role in (Role.API, Role.WORKER)
        for table, column in rights_on_columns(as_superuser, role, "SELECT")
        if is_sealed(column) and (table, role.login) not in asking
    }


def is_sealed(column: str) -> bool:
    return column.endswith("_sealed") or column == "wrapped"


def test_whoever_holds_keys_is_held_to_one_tenant_wherever_there_is_content(as_superuser: AsSuperuser) -> None:
    """A RESTRICTIVE policy can be widened by no other policy, however one is added later."""
    restricted = set(
        as_superuser(
            "SELECT tablename, unnest(roles)::text FROM pg_policies WHERE permissive = 'RESTRICTIVE' AND qual LIKE '%textmill.tenant%'"
        )
    )
    of_tenants = {name for name, table in metadata.tables.items() if "tenant_id" in table.columns}
    assert {(name, "textmill_api") for name in of_tenants} <= restricted
    readable = {name for (name,) in as_superuser("SELECT tablename FROM pg_policies WHERE 'textmill_worker' = ANY(roles)")}
    of_none = {"workers", "store_keys"}
    assert {(name, "textmill_worker") for name in readable - {"jobs", "shards"} - of_none} <= restricted
    sealed_or_keys = {name for name, table in metadata.tables.items() if any(is_sealed(column.name) for column in table.columns)}
    assert not sealed_or_keys & {"jobs", "shards", "workers"}
    assert not of_tenants & of_none


def rights_on_columns(as_superuser: AsSuperuser, role: Role, right: str) -> set[tuple[str, str]]:
    return set(
        as_superuser(
            "SELECT c.relname::text, t.attname::text FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND t.attnum > 0"
            " AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT t.attisdropped AND has_column_privilege(%s, c.oid, t.attnum, %s)",
            [role.login, right],
        )
    )


@pytest.mark.parametrize("role", [Role.DISPATCHER, Role.AUDITOR])
def test_who_holds_no_keys_reads_no_ciphertext(as_superuser: AsSuperuser, role: Role) -> None:
    readable = rights_on_columns(as_superuser, role, "SELECT")
    assert readable
    assert not {
        (table, column)
        for table, column in readable
        if re.search(r"_sealed$|_hmac$|^wrapped$|^key_hash$", column) and column != "request_hmac"
    }


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OWNER])
def test_the_record_is_append_only(as_superuser: AsSuperuser, role: Role) -> None:
    changeable = rights_on_columns(as_superuser, role, "UPDATE")
    assert not {table for table, _ in changeable if table.startswith("audit_")}
    for table in ("audit_events", "audit_digests", "audit_unsealed", "audit_leaves", "audit_checkpoints"):
        assert as_superuser("SELECT has_table_privilege(%s, %s, 'DELETE')", [role.login, table]) == [(False,)]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OWNER])
def test_nobody_moves_a_row_to_another_tenant_or_cell(as_superuser: AsSuperuser, role: Role) -> None:
    """Whole-row UPDATE rights are on tables whose policy checks the tenant; the big tables give single columns."""
    assert {"rows", "results", "tenant_keys", "data_keys", "job_specs"} <= metadata.tables.keys()
    changeable = rights_on_columns(as_superuser, role, "UPDATE")
    assert not {
        (table, column)
        for table, column in changeable
        if table in {"rows", "results"} and column not in {"defect", "body_sealed", "columns_sealed", "payload_sealed"}
    }
    assert not {column for table, column in changeable if table == "tenant_keys"} - {"state"}
    assert not {column for table, column in changeable if table in {"data_keys", "job_specs"}}


def test_the_metadata_says_what_is_there(settings: StoreSettings) -> None:
    """Columns, types, nullability, indexes, unique and foreign keys. Partitions are in the database only."""
    engine = create_engine(settings.database_url_for(Role.OWNER))
    try:
        with engine.connect() as conn:
            context = MigrationContext.configure(conn, opts={"compare_type": True, "include_object": _described})
            assert compare_metadata(context, metadata) == []
            # Which autogeneration does not compare.
            there = inspect(conn)
            for name, table in metadata.tables.items():
                assert there.get_pk_constraint(name)["constrained_columns"] == [column.name for column in table.primary_key.columns]
                assert [column["name"] for column in there.get_columns(name)] == [column.name for column in table.columns]
                defaults = {column["name"] for column in there.get_columns(name) if column["default"] is not None}
                assert defaults == {column.name for column in table.columns if column.server_default is not None}
            assert conn.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    finally:
        engine.dispose()


def _described(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
    return not (kind == "table" and re.fullmatch(r"(rows|results)_p\d", name or ""))
