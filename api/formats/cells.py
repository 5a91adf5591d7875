"""What a cell of a Parquet column is as text: of an id or a label, which people keep as numbers, UUIDs and dates, too."""

import math
from typing import Final
from uuid import UUID

import pyarrow.types as types
from pyarrow.lib import Array, BaseExtensionType, DataType, ExtensionArray, float32, string, timestamp

UUID_BYTES: Final = 16
OUT_OF_RANGE: Final = "<"  # so Arrow begins what it writes for a date or a time that it cannot write


def stored_type(kind: DataType) -> DataType:
    """Without the wrappings: what a dictionary's values are, and what an extension type is stored as."""
    if types.is_dictionary(kind):
        return stored_type(kind.value_type)
    return stored_type(kind.storage_type) if isinstance(kind, BaseExtensionType) else kind


def without_wrapping(column: Array) -> Array:
    """What a column of an extension type is stored as; another one as it is."""
    return column.storage if isinstance(column, ExtensionArray) else column


def holds_bytes(kind: DataType) -> bool:
    """Strings and binaries of any length."""
    kind = stored_type(kind)
    strings = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(strings or types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def is_scalar(kind: DataType) -> bool:
    numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    return bool(numbers or types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind))


class UnreadableCell(Exception):
    """``code``: of the row's failure."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Cells:
    """One column of a batch, which is as small as its values are large. ``needed``: whether a value that cannot be read is told; in a
    column that nobody asked for it is none. ``field``: what it is of a row."""

    def __init__(self, column: Array, *, field: str, needed: bool) -> None:
        self._field = field
        self._needed = needed
        self._uuid = isinstance(column, ExtensionArray) and column.type.extension_name == "arrow.uuid"
        column = without_wrapping(column)
        kind = stored_type(column.type)
        self._codes = field == "id" and types.is_fixed_size_binary(kind)
        if types.is_dictionary(column.type) and not holds_bytes(kind) and not types.is_fixed_size_binary(kind):
            column = column.dictionary_decode()
        if types.is_float16(kind):
            column = column.cast(float32())
        self._numbers = column.to_pylist() if types.is_floating(kind) else None
        if types.is_timestamp(kind):
            self._zone = "" if kind.tz is None else "Z"
            column = column.view(timestamp(kind.unit))
        self._timestamp = types.is_timestamp(kind)
        self._temporal = types.is_temporal(kind)
        self._column = column.cast(string()) if is_scalar(kind) and not types.is_decimal(kind) else column
        try:
            self._values = self._column.to_pylist()
        except UnicodeDecodeError:
            self._values = None  # one by one, so that one bad value is one bad row

    def text(self, place: int) -> str | None:
        """None: a null, and no number (NaN: what pandas makes of a null). Raises UnreadableCell where the value is needed."""
        try:
            return self._text(place)
        except UnicodeDecodeError:
            code = "invalid_utf8"
        except UnreadableCell as unreadable:
            code = unreadable.code
        if self._needed:
            raise UnreadableCell(code)
        return None

    def _text(self, place: int) -> str | None:
        if self._numbers is not None:
            number = self._numbers[place]
            if number is None or math.isnan(number):
                return None
            if number.is_integer():
                return str(int(number))
        value = self._values[place] if self._values is not None else self._column[place].as_py()
        if value is None:
            return None
        if isinstance(value, bytes):
            if self._codes and not self._uuid:
                return _name_of(value)
            return str(UUID(bytes=value)) if self._uuid and len(value) == UUID_BYTES else value.decode()
        if isinstance(value, str):
            if self._temporal and value.startswith(OUT_OF_RANGE):
                raise UnreadableCell(f"invalid_field:{self._field}:a date or a time that there is")
            return self._moment(value) if self._timestamp else value
        return format(value, "f")  # a decimal, with all its digits and without an exponent

    def _moment(self, value: str) -> str:
        day, _, fraction = value.replace(" ", "T").partition(".")
        return day + (f".{fraction}" if fraction.strip("0") else "") + self._zone


def _name_of(value: bytes) -> str:
    """An id of a fixed number of bytes: what it spells or, of a digest or a UUID that does not say that it is one, its hex digits."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() else value.hex()
