"""Many rows at once: in by binary COPY into a temporary table of the session, from where one INSERT … SELECT moves them; out in binary.

``COPY … FROM`` is refused on a table under row-level security, and the temporary table is not under it; the INSERT is, so policies apply.
The temporary table is made once per connection and empties itself at commit. Both statements run in the caller's transaction.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import Connection as DriverConnection
from psycopg import sql
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

Value = int | str | bytes | None

# https://www.postgresql.org/docs/18/sql-copy.html, "Binary Format": signature, flags, length of the header extension.
_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TRAILER: Final = struct.pack(">h", -1)
_NULL: Final = struct.pack(">i", -1)
_INT2: Final = struct.Struct(">ih").pack
_INT4: Final = struct.Struct(">ii").pack
_LENGTH: Final = struct.Struct(">i").pack
_WRITE_BYTES: Final = 1 << 18  # of the buffer handed to the driver at once


def _smallint(value: Value) -> bytes:
    return _NULL if value is None else _INT2(2, value)


def _integer(value: Value) -> bytes:
    return _NULL if value is None else _INT4(4, value)


def _text(value: Value) -> bytes:
    if value is None:
        return _NULL
    encoded = value.encode() if isinstance(value, str) else b""
    return _LENGTH(len(encoded)) + encoded


def _bytea(value: Value) -> bytes:
    return _NULL if not isinstance(value, bytes) else _LENGTH(len(value)) + value


_PACKERS: Final[dict[str, Callable[[Value], bytes]]] = {"smallint": _smallint, "integer": _integer, "text": _text, "bytea": _bytea}


@dataclass(frozen=True, slots=True)
class Staging:
    """A temporary table: its name, and its columns with their types (smallint, integer, text or bytea)."""

    name: str
    columns: tuple[tuple[str, str], ...]

    def create(self) -> sql.Composed:
        # Sealed bytes do not compress, and values of some kilobytes should stay in their row: as in the tables they go to.
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}{}").format(sql.Identifier(name), sql.SQL(kind), sql.SQL(" STORAGE EXTERNAL" if kind == "bytea" else ""))
            for name, kind in self.columns
        )
        return sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) WITH (toast_tuple_target = 8160) ON COMMIT DELETE ROWS").format(
            sql.Identifier(self.name), columns
        )

    def copy(self) -> sql.Composed:
        names = sql.SQL(", ").join(sql.Identifier(name) for name, _ in self.columns)
        return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier("pg_temp", self.name), names)


def fetch(conn: Connection, query: LiteralString, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
    """All rows of a query, whose parameters are ``%(name)s``, in the binary format: bytea comes as it is, and not in hexadecimal, which is
    twice as long and read byte by byte at both ends."""
    with _driver(conn) as driver, driver.cursor(binary=True) as cursor:
        return cursor.execute(query, values).fetchall()


def stage(conn: Connection, staging: Staging, rows: Iterable[Sequence[Value]]) -> None:
    """Fills the temporary table with ``rows``, whose values stand in the order of the staging's columns."""
    packers = tuple(_PACKERS[kind] for _, kind in staging.columns)
    start = struct.pack(">h", len(packers))
    with _driver(conn) as driver, driver.cursor() as cursor:
        cursor.execute(staging.create())
        with cursor.copy(staging.copy()) as copy:
            parts = [_HEADER]
            held_bytes = 0
            for row in rows:
                packed = start + b"".join([pack(value) for pack, value in zip(packers, row, strict=True)])
                parts.append(packed)
                held_bytes += len(packed)
                if held_bytes >= _WRITE_BYTES:
                    copy.write(b"".join(parts))
                    parts.clear()
                    held_bytes = 0
            parts.append(_TRAILER)
            copy.write(b"".join(parts))


@contextmanager
def _driver(conn: Connection) -> Iterator[DriverConnection[Any]]:
    """The driver's own connection. What goes wrong with it looks as if SQLAlchemy had raised it: that is what is caught everywhere."""
    driver = conn.connection.driver_connection
    assert isinstance(driver, DriverConnection)
    try:
        yield driver
    except psycopg.Error as error:
        if driver.closed:
            conn.invalidate(error)
        raise _wrapped(error, conn, is_lost=driver.closed) from error


def _wrapped(error: psycopg.Error, conn: Connection, *, is_lost: bool) -> BaseException:
    made = DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=is_lost, dialect=conn.dialect)
    assert isinstance(made, BaseException)
    return made
