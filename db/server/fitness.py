"""What a server must be to hold the store: new enough, and ours for a whole session. Asked when a part starts, before migrations, and by
`textmill doctor`."""

import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.errors import ProtocolViolation
from sqlalchemy import URL

from db.errors import SettingsError
from db.server.role_settings import set_beside
from db.server.session import session

OLDEST: Final = 16  # it brought STORAGE to CREATE TABLE
PATIENCE_SECONDS: Final = 5.0  # for a session that a pooler may not have
OTHERS: Final = 2  # a pooler that hands out its sessions in turn, and not the last one first, shows itself at the second

_ASK: Final = "SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp())::float8, pg_is_in_recovery()"


class UnfitServer(SettingsError):
    """A PostgreSQL that this version cannot work with. ``found`` and ``todo`` are the halves of its message."""

    def __init__(self, code: str, found: str, todo: str) -> None:
        super().__init__(f"{found}. {todo}", code=code)
        self.found = found
        self.todo = todo


@dataclass(frozen=True, slots=True)
class Server:
    """``clock_seconds``: how far its clock and this machine's are apart. ``is_standby``: it takes no writes. ``unfit``: why it cannot be
    the store's. ``set_beside``: names of settings that the role or its database has there, not of our making."""

    version: str
    clock_seconds: float
    is_standby: bool
    unfit: UnfitServer | None
    set_beside: tuple[str, ...] = ()


def look(url: URL) -> Server:
    """Raises psycopg.OperationalError where it does not answer, or lets us not in."""
    with session(url) as conn:
        sent = time.time()
        row = conn.execute(_ASK).fetchone()
        assert row is not None
        version, now, is_standby = row
        apart = abs(now - (sent + time.time()) / 2)
        try:
            ensure_fit(conn)
        except UnfitServer as unfit:
            return Server(version, apart, is_standby, unfit)
        return Server(version, apart, is_standby, None, set_beside(conn))


def ensure_fit(conn: psycopg.Connection[Any]) -> None:
    """Raises UnfitServer. ``conn`` commits by itself."""
    if (major := conn.info.server_version // 10_000) < OLDEST:
        raise UnfitServer(
            "old_server",
            f"The server is PostgreSQL {major}, and textmill needs {OLDEST} or newer",
            "Upgrade it (pg_upgrade, or dump and restore), or name another server in TEXTMILL_DATABASE_URL.",
        )
    if _shares_sessions(conn):
        raise UnfitServer(
            "pooled_transactions",
            "A pooler before PostgreSQL gives a session to one client after the other (pool_mode transaction or statement), and textmill's "
            "locks, wake-ups and time limits live in sessions",
            "Set `pool_mode = session` for this database in the pooler, or name the server itself in TEXTMILL_DATABASE_URL.",
        )


def _shares_sessions(conn: psycopg.Connection[Any]) -> bool:
    """Whether ``conn`` has another session of the server, or one that somebody else has had since, from one transaction to the next.

    A server names the process of the session when it lets a client in; a pooler makes that number up. Only then others are asked, that each
    hold a transaction open: whoever shares its session with them must get another.
    """
    if _process(conn) == conn.info.backend_pid:
        return False
    with ExitStack() as held:
        for _ in range(OTHERS):
            before = _process(conn)
            other = held.enter_context(closing(psycopg.connect(conn.info.dsn, password=conn.info.password, autocommit=True)))
            impatience = threading.Timer(PATIENCE_SECONDS, other.cancel)
            impatience.start()
            try:
                other.execute("BEGIN")
                taken = _process(other)
            except ProtocolViolation:
                return True  # statement by statement: there are no transactions
            finally:
                impatience.cancel()
            if before == taken or before != _process(conn):
                return True
    return False


def _process(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])
