"""Whether the database is at this version, asked by each process when it starts. Light: Alembic itself is for those who migrate."""

from pathlib import Path
from typing import Final

import psycopg
from psycopg.errors import InsufficientPrivilege, UndefinedTable
from sqlalchemy import URL

from db.connect import dsn
from db.errors import SettingsError

NOT_MIGRATED: Final = ""
CONNECT_SECONDS: Final = 10
_VERSIONS: Final = Path(__file__).parent / "migrations" / "versions"


def head_revision() -> str:
    """The revision that this version brings: its files are numbered in the order of the chain."""
    return max(path.stem.partition("_")[0] for path in _VERSIONS.glob("[0-9]*.py"))


def ensure_current(url: URL) -> None:
    """Raises SettingsError where the database is older or newer than this version. One that is away is no reason to stay away too: it is
    asked again at each request."""
    try:
        revision = _revision(url)
    except psycopg.OperationalError:
        return
    head = head_revision()
    if revision < head:
        raise SettingsError("The database is older than this textmill: run `textmill db migrate` first.", code="older_database")
    if revision > head:
        raise SettingsError("The database was made by a newer textmill: upgrade this one, or restore an older backup.", code="newer_home")


def _revision(url: URL) -> str:
    """NOT_MIGRATED where it is empty, and where it does not let our role see how far it is: that came with a migration."""
    with psycopg.connect(dsn(url), connect_timeout=CONNECT_SECONDS) as conn:
        try:
            found = conn.execute("SELECT version_num FROM alembic_version").fetchone()
        except (UndefinedTable, InsufficientPrivilege):
            return NOT_MIGRATED
    return NOT_MIGRATED if found is None else str(found[0])
