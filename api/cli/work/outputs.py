"""Where results go: JSONL, CSV or Parquet, into a file or to stdout.

A file is written beside its final name and renamed when complete: whoever reads OUT never meets half of it, and the input is never
overwritten. Where rows come one by one, OUT itself grows by whole rows, unless something is there already: that stays until all have come.
Devices and pipes are written straight.
"""

import csv
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from io import BufferedIOBase, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Protocol, cast

import msgspec

from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.terminal import shown
from api.cli.work.outcomes import Outcome
from api.tables.formulas import guarded
from workers.tasks.task import Task

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Kind = Literal["jsonl", "csv", "parquet"]
SUFFIXES: Final[dict[str, Kind]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
GROWS_BYTES: Final = 64 << 10  # that are kept of a file that grows before they are written
PARQUET_ROWS: Final = 4096  # a row group; what is in memory at once
UNSAID: Final[dict[str, object]] = {"flag": False, "count": 1}  # what a cell holds of an answer that says nothing of it, by kind of column


@dataclass(frozen=True, slots=True)
class Target:
    """``path`` None is stdout."""

    path: Path | None
    kind: Kind


class Writer(Protocol):
    def write(self, outcome: Outcome) -> None: ...
    def flush(self) -> None:
        """What can be read by others already is there for them."""

    def finish(self) -> None: ...


def kind_of(name: str) -> Kind | None:
    return SUFFIXES.get(Path(name).suffix.lower())


def parse_target(out: str, task: Task[Any], source: os.stat_result | None = None) -> Target:
    """Checks what can be checked before any work is done. Raises CommandError."""
    if out == "-":
        return Target(None, "jsonl")
    path = Path(out)
    kind = kind_of(out)
    if kind is None:
        if not path.exists() or path.is_file() or path.is_dir():
            raise CommandError("-o takes a name that ends in .jsonl, .csv or .parquet, or - for stdout.")
        kind = "jsonl"  # /dev/null, /dev/stdout, a named pipe
    if kind == "csv" and "vector" in task.columns.values():
        raise CommandError("CSV holds no vectors; take a .jsonl or .parquet name for -o.")
    if source is not None and path.is_file() and os.path.samestat(path.stat(), source):
        raise CommandError("-o names the input file; results never overwrite it.")
    if path.is_dir():
        raise CommandError("-o names a folder; give the name of a file.")
    if not path.parent.is_dir():
        raise CommandError("The folder that -o names does not exist.")
    if not os.access(path if path.exists() and not path.is_file() else path.parent, os.W_OK):
        raise CommandError("The folder that -o names cannot be written.")
    return Target(path, kind)


@contextmanager
def open_output(target: Target, task: Task[Any], *, scores: bool = True, guard: bool = True, grows: bool = False) -> Iterator[Writer]:
    """Complete at the end of the block, or, if that raises, as if it had never been. ``guard``: of texts in a CSV, against formulas.
    ``grows``: rows are in the file as they are flushed, where there was none; then it keeps them whatever is raised."""
    try:
        with _opened(target, grows=grows and target.kind != "parquet") as file:
            terminal = target.path is None and sys.stdout.isatty()
            writer = _writer(file, target.kind, task, scores=scores, guard=guard, terminal=terminal)
            yield writer
            writer.finish()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"The results could not be written: {error.strerror or 'unknown error'}.", ExitCode.ROWS_FAILED) from None


@contextmanager
def _opened(target: Target, *, grows: bool) -> Iterator[BinaryIO]:
    """Stdout, a device, a file that grows, or a draft that takes its name at the end."""
    if target.path is None:
        if sys.__stdout__ is None:
            raise CommandError("Stdout is closed, so nothing can be written to it: name a file with -o.")
        yield sys.stdout.buffer
        return
    path = target.path.resolve()  # through a link, so that the rename does not replace it
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            yield device
        return
    if grows:
        with suppress(FileExistsError), closing(Growing(path)) as file:
            yield cast("BinaryIO", file)
            return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with draft.open("xb") as file:
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


