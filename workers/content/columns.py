"""A row's cells by the names of its columns, as prompts and rules read them."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from db.files.table import Table
from workers.content.kept_rows import Kept, kept_rows

_decimal: Final = msgspec.json.Decoder(Decimal).decode
_PLAIN: Final = (str, int, float, type(None))


class KeptRow(NamedTuple):
    """See :class:`workers.content.kept_rows.Kept`."""

    body: bytes | None
    columns: bytes | None


def columns_of(table: Table, rows: Sequence[Kept]) -> list[dict[str, Any]]:
    """Of each row its cells, its text among them: of a CSV texts; of JSON lines what the line had, a field that it has not is left out;
    of Parquet numbers, flags, lists and objects, moments in ISO 8601. None: there is nothing in it."""
    objects: list[dict[str, Any]] = kept_rows(table).objects(rows)
    if table.form == "cells" and table.schema is None:
        return objects
    told = _read if table.form == "fields" else _told
    return [{name: value if isinstance(value, _PLAIN) else told(value) for name, value in row.items()} for row in objects]


def _read(raw: Any) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):  # a number that is none here: its digits
        return bytes(raw).decode("utf-8", "replace")


def _told(value: Any) -> Any:
    """Of a decimal its value, with the digits that it was written with; also within lists and objects."""
    if isinstance(value, Raw):
        return _decimal(value)
    if isinstance(value, list):
        return [_told(one) for one in value]
    return {name: _told(one) for name, one in value.items()} if isinstance(value, dict) else value
