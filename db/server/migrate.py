"""Bringing a database up to this version: login roles first (as a superuser, once), then Alembic's migrations (as the owner).

``python -m db.server.migrate`` migrates the database of the settings.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from psycopg.errors import LockNotAvailable
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from db.errors import SettingsError
from db.sealing.keys import KekProvider, LocalKeyFile
from db.server.fitness import ensure_fit
from db.server.revision import newer_database
from db.server.role_settings import QUIET
from db.server.session import dsn, session
from db.settings import Role, StoreSettings, load

DATABASE: Final = "textmill"
_LOCK: Final = 0x7E87_0000  # two migrations at once wait for each other
LOCK_SECONDS: Final = 3.0  # shorter than what the parts wait for a lock: a migration that does not get on fails none of their transactions
PAUSE_SECONDS: Final = 2.0  # in which they get on
PATIENCE_SECONDS: Final = 600.0
LOCK: Final = "LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"  # each transaction of a program holds it, shared
_KNOWS_PROGRAMS: Final = text(
    "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'alembic_version'::regclass AND attname = 'oldest_program')"
)
_SAY_OLDEST: Final = text("UPDATE alembic_version SET oldest_program = :oldest")
_MIGRATIONS: Final = Path(__file__).parents[1] / "migrations"

# Large objects and messages in the log are no tables: no policy and no sealing is about them. Advisory locks stop whoever takes them, too.
_FOR_NOBODY: Final = """
DO $$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace
            AND p.proname ~ '^(lo_.*|loread|lowrite|pg_logical_emit_message|pg_(try_)?advisory_.*)$' LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END
