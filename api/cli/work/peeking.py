"""What a look at an input's beginning tells before anything is sent: lines of a batch file, and places for columns that nobody fills in."""

import csv
import io
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec

from api.cli.terminal.exits import CommandError
from api.cli.work.outcomes import task_of
from api.endpoints import command_for
from api.formats.limits import TEXT_COLUMNS
from api.formats.names import COMPRESSED, format_of
from workers.tasks.task import Task

HEAD_BYTES: Final = 1 << 20
LOOKED_AT: Final = 100  # lines: of a file of rows none is a batch line, of a batch file most are


class _BatchLine(msgspec.Struct):
    custom_id: msgspec.Raw
    url: str
    body: dict[str, msgspec.Raw]


def batch_endpoint(path: Path | None, task: Task[Any]) -> str | None:
    """The endpoint that the lines of a batch file name, of ``task``; None where the file holds plain rows. Raises CommandError where they
    ask for another task."""
    head = b"" if path is None else _head(path)
    url = next(filter(None, map(_url_of, head.splitlines()[:LOOKED_AT])), None)
    if url is None or url in task.endpoints:
        return url
    try:
        asked = task_of(url).name
    except CommandError:
        return None  # the rows say so, one by one
    raise CommandError(f"The lines of this file ask for {url}: textmill {command_for(asked)} FILE.")


def _url_of(line: bytes) -> str | None:
    """Of a line of a batch file that can be read."""
    try:
        return msgspec.json.decode(line, type=_BatchLine).url
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def literal_places(path: Path | None, *more: str | None) -> list[str]:
    """Names of the file's columns that stand in braces, ``{name}``, in its beginning or in ``more``: no text is put in their place."""
    head = b"" if path is None else _head(path)
    text = "\n".join([head.decode("utf-8", "replace"), *(each for each in more if each)])
    return [name for name in _columns(head) if f"{{{name}}}" in text]


def some_column(path: Path, form: str | None) -> str | None:
    """The first column of a table of which none is called what a text is usually called; None where one is, or there are none."""
    if (form or format_of(path.name)) == "parquet":
        names = _parquet_columns(path)
    else:
        names = [] if (form or format_of(path.name)) == "txt" else _columns(_head(path))
    usual = {*TEXT_COLUMNS, "messages"}
    return None if not names or any(name.strip().casefold() in usual for name in names) else names[0]


def _parquet_columns(path: Path) -> list[str]:
    """Of text; whoever reads the file says what is wrong with it."""
    parquet, lib = import_module("pyarrow.parquet"), import_module("pyarrow.lib")
    try:
        schema = parquet.ParquetFile(path).schema_arrow
    except (lib.ArrowException, OSError):
        return []
    return [field.name for field in schema if str(field.type) in ("string", "large_string")]


def _columns(head: bytes) -> list[str]:
    """Of JSON lines the first object's members, otherwise the cells of the first line."""
    line = next((line for line in head.splitlines() if line.strip()), b"")
    try:
        return list(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    header = line.decode("utf-8-sig", "replace")
    if "\x00" in header:
        return []
    delimiter = max(",;\t|", key=header.count)
    try:
        return [name.strip() for name in next(csv.reader(io.StringIO(header), delimiter=delimiter), []) if name.strip()]
    except csv.Error:
        return []


def _head(path: Path) -> bytes:
    """The file's first bytes; nothing of what is no ordinary file, or cannot be read: whoever opens it says why."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return b""
    if not head.startswith(COMPRESSED):
        return head
    from api.formats.compression import beginning  # pyarrow: a quarter of a second that plain files need not wait for

    return beginning(head, HEAD_BYTES)
