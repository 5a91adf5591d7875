"""Whether the database is at a version of ours, asked when a process starts, and by each of its transactions. Light: Alembic itself is for
those who migrate."""

import logging
from typing import Any

import psycopg
from psycopg.errors import InsufficientPrivilege, UndefinedTable
from psycopg.rows import dict_row
from sqlalchemy import URL

from db.errors import AnotherSchema
from db.server.fitness import ensure_fit
from db.server.refusals import refusal
from db.server.revision import Version, ensure_works
from db.server.role_settings import set_beside
from db.server.session import session

log = logging.getLogger("textmill.store")


class SchemaFit:
    """Whether this program fits the schema, as the last transaction found it; the log tells of a change."""

    def __init__(self) -> None:
        self.fits = True

    def ensure(self, found: Version | None) -> None:
        """Raises AnotherSchema where this program must not touch a database at ``found``."""
        try:
            ensure_works(found)
        except AnotherSchema as error:
            if self.fits:
                log.error("%s Until then this process touches nothing.", error.message)
            self.fits = False
            raise
        if not self.fits:
            log.info("the database fits this version again")
        self.fits = True


def ensure_current(url: URL) -> None:
    """As :func:`require_current`; but a database that is away, or lets us not in, is no reason to stay away too: it is asked again in each
    transaction."""
    try:
        require_current(url)
    except psycopg.OperationalError as error:
        log.warning("%s It is tried again.", refusal(error).sentence)


def require_current(url: URL) -> None:
    """Raises SettingsError where this program cannot work with the database (AnotherSchema), or its server cannot be the store's."""
    with session(url) as conn:
        ensure_fit(conn)
        version = _version(conn)
        if others := set_beside(conn):
            log.warning(
                "the login role %s is set to something of its own on the server (%s): textmill doctor says what to do",
                url.username,
                ", ".join(others),
            )
    ensure_works(version)


def version_at(url: URL) -> Version | None:
    """None where the database is empty, and where it does not let our role see how far it is: that came with a migration."""
    with session(url) as conn:
        return _version(conn)


def _version(conn: psycopg.Connection[Any]) -> Version | None:
    try:
        return conn.cursor(row_factory=dict_row).execute("SELECT * FROM alembic_version").fetchone()
    except (UndefinedTable, InsufficientPrivilege):
        return None
