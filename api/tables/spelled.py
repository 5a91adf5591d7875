"""Arrow's values as a CSV and as a line of JSON show them."""

import math
from base64 import b64encode
from importlib import import_module
from typing import Any

import msgspec
import pyarrow.types as types

from api.tables.arrow_cells import is_bytes, is_moment

# pyarrow fills its name space at run time, so that a type checker cannot follow it.
pa: Any = import_module("pyarrow")


def texts(column: Any) -> list[str | None]:
    """As :func:`json_values`, each in one text: true and false, numbers by their digits, what is nested as JSON."""
    return [value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode() for value in json_values(column)]


def json_values(column: Any) -> list[Any]:
    """Numbers and flags as such, what is no number as null, moments in ISO 8601, a duration in its unit, bytes as the text that they are,
    or else in base64."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        is_uuid = kind.extension_name == "arrow.uuid"
        return [None if value is None else str(value) for value in column.to_pylist()] if is_uuid else json_values(column.storage)
    if types.is_dictionary(kind):
        return json_values(column.dictionary_decode())
    if types.is_floating(kind):  # by way of the shortest digits that tell it, which for 32 bits are fewer
        written = column.cast(pa.float32()) if types.is_float16(kind) else column
        return [_finite(value) for value in written.cast(pa.string()).to_pylist()]
    if types.is_duration(kind):
        return list(column.cast(pa.int64()).to_pylist())
    if is_moment(kind):
        return [None if value is None else value.replace(" ", "T", 1) for value in column.cast(pa.string()).to_pylist()]
    if types.is_decimal(kind):
        return [None if value is None else msgspec.Raw(format(value, "f").encode()) for value in column.to_pylist()]
    if is_bytes(kind):
        return [None if value is None else _text_of(value) for value in column.to_pylist()]
    try:
        return list(column.to_pylist())
    except ValueError:  # moments of nanoseconds within something
        return [None if value is None else str(value) for value in column]


def _finite(value: str | None) -> float | None:
    number = None if value is None else float(value)
    return number if number is None or math.isfinite(number) else None


def _text_of(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64encode(value).decode()
