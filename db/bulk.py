"""Many rows at once: in by binary COPY into a temporary table of the session, from where one INSERT … SELECT moves them; out in binary.

``COPY … FROM`` is refused on a table under row-level security, and the temporary table is not under it; the INSERT is, so policies apply.
The temporary table is made once per connection and empties itself at commit. Both statements run in the caller's transaction.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
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
_ROWS_AT_ONCE: Final = 512  # packed and handed to the driver


def _smallints(column: Sequence[Any]) -> list[bytes]:
    return [_NULL if value is None else _INT2(2, value) for value in column]


def _integers(column: Sequence[Any]) -> list[bytes]:
    return [_NULL if value is None else _INT4(4, value) for value in column]


def _texts(column: Sequence[Any]) -> list[bytes]:
    return _byteas([None if value is None else value.encode() for value in column])


def _byteas(column: Sequence[Any]) -> list[bytes]:
    return [_NULL if value is None else _LENGTH(len(value)) + value for value in column]


# A column at a time: a call for each value would take longer than all else that is done with it here.
_PACKERS: Final[dict[str, Callable[[Sequence[Any]], list[bytes]]]] = {
    "smallint": _smallints,
    "integer": _integers,
    "text": _texts,
    "bytea": _byteas,
}


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


def stage(conn: Connection, staging: Staging, columns: Sequence[Sequence[Value]]) -> None:
    """Fills the temporary table: ``columns`` are the values of all rows, column by column as the staging has them."""
    start = struct.pack(">h", len(columns))
    with _driver(conn) as driver, driver.cursor() as cursor:
        cursor.execute(staging.create())
        with cursor.copy(staging.copy()) as copy:
            copy.write(_HEADER)
            for first in range(0, len(columns[0]), _ROWS_AT_ONCE):
                packed = [
                    _PACKERS[kind](column[first : first + _ROWS_AT_ONCE])
                    for (_, kind), column in zip(staging.columns, columns, strict=True)
                ]
                copy.write(b"".join(chain.from_iterable(zip(repeat(start, len(packed[0])), *packed, strict=True))))
            copy.write(_TRAILER)


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
