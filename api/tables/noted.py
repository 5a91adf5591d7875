"""A table's columns, noted as its rows pass."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from api.errors import Refused
from db.files.table import INT64, Table, unique

MAX_NAMES: Final = 5_000  # of columns. Of fields, which may be others in each line, those beyond stay in their rows, and are no columns
_DOUBLE_DIGITS: Final = 15  # of a whole number that a double surely holds
_KINDS: Final = {ord('"'): "text", ord("["): "json", ord("{"): "json", ord("t"): "flag", ord("f"): "flag", ord("n"): ""}
_decode_integer: Final = msgspec.json.Decoder(int).decode


class Noted:
    """What a reader of one file learns of it. ``table``: None before it has."""

    def __init__(self) -> None:
        self.table: Table | None = None

    def cells(self, names: Sequence[str], text: int | None, schema: bytes | None = None) -> None:
        """Of a table with a header; names that are there twice get numbers, for a table needs them apart. ``text``: the text's place.
        Raises Refused where there are too many; those without a name that end a header count only as far as there is room."""
        count = len(names)
        while count > MAX_NAMES and not names[count - 1]:
            count -= 1
        if count > MAX_NAMES:
            message = f"The file has {count:,} columns, and {MAX_NAMES:,} can be kept: leave some out."
            raise Refused("too_many_columns", message, param="file")
        told = unique(names[:count])
        self.table = Table("cells", told, None if text is None else told[text], schema=schema)


class NotedFields:
    """The same of lines that are objects: a column is what any of them has. ``note`` takes some 150 ns a field."""

    def __init__(self) -> None:
        self._kinds: dict[str, set[str]] = {}
        self._settled: dict[str, set[int]] = {}  # of each, the first bytes of values that tell nothing new
        self.text: str | None = None

    def note(self, fields: Mapping[str, Raw], text: str | None) -> None:
        self.text = self.text or text
        settled = self._settled
        for name, raw in fields.items():
            value = bytes(raw)
            if name not in settled or value[0] not in settled[name]:
                self._look(name, value)

    def _look(self, name: str, value: bytes) -> None:
        if name not in self._kinds:
            if len(self._kinds) >= MAX_NAMES:
                return
            self._kinds[name], self._settled[name] = set(), set()
        kind = _KINDS.get(value[0])
        if kind is None:
            kind = _number_kind(value)
        else:
            self._settled[name].add(value[0])
        if kind:
            self._kinds[name].add(kind)

    @property
    def table(self) -> Table:
        return Table("fields", list(self._kinds), self.text, {name: _kind_of(kinds) for name, kinds in self._kinds.items()})


def _number_kind(value: bytes) -> str:
    """``long``: a whole number that a column of doubles would change; what no such column holds is text."""
    if b"." in value or b"e" in value or b"E" in value:
        return "number" if math.isfinite(float(value)) else "text"
    if len(value) <= _DOUBLE_DIGITS:
        return "integer"
    return "long" if len(value) <= 20 and _decode_integer(value) in INT64 else "text"


def _kind_of(kinds: set[str]) -> str:
    """One that holds all of them: a column whose kind changes half-way is text, or JSON where a list or an object is among them."""
    if kinds and kinds <= {"integer", "long"}:
        return "integer"
    if kinds == {"integer", "number"}:
        return "number"
    if len(kinds) < 2:
        return next(iter(kinds), "text")
    return "json" if "json" in kinds else "text"