$$
"""
# Who takes which: jobs, names and claims one at a time; the lead of the dispatchers; one migration.
_LOCKS: Final = {
    "pg_advisory_xact_lock": (Role.OWNER, Role.API, Role.WORKER, Role.DISPATCHER),
    "pg_advisory_xact_lock_shared": (Role.API,),
    "pg_try_advisory_lock": (Role.DISPATCHER,),
}
_OTHERS_LOG_IN: Final = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolcanlogin AND NOT rolsuper AND rolname <> ALL (%s))"


def bootstrap(superuser_url: URL, passwords: dict[Role, str], database: str = DATABASE) -> None:
    """Makes the login roles and the database, or brings them to this state. Idempotent; needs a superuser. Raises SettingsError where the
    server cannot be the store's.

    The roles are no superusers, bypass no row-level security, create nothing, are members of none of each other, and keep nothing outside
    of tables. Where the server is ours alone they get into no other database.
    """
    with psycopg.connect(dsn(superuser_url), autocommit=True) as conn:
        ensure_fit(conn)
        for role, password in passwords.items():
            name = sql.Identifier(role.login)
            known = conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role.login,)).fetchone()
            verb = sql.SQL("ALTER" if known else "CREATE")
            # Hashed here: a server that logs statements must not log a password.
            verifier = conn.pgconn.encrypt_password(password.encode(), role.login.encode(), b"scram-sha-256").decode()
            conn.execute(
                sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT PASSWORD {}").format(
                    verb, name, sql.Literal(verifier)
                )
            )
            with conn.transaction():  # whoever logs in meanwhile is quiet, too
                conn.execute(sql.SQL("ALTER ROLE {} RESET ALL").format(name))
                for setting, value in QUIET.items():
                    conn.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.Identifier(setting), sql.Literal(value)))
        if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone() is None:
            conn.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0").format(
                    sql.Identifier(database), sql.Identifier(Role.OWNER.login)
                )
            )
        conn.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(database)))
        for role in passwords:
            conn.execute(sql.SQL("ALTER ROLE {} IN DATABASE {} RESET ALL").format(sql.Identifier(role.login), sql.Identifier(database)))
        grant_database(conn, database)
        _close_other_databases(conn, database)
    with psycopg.connect(dsn(superuser_url.set(database=database)), autocommit=True) as conn:
        conn.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        conn.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(Role.OWNER.login)))
        for role in Role:
            conn.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(sql.Identifier(role.login)))
        _close_functions(conn)


def _close_functions(conn: psycopg.Connection[Any]) -> None:
    """Functions that Postgres gives to everybody and that leave something behind past all tables and policies: only a superuser can take
    them away, and in each database anew."""
    conn.execute(_FOR_NOBODY)
    for function, roles in _LOCKS.items():
        logins = sql.SQL(", ").join(sql.Identifier(role.login) for role in roles)
        conn.execute(sql.SQL("GRANT EXECUTE ON FUNCTION pg_catalog.{}(bigint) TO {}").format(sql.Identifier(function), logins))


def _close_other_databases(conn: psycopg.Connection[Any], database: str) -> None:
    """Where nobody but us and superusers logs in to this server, our login roles get into no database but ours."""
    if conn.execute(_OTHERS_LOG_IN, [[role.login for role in Role]]).fetchone() != (False,):
        return
    for (name,) in conn.execute("SELECT datname FROM pg_database WHERE datname <> %s", (database,)).fetchall():
        conn.execute(sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def grant_database(conn: psycopg.Connection[Any], database: str) -> None:
    """Lets our login roles, and nobody else, into a database. A copy of a template does not bring these grants along."""
    name = sql.Identifier(database)
    conn.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    for role in Role:
        # TEMP is for the bulk writers' staging tables; everybody else only connects.
        rights = sql.SQL("CONNECT, TEMPORARY" if role in (Role.API, Role.WORKER, Role.OWNER) else "CONNECT")
        conn.execute(sql.SQL("GRANT {} ON DATABASE {} TO {}").format(rights, name, sql.Identifier(role.login)))


def migrate(url: URL, kek: Callable[[], KekProvider] | None = None, *, revision: str = "head") -> None:
    """Runs the missing migrations as the owner, up to ``revision``, all or none of them. Safe to call from several processes at once.

    It waits for the transactions that are under way, a little at a time: those that come meanwhile stand behind it. ``kek``: asked for
    what wraps the store's keys where a migration must seal or vouch for what is there. Raises SettingsError where it is needed and
    missing, where the database is newer or its server cannot be the store's, or where a transaction does not end.
    """
    with session(url) as asked:
        ensure_fit(asked)
    engine = create_engine(url, hide_parameters=True)
    until = time.monotonic() + PATIENCE_SECONDS
    try:
        while not _migrated(engine, kek or _no_key_file, revision):
            if time.monotonic() >= until:
                raise SettingsError(
                    "Transactions that do not end are in the way of the migration, and nothing was changed: pg_stat_activity shows them. "
                    "Is a dump being made? Run `textmill db migrate` after it.",
                    code="database_busy",
                )
            time.sleep(PAUSE_SECONDS)
    finally:
        engine.dispose()


def _migrated(engine: Engine, kek: Callable[[], KekProvider], revision: str) -> bool:
    """False where somebody held a lock for too long, and nothing was changed."""
    try:
        with engine.begin() as conn:
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            conn.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS * 1000:.0f}ms'"))
            script = ScriptDirectory.from_config(_config())
            current = MigrationContext.configure(conn).get_current_revision()
            if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
                raise newer_database()
            if current is not None and current == _named(script, revision):
                return True
            if current is not None:
                conn.execute(text(LOCK))
            config = _config()
            config.attributes.update(connection=conn, kek=kek)
            command.upgrade(config, revision)
            if conn.execute(_KNOWS_PROGRAMS).scalar_one():
                conn.execute(_SAY_OLDEST, {"oldest": oldest_program(script)})
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            return False
        raise
    return True


def _named(script: ScriptDirectory, revision: str) -> str | None:
    found = script.get_revision(revision)
    return None if found is None else str(found.revision)


def oldest_program(script: ScriptDirectory) -> str:
    """The oldest revision whose programs may go on beside the newest one. A migration names one, or ends the support of all before it."""
    return max(str(getattr(each.module, "oldest_program", each.revision)) for each in script.walk_revisions())


def current_revision(url: URL) -> str | None:
    """The revision the database is at; None where it is empty."""
    engine = create_engine(url, hide_parameters=True)
    try:
        with engine.connect() as conn:
            return MigrationContext.configure(conn).get_current_revision()
    finally:
        engine.dispose()


def _no_key_file() -> KekProvider:
    raise SettingsError("A migration of what is stored here needs the key file: run `textmill db migrate` where it is.")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


if __name__ == "__main__":
    settings = load(StoreSettings)
    migrate(settings.database_url_for(Role.OWNER), lambda: LocalKeyFile.load(settings.kek_path))
