"""Tables of results as JSON lines, CSV or Parquet: written as rows come, in flat memory."""

import csv
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from importlib import import_module
from io import TextIOWrapper
from typing import Any, BinaryIO, Final, Literal, Protocol

import msgspec

from api.tables.formulas import guarded
from api.tables.layout import PLACE, Layout
from api.tables.outcome import Outcome
from db.files.table import Table
from workers.content.kept_rows import KeptCells, KeptFields, kept_rows
from workers.tasks.task import UNSAID

Kind = Literal["jsonl", "csv", "parquet"]
ROWS_AT_ONCE: Final = 4096  # a row group of Parquet; what is in memory at once
BYTES_AT_ONCE: Final = 16 << 20  # of what was kept of them, and what they come to as values:
CELL_BYTES: Final = 16  # of one that is empty
ANSWER_BYTES: Final = 3  # a byte of an answer: a vector's numbers are the worst
_NOT_IN_CSV: Final = frozenset({"scores", "vector"})


class Writer(Protocol):
    """``write`` holds rows back for a while; ``flush`` writes those; ``finish`` ends the table. ``written``: how many rows the file has,
    all of them whole. ``shows_inputs``: whether it needs of a row what was kept of it."""

    written: int

    @property
    def shows_inputs(self) -> bool: ...

    def write(self, outcome: Outcome) -> None: ...
    def flush(self) -> None: ...
    def finish(self) -> None: ...


def columns_of(kind: Kind, columns: Mapping[str, str], *, scores: bool = True) -> dict[str, str]:
    """Those of a task that such a table has. ``scores``: whether those of all labels are told."""
    left_out = _NOT_IN_CSV if kind == "csv" else frozenset() if scores else frozenset({"scores"})
    return {name: what for name, what in columns.items() if what not in left_out}


def table_writer(
    file: BinaryIO,
    kind: Kind,
    columns: Mapping[str, str],
    table: Table | None,
    *,
    picked: Sequence[str] | None = None,
    scores: bool = True,
    guard: bool = True,
    spell: Callable[[bytes], bytes] | None = None,
) -> Writer:
    """``columns``: of the task. ``table``: what the input was, to which results are joined; None where they stand alone. ``scores``:
    whether those of all labels are told. ``guard``: of texts in a CSV, against formulas. ``spell``: done to a line of JSON. Raises
    UnknownColumn where ``picked`` names one that is not there."""
    shown = columns_of(kind, columns, scores=scores)
    kept = None if table is None else kept_rows(table)
    layout = Layout.of(None if kept is None else kept.names, shown, picked)
    if kind == "csv":
        return CsvTable(file, layout, kept, guard=guard)
    if kind == "parquet":
        return ParquetTable(file, layout, kept)
    return JsonLines(file, layout, kept, left_out=columns.keys() - shown.keys(), spell=spell)


class _Held(ABC):
    """Rows that wait for others."""

    def __init__(self, layout: Layout, kept: KeptCells | KeptFields | None) -> None:
        self._layout = layout
        self._kept = kept
        self.written = 0
        self._rows: list[Outcome] = []
        self._bytes = 0

    @property
    def shows_inputs(self) -> bool:
        return self._kept is not None and bool(self._layout.kept)

    def write(self, outcome: Outcome) -> None:
        self._rows.append(outcome)
        cells = CELL_BYTES * len(self._layout.order)
        self._bytes += cells + len(outcome.body or b"") + len(outcome.columns or b"") + ANSWER_BYTES * outcome.size
        if len(self._rows) >= ROWS_AT_ONCE or self._bytes >= BYTES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        rows, self._rows, self._bytes = self._rows, [], 0
        if rows:
            self._put(rows)
            self._send()
            self.written += len(rows)

    @abstractmethod
    def _put(self, rows: list[Outcome]) -> None: ...
    @abstractmethod
    def _send(self) -> None:
        """What was put goes out of our hands."""


class JsonLines(_Held):
    """An object a row: the fields of its own, then the task's, or ``error`` and ``message``; what is not there is left out. Where no
    columns are picked it has all fields of its line, and all that an answer says, but for ``left_out``."""

    def __init__(
        self,
        file: BinaryIO,
        layout: Layout,
        kept: KeptCells | KeptFields | None,
        *,
        left_out: Set[str],
        spell: Callable[[bytes], bytes] | None,
    ) -> None:
        super().__init__(layout, kept)
        self._file = file
        self._called = {name: called for called, name in layout.own.items()}
        self._left_out = left_out
        self._spell = spell

    def _put(self, rows: list[Outcome]) -> None:
        objects: Sequence[Mapping[str, Any]] = (
            self._kept.objects(rows) if self._kept is not None and self.shows_inputs else [{} for _ in rows]
        )
        lines = bytearray()
        for row, kept in zip(rows, objects, strict=True):
            line = msgspec.json.encode(self._shown(row, kept))
            lines += (line if self._spell is None else self._spell(line)) + b"\n"
        self._file.write(lines)

    def _shown(self, row: Outcome, kept: Mapping[str, Any]) -> dict[str, Any]:
        own, values = self._layout.own, _values_of(row)
        if self._layout.picked:
            told = ((name, values if name in own else kept, own.get(name, name)) for name in self._layout.order)
            return {name: where[key] for name, where, key in told if key in where}
        shown = dict(kept)
        for name, value in values.items():
            if value is None and self._layout.kinds.get(name) in UNSAID:  # of a row that was skipped
                continue
            if name in self._called:
                shown[self._called[name]] = value
            elif name not in self._left_out and name not in PLACE:  # what is no column, as the vectors of several texts
                shown[name if name not in shown else f"{name}_2"] = value
        return shown

    def _send(self) -> None:
        self._file.flush()

    def finish(self) -> None:
        self.flush()
        self._send()  # a file without rows


