"""Arrow's values as a CSV and as a line of JSON show them."""

import math
from base64 import b64encode
from importlib import import_module
from typing import Any, Final
from uuid import UUID

import msgspec
import pyarrow.types as types

from db.files.table import unique
from workers.content.arrow_cells import is_bytes, is_moment, plain_cells, whole_numbers

# pyarrow fills its name space at run time, so that a type checker cannot follow it.
pa: Any = import_module("pyarrow")

_OUT_OF_RANGE: Final = "<"  # so Arrow begins what it writes for a moment that no calendar has


def texts(column: Any) -> list[str | None]:
    """As :func:`json_values`, each in one text: true and false, numbers by their digits, what is nested as JSON."""
    return [value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode() for value in json_values(column)]


def json_values(column: Any) -> list[Any]:
    """Numbers and flags as such, what is no number as null, moments in ISO 8601 (in UTC where they have a zone; out of every calendar's
    range, and durations, in their unit), bytes as the text that they are, or else in base64; a map as its pairs."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name != "arrow.uuid":
            return json_values(column.storage)
        return [None if value is None else str(UUID(bytes=value)) for value in column.storage.to_pylist()]
    if types.is_dictionary(kind):
        return json_values(column.dictionary_decode())
    if types.is_floating(kind):  # by way of the shortest digits that tell it, which for 32 bits are fewer
        written = column.cast(pa.float32()) if types.is_float16(kind) else column
        return [_finite(value) for value in written.cast(pa.string()).to_pylist()]
    if types.is_duration(kind):
        return whole_numbers(column)
    if is_moment(kind):
        return _moments(column)
    if types.is_decimal(kind):
        return [None if value is None else msgspec.Raw(format(value, "f").encode()) for value in column.to_pylist()]
    if is_bytes(kind):
        return [None if value is None else _text_of(value) for value in column.to_pylist()]
    cells = plain_cells(column, json_values)
    if types.is_struct(kind):
        names = unique(field.name for field in kind)
        return [None if cell is None else dict(zip(names, cell, strict=True)) for cell in cells]
    return cells


def _moments(column: Any) -> list[str | int | None]:
    kind = column.type
    zone = ""
    written = column
    if types.is_timestamp(kind):  # zones are often none that are known here
        zone = "" if kind.tz is None else "Z"
        written = column.view(pa.timestamp(kind.unit))
    pairs = zip(written.cast(pa.string()).to_pylist(), whole_numbers(column), strict=True)
    return [number if value is None or value.startswith(_OUT_OF_RANGE) else value.replace(" ", "T", 1) + zone for value, number in pairs]


def _finite(value: str | None) -> float | None:
    number = None if value is None else float(value)
    return number if number is None or math.isfinite(number) else None


def _text_of(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64encode(value).decode()
