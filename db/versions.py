"""Whether the database is at this version, asked by each process when it starts. Light: Alembic itself is for those who migrate."""

import logging
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.errors import InsufficientPrivilege, UndefinedTable
from sqlalchemy import URL

from db.errors import SettingsError
from db.refusals import refusal
from db.server import ensure_fit, session

NOT_MIGRATED: Final = ""
_VERSIONS: Final = Path(__file__).parent / "migrations" / "versions"

log = logging.getLogger("textmill.store")


def head_revision() -> str:
    """The revision that this version brings: its files are numbered in the order of the chain."""
    return max(path.stem.partition("_")[0] for path in _VERSIONS.glob("[0-9]*.py"))


def ensure_current(url: URL) -> None:
    """As :func:`require_current`; but a database that is away, or lets us not in, is no reason to stay away too: it is asked again at each
    request."""
    try:
        require_current(url)
    except psycopg.OperationalError as error:
        log.warning("%s It is tried again.", refusal(error).sentence)


def require_current(url: URL) -> None:
    """Raises SettingsError where the database is older or newer than this version, or its server cannot be the store's."""
    with session(url) as conn:
        ensure_fit(conn)
        revision = _revision(conn)
    head = head_revision()
    if revision < head:
        raise SettingsError("The database is older than this textmill: run `textmill db migrate` first.", code="older_database")
    if revision > head:
        raise SettingsError("The database was made by a newer textmill: upgrade this one, or restore an older backup.", code="newer_home")


def revision_at(url: URL) -> str:
    """NOT_MIGRATED where the database is empty, and where it does not let our role see how far it is: that came with a migration."""
    with session(url) as conn:
        return _revision(conn)


def _revision(conn: psycopg.Connection[Any]) -> str:
    try:
        found = conn.execute("SELECT version_num FROM alembic_version").fetchone()
    except (UndefinedTable, InsufficientPrivilege):
        return NOT_MIGRATED
    return NOT_MIGRATED if found is None else str(found[0])
