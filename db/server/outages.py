"""Whose fault an error of the database is: of the state it is in, which passes, or of what was asked of it."""

from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.errors import AnotherSchema, AuditUnavailable

# https://www.postgresql.org/docs/18/errcodes-appendix.html: lost connections, rollbacks to be tried again, a full disk or too many clients,
# shutdowns, the operating system; a lock that somebody holds, a session that stood still, a server that is no primary (any more).
_PASSING: Final = ("08", "40", "53", "57P", "58", "55P03", "25P03", "25006")
# A server that is away, or that lets us not in.
UNANSWERED: Final = (OperationalError, psycopg.OperationalError)


def passes(error: Exception) -> bool:
    """Whether the same may well succeed later. Not so a statement that took too long or was too large: that would go on for ever."""
    if isinstance(error, PoolTimeout | AuditUnavailable | AnotherSchema):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return error.connection_invalidated or isinstance(error, OperationalError)
    return str(state).startswith(_PASSING)
