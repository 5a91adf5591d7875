"""Moments as Postgres keeps them and Python does not: infinity, years before 1 and after 9999. Nothing here writes them; who altered the
database may have, and one such value must not cost a list all that stands beside it.

They are read as the outermost moments known here, which compare as they should; what has one says that it is damaged.
"""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from psycopg import Connection as DriverConnection
from psycopg import DataError
from psycopg.types.datetime import TimestamptzBinaryLoader, TimestamptzLoader
from sqlalchemy import ColumnElement, DateTime, Text, Uuid, cast, literal, tuple_

# A day within what Python can say, so that every zone has them.
EARLIEST: Final = datetime(1, 1, 2, tzinfo=UTC)
LATEST: Final = datetime(9999, 12, 30, tzinfo=UTC)


class _Text(TimestamptzLoader):
    def load(self, data: Any) -> datetime:
        try:
            return super().load(data)
        except DataError:
            spelled = bytes(data)
            return EARLIEST if spelled.startswith(b"-") or spelled.endswith(b"BC") else LATEST


class _Binary(TimestamptzBinaryLoader):
    def load(self, data: Any) -> datetime:
        try:
            return super().load(data)
        except DataError:
            return EARLIEST if bytes(data)[0] & 0x80 else LATEST  # the sign of a big-endian number


def load_moments(driver: DriverConnection[Any]) -> None:
    """What the session brings out of columns of moments."""
    driver.adapters.register_loader("timestamptz", _Text)
    driver.adapters.register_loader("timestamptz", _Binary)


def is_known(moment: object) -> bool:
    """Not one that stands for what Python cannot say. True of whatever is no moment."""
    return not isinstance(moment, datetime) or EARLIEST < moment < LATEST


def border_of(moment: str | None, id: UUID) -> ColumnElement[Any]:
    """Where a list by age goes on: behind the entry ``id`` of that ``moment``, as Postgres spells it: it may be one of these."""
    return tuple_(cast(literal(moment, Text), DateTime(timezone=True)), literal(id, Uuid))