class CsvTable(_Held):
    """Of vectors and of the scores of all labels it holds none. What the user's table holds is written as it came, so that it can be
    joined: the guard is on what a model or a label says."""

    def __init__(self, file: BinaryIO, layout: Layout, kept: KeptCells | KeptFields | None, *, guard: bool) -> None:
        super().__init__(layout, kept)
        self._guard: Callable[[object], object] = guarded if guard else _as_it_is
        self._text = TextIOWrapper(file, encoding="utf-8", errors="replace", newline="", write_through=True)  # a row a write
        self._csv = csv.writer(self._text)
        self._csv.writerow(layout.order)
        place = {} if kept is None else {name: at for at, name in enumerate(kept.names)}
        self._cells: list[tuple[int | None, str]] = [  # where each is among the user's, or which of ours it is
            (None, layout.own[name]) if name in layout.own else (place[name], name) for name in layout.order
        ]

    def _put(self, rows: list[Outcome]) -> None:
        kept = self._kept.texts(rows) if self._kept is not None and self.shows_inputs else [()] * len(rows)
        for row, cells in zip(rows, kept, strict=True):
            values, failed = _values_of(row), row.code is not None
            self._csv.writerow([cells[at] if at is not None else self._own(values, name, failed=failed) for at, name in self._cells])

    def _send(self) -> None:
        self._text.flush()

    def _own(self, values: Mapping[str, object], name: str, *, failed: bool) -> object:
        if name == "id":
            return values[name]
        value = values.get(name, None if failed else UNSAID.get(self._layout.kinds[name]))
        return self._guard(str(value).lower() if isinstance(value, bool) else value)

    def finish(self) -> None:
        self.flush()
        self._send()  # the header of a table without rows
        self._text.detach()


class ParquetTable(_Held):
    """The user's columns in the types that they came in."""

    def __init__(self, file: BinaryIO, layout: Layout, kept: KeptCells | KeptFields | None) -> None:
        super().__init__(layout, kept)
        # pyarrow fills its name space at run time, so that a type checker cannot follow it.
        self._arrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
        text, real, whole = self._arrow.string(), self._arrow.float64(), self._arrow.int64()
        kinds = {"text": text, "number": real, "flag": self._arrow.bool_(), "count": whole, "integer": whole}
        kinds |= {"scores": self._arrow.map_(text, real), "vector": self._arrow.list_(self._arrow.float32())}
        theirs: Any = None if kept is None else kept.schema
        fields = [
            theirs.field(name) if name not in layout.own else self._arrow.field(name, kinds[layout.kinds[layout.own[name]]])
            for name in layout.order
        ]
        self._schema = self._arrow.schema(fields, None if theirs is None else theirs.metadata)
        self._file = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def _put(self, rows: list[Outcome]) -> None:
        layout = self._layout
        theirs = dict(zip(self._kept.names, self._kept.arrays(rows), strict=True)) if self._kept is not None and self.shows_inputs else {}
        values = [_values_of(row) for row in rows]
        arrays = [
            theirs[name] if name not in layout.own else self._own(layout.own[name], self._schema.field(name).type, rows, values)
            for name in layout.order
        ]
        self._file.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def _own(self, name: str, kind: Any, rows: Sequence[Outcome], values: Sequence[Mapping[str, object]]) -> Any:
        unsaid = UNSAID.get(self._layout.kinds[name])
        found = [of_row.get(name, None if row.code is not None else unsaid) for row, of_row in zip(rows, values, strict=True)]
        return self._arrow.array([list(value.items()) if isinstance(value, dict) else value for value in found], kind)

    def _send(self) -> None:
        pass  # it writes a group of rows at once

    def finish(self) -> None:
        self.flush()
        self._file.close()


def _values_of(row: Outcome) -> dict[str, object]:
    placed: dict[str, object] = {"row": row.row, "line": row.line, "id": row.id}
    return placed | row.values | ({"error": row.code, "message": row.message} if row.code is not None else {})


def _as_it_is(value: object) -> object:
    return value
