"""The rows of a table put together again, from what was kept of each: its cells, and its text, which is its body's."""

import math
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import Raw

from db.files.table import INT64, Table

_OF_BODY: Final = frozenset({"input", "label"})  # fields that a plain row's body has of ours; others are the line's own
_NULL: Final = Raw(b"null")
_DIGITS: Final = frozenset(bytes([one]) for one in b"-0123456789")
_cells: Final = msgspec.json.Decoder(list[Any]).decode
_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode


class _Body(msgspec.Struct):
    input: str | None = None


_body: Final = msgspec.json.Decoder(_Body).decode


class Kept(Protocol):
    """What is kept of a row, opened. None where there is nothing of it."""

    @property
    def body(self) -> bytes | None: ...
    @property
    def columns(self) -> bytes | None: ...


class KeptCells:
    """Of a table with a header: a CSV, plain lines, a Parquet file. A row of which nothing is left has no cells."""

    def __init__(self, table: Table) -> None:
        self.names = table.names
        self._text = None if table.text is None else table.names.index(table.text)
        self._written_schema = table.schema

    @cached_property
    def schema(self) -> Any:
        """Arrow's."""
        pa = _pyarrow()
        if self._written_schema is None:
            return pa.schema([(name, pa.string()) for name in self.names])
        return pa.ipc.read_schema(pa.py_buffer(self._written_schema))

    def arrays(self, rows: Sequence[Kept]) -> list[Any]:
        """Arrow's, one a column."""
        from workers.content.arrow_cells import restored, restored_texts

        return [
            (restored_texts if place == self._text else restored)(field.type, column)
            for place, (field, column) in enumerate(zip(self.schema, self._columns(rows), strict=True))
        ]

    def texts(self, rows: Sequence[Kept]) -> list[list[Any]]:
        """What a CSV shows, one list a row."""
        return self._shown(rows, "texts")

    def objects(self, rows: Sequence[Kept]) -> list[dict[str, Any]]:
        """What a line of JSON shows, by name."""
        return [dict(zip(self.names, row, strict=True)) for row in self._shown(rows, "json_values")]

    def _shown(self, rows: Sequence[Kept], how: Literal["texts", "json_values"]) -> list[list[Any]]:
        if self._written_schema is None:
            return [self._cells(row) for row in rows]
        shown = getattr(import_module("workers.content.spelled"), how)
        return [list(row) for row in zip(*map(shown, self.arrays(rows)), strict=True)]

    def _columns(self, rows: Sequence[Kept]) -> list[list[Any]]:
        return [list(column) for column in zip(*map(self._cells, rows), strict=True)] if rows else [[] for _ in self.names]

    def _cells(self, row: Kept) -> list[Any]:
        width = len(self.names)
        cells = _cells(row.columns)[:width] if row.columns is not None else []
        cells += [None] * (width - len(cells))
        if self._text is not None and cells[self._text] is None and row.body is not None:
            cells[self._text] = _text_of(row.body)
        return cells


class KeptFields:
    """Of lines that are objects. A row has the fields that its line had; one that could not be read, and is no object, has none."""

    def __init__(self, table: Table) -> None:
        self.names = table.names
        self._places = {name: place for place, name in enumerate(table.names)}
        self._text = table.text
        self._kinds = table.kinds

    @cached_property
    def schema(self) -> Any:
        pa = _pyarrow()
        kinds = {"integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_()}
        return pa.schema([(name, kinds.get(self._kinds.get(name, ""), pa.string())) for name in self.names])

    def arrays(self, rows: Sequence[Kept]) -> list[Any]:
        objects = self.objects(rows)
        return [_array(field.type, [row.get(field.name, _NULL) for row in objects]) for field in self.schema]

    def texts(self, rows: Sequence[Kept]) -> list[list[Any]]:
        return [[_told(row.get(name, _NULL)) for name in self.names] for row in self.objects(rows)]

    def objects(self, rows: Sequence[Kept]) -> list[dict[str, Raw]]:
        return [self._object(row) for row in rows]

    def _object(self, row: Kept) -> dict[str, Raw]:
        body = _object_of(row.body)
        if row.columns is None:
            return body  # a line that fits no body is kept as it came
        kept = row.columns
        own = {name: raw for name, raw in body.items() if name not in _OF_BODY}
        if kept.startswith(b"["):
            kept = kept[1:-1]
        elif self._text is not None and "input" in body:
            own[self._text] = body["input"]
        own |= _object_of(kept)
        return {name: own[name] for name in sorted(own, key=lambda name: self._places.get(name, len(self._places)))}


def kept_rows(table: Table) -> KeptCells | KeptFields:
    return KeptCells(table) if table.form == "cells" else KeptFields(table)


def _text_of(body: bytes) -> str | None:
    try:
        return _body(body).input
    except (msgspec.DecodeError, UnicodeDecodeError):  # a line that could not be read; the error holds it, and goes no further
        return None


def _object_of(line: bytes | None) -> dict[str, Raw]:
    try:
        if line is not None:
            line.decode()  # of what is not looked at the decoder does not ask whether it is UTF-8
        return {} if line is None else _fields(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _told(raw: Raw) -> str | None:
    """Text as it is, anything else as JSON writes it."""
    value = bytes(raw)
    if value == b"null":
        return None
    return str(msgspec.json.decode(value)) if value.startswith(b'"') else value.decode()


def _pyarrow() -> Any:
    """Only where it is needed: it takes a while to load, and commands load this."""
    return import_module("pyarrow")


def _array(kind: Any, values: Sequence[Raw]) -> Any:
    """Null for what does not fit: of lines that could not be read nobody noted what their fields hold."""
    pa = _pyarrow()
    if kind == pa.string():
        return pa.array([_told(raw) for raw in values], kind)
    fits = {pa.int64(): _integer, pa.float64(): _number, pa.bool_(): _flag}[kind]
    return pa.array([fits(raw) for raw in values], kind)


def _integer(raw: Raw) -> int | None:
    value = bytes(raw)
    return int(value) if len(value) <= 20 and value.lstrip(b"-").isdigit() and int(value) in INT64 else None


def _number(raw: Raw) -> float | None:
    value = bytes(raw)
    return float(value) if value[:1] in _DIGITS and math.isfinite(float(value)) else None


def _flag(raw: Raw) -> bool | None:
    return {b"true": True, b"false": False}.get(bytes(raw))
