"""Where results go: JSONL, CSV or Parquet, into a file or to stdout.

A file is written beside its final name and renamed when complete: whoever reads OUT never meets half of it, and the input is never
overwritten. Where rows come one by one, OUT itself grows by whole rows, unless something is there already: that stays until all have come.
Devices and pipes are written straight.
"""

import csv
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.terminal import shown
from api.tables.layout import Layout, UnknownColumn
from api.tables.writers import Kind, Writer, columns_of, table_writer
from db.files.table import Table
from workers.tasks.task import Task

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SUFFIXES: Final[dict[str, Kind]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclass(frozen=True, slots=True)
class Target:
    """``path`` None is stdout."""

    path: Path | None
    kind: Kind


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
    check_place(path, source)
    return Target(path, kind)


def check_place(path: Path, source: os.stat_result | None) -> None:
    """Whether a file may go there. ``source``: the input. Raises CommandError."""
    if source is not None and path.is_file() and os.path.samestat(path.stat(), source):
        raise CommandError("-o names the input file; results never overwrite it.")
    if path.is_dir():
        raise CommandError("-o names a folder; give the name of a file.")
    if not path.parent.is_dir():
        raise CommandError("The folder that -o names does not exist.")
    if not os.access(path if path.exists() and not path.is_file() else path.parent, os.W_OK):
        raise CommandError("The folder that -o names cannot be written.")


@dataclass(frozen=True, slots=True)
class Shown:
    """What of results is written. ``inputs``: behind the columns of the user's own table, where the input was one. ``columns``: the names
    of those to write, in this order. ``scores``: those of all labels. ``guard``: of texts in a CSV, against formulas. ``rule``: what
    decided, of rules or a template."""

    inputs: bool = True
    columns: tuple[str, ...] | None = None
    scores: bool = True
    guard: bool = True
    rule: bool = False

    @staticmethod
    def of(columns: str | None, *, inputs: bool, scores: bool = True, guard: bool = True) -> "Shown":
        """``columns``: with commas between them; a name that has one stands in double quotes."""
        picked = None if columns is None else tuple(name for line in csv.reader([columns], skipinitialspace=True) for name in line)
        return Shown(inputs, picked, scores, guard)


def check_columns(target: Target, task: Task[Any], table: Table | None, shown_as: Shown) -> None:
    """Raises CommandError where one that was picked is not there."""
    try:
        shown_columns = columns_of(target.kind, task.columns_of(ruled=shown_as.rule), scores=shown_as.scores)
        Layout.of(None if table is None else table.names, shown_columns, shown_as.columns)
    except UnknownColumn as unknown:
        known = ", ".join(shown(name) for name in unknown.known)
        raise CommandError(f"--columns: the table has no column {shown(unknown.name)}. It has {known}.") from None


@contextmanager
def open_output(
    target: Target, task: Task[Any], table: Table | None = None, shown_as: Shown = Shown(), *, grows: bool = False
) -> Iterator[Writer]:
    """Complete at the end of the block, or, if that raises, as if it had never been. ``table``: that results are joined to. ``grows``:
    rows are in the file as they are flushed, where there was none; then it keeps them whatever is raised."""
    try:
        with opened(target.path, grows=grows and target.kind != "parquet") as file:
            terminal = target.path is None and sys.stdout.isatty()
            writer = table_writer(
                file,
                target.kind,
                task.columns_of(ruled=shown_as.rule),
                table,
                picked=shown_as.columns,
                scores=shown_as.scores,
                guard=shown_as.guard,
                spell=_spelled if terminal else None,
            )
            yield writer
            writer.finish()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"The results could not be written: {error.strerror or 'unknown error'}.", ExitCode.ROWS_FAILED) from None


@contextmanager
def opened(target: Path | None, *, grows: bool = False) -> Iterator[BinaryIO]:
    """Stdout (None), a device, a file that grows, or a draft that takes its name at the end."""
    if target is None:
        if sys.__stdout__ is None:
            raise CommandError("Stdout is closed, so nothing can be written to it: name a file with -o.")
        yield sys.stdout.buffer
        return
    path = target.resolve()  # through a link, so that the rename does not replace it
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
    """A new file that holds what was flushed and nothing else, whatever happens: rows that are whole. Raises FileExistsError."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        self._rows = bytearray()  # not in the file yet
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, rows: "ReadableBuffer") -> int:
        self._rows += rows
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
            self._rows.clear()
            try:
                super().close()
            finally:
                os.close(self._file)


def _spelled(line: bytes) -> bytes:
    """On a terminal every control character is spelled out."""
    return shown(line.decode()).encode()