class Growing(BufferedIOBase):
    """A new file that holds whole rows only, whatever happens: a write is a row or several. Raises FileExistsError."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        self._rows = bytearray()  # not in the file yet
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, rows: "ReadableBuffer") -> int:
        self._rows += rows
        if len(self._rows) >= GROWS_BYTES:
            self.flush()
        return memoryview(rows).nbytes

    def flush(self) -> None:
        rows, self._rows = bytes(self._rows), bytearray()
        written = 0
        try:
            while written < len(rows):
                written += os.write(self._file, rows[written:])
        except BaseException:
            os.ftruncate(self._file, self._bytes)
            raise
        self._bytes += written

    def close(self) -> None:
        if not self.closed:
            try:
                super().close()
            finally:
                os.close(self._file)


class JsonLines:
    """``{"row", "line", "id", …}``, of a row that failed with ``"error", "message"``. On a terminal every control character is spelled
    out."""

    def __init__(self, file: BinaryIO, *, scores: bool, terminal: bool) -> None:
        self._file = file
        self._scores = scores
        self._terminal = terminal

    def write(self, outcome: Outcome) -> None:
        row: dict[str, object] = {"row": outcome.row, "line": outcome.line, "id": outcome.id}
        if outcome.code is not None:
            row |= {"error": outcome.code, "message": outcome.message}
        else:
            row |= outcome.values
            if not self._scores:
                row.pop("scores", None)
        line = msgspec.json.encode(row)
        if self._terminal:
            line = shown(line.decode()).encode()
        self._file.write(line + b"\n")

    def flush(self) -> None:
        self._file.flush()

    finish = flush


class CsvRows:
    """Columns row, line, id, the task's, error, message. Of vectors and of the scores of all labels it holds none. Ids are written as they
    came, so that they can be joined: the guard is on what a model or a label says."""

    def __init__(self, file: BinaryIO, task: Task[Any], *, guard: bool) -> None:
        self._columns = [(name, UNSAID.get(kind)) for name, kind in task.columns.items() if kind not in {"scores", "vector"}]
        self._guard: Callable[[object], object] = guarded if guard else _as_it_is
        self._text = TextIOWrapper(file, encoding="utf-8", errors="replace", newline="", write_through=True)  # a row a write
        self._csv = csv.writer(self._text)
        self._csv.writerow(("row", "line", "id", *(name for name, _ in self._columns), "error", "message"))

    def write(self, outcome: Outcome) -> None:
        values = (self._guard(_spelled(_cell(outcome, name, unsaid))) for name, unsaid in self._columns)
        self._csv.writerow([outcome.row, outcome.line, outcome.id, *values, outcome.code, outcome.message])

    def flush(self) -> None:
        self._text.flush()

    def finish(self) -> None:
        self._text.flush()
        self._text.detach()


class ParquetRows:
    """Columns row, line, id, the task's, error, message; a row group of PARQUET_ROWS at a time."""

    def __init__(self, file: BinaryIO, task: Task[Any], *, scores: bool) -> None:
        # pyarrow fills its name space at run time, so that a type checker cannot follow it.
        self._arrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
        text, real, whole = self._arrow.string(), self._arrow.float64(), self._arrow.int64()
        kinds = {"text": text, "number": real, "flag": self._arrow.bool_(), "count": whole, "integer": whole}
        kinds |= {"scores": self._arrow.map_(text, real), "vector": self._arrow.list_(self._arrow.float32())}
        self._columns = [(name, UNSAID.get(kind)) for name, kind in task.columns.items() if scores or kind != "scores"]
        own = [(name, kinds[task.columns[name]]) for name, _ in self._columns]
        fields = [("row", whole), ("line", whole), ("id", text), *own, ("error", text), ("message", text)]
        self._schema = self._arrow.schema(fields)
        self._file = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, object]] = []

    def write(self, outcome: Outcome) -> None:
        row: dict[str, object] = {"row": outcome.row, "line": outcome.line, "id": outcome.id}
        row |= {"error": outcome.code, "message": outcome.message}
        for name, unsaid in self._columns:
            value = _cell(outcome, name, unsaid)
            row[name] = list(value.items()) if isinstance(value, dict) else value
        self._rows.append(row)
        if len(self._rows) >= PARQUET_ROWS:
            self._flush()

    def flush(self) -> None:
        """Nothing: it is read from its end."""

    def finish(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def _cell(outcome: Outcome, name: str, unsaid: object) -> object:
    """None of a row that failed."""
    return outcome.values.get(name, unsaid) if outcome.code is None else None


def _spelled(value: object) -> object:
    """A flag is true or false in small letters, as in JSON."""
    return str(value).lower() if isinstance(value, bool) else value


def _as_it_is(value: object) -> object:
    return value


def _writer(file: BinaryIO, kind: Kind, task: Task[Any], *, scores: bool, guard: bool, terminal: bool = False) -> Writer:
    if kind == "csv":
        return CsvRows(file, task, guard=guard)
    if kind == "parquet":
        return ParquetRows(file, task, scores=scores)
    return JsonLines(file, scores=scores, terminal=terminal)
