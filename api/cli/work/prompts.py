"""A prompt over the first rows of a file on this machine: what it says of each, and which columns it leaves aside or misses."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from api.cli.terminal.exits import CommandError
from api.cli.terminal.terminal import shown
from api.cli.work.peeking import some_column
from api.cli.work.sources import Source
from api.formats.limits import FileLimits
from api.tables.noted import NotedFields
from db.failures import describe
from db.files.rows import NewRow
from db.files.table import Table
from workers.content.columns import KeptRow, columns_of
from workers.content.messages import PromptFault
from workers.content.prompts import Prompt, Turn, Unfilled, columns_meant

if TYPE_CHECKING:
    from api.client import Client

NOTED_ROWS: Final = 1_000  # of JSON lines, whose columns are what their lines have
LIMITS: Final = FileLimits(max_text_bytes=1 << 50)  # the file is the user's own


class Rendered(msgspec.Struct, kw_only=True):
    """Of a row: its messages, or why there are none."""

    row: int
    line: int
    messages: list[Turn] = []
    error: str | None = None
    message: str | None = None


class Rendering(msgspec.Struct, kw_only=True):
    """``missing``: what the prompt names and the file has not; ``unused``: columns that it does not name."""

    rows: list[Rendered]
    missing: list[str]
    unused: list[str]


def compiled(source: str) -> Prompt:
    try:
        return Prompt(source)
    except PromptFault as fault:
        raise CommandError(shown(fault)) from None


def stored_prompt(client: "Client", name: str) -> str:
    """The source of NAME, or NAME@2. Raises what the client raises, and CommandError where it does not open."""
    from api.client import segment

    found = client.get(f"/v1/prompts/{segment(name)}")
    if found.get("error") is not None:
        raise CommandError("This version of the prompt does not open: it was altered in the database.")
    return str(found["source"])


def render(prompt: Prompt, source: Source, count: int) -> Rendering:
    """Raises CommandError, and Refused for a file that cannot be read."""
    from api.streams.uploads import noted_of, plan_of, rows_of

    plan = plan_of({"purpose": "rows", **source.fields}, source.name)
    noted = noted_of(plan)
    with source.open() as (stream, _):
        rows = rows_of(plan, iter(lambda: stream.read(1 << 16), b""), LIMITS, noted)
        first = list(islice(rows, count))
        if isinstance(noted, NotedFields):
            for _ in islice(rows, NOTED_ROWS):
                pass
    return fill(prompt, None if noted is None else noted.table, first)


def fill(prompt: Prompt, table: Table | None, first: Sequence[NewRow]) -> Rendering:
    """``table``: of the file whose first rows they are. Raises CommandError."""
    if table is None:
        raise CommandError("The file has no rows.")
    meant, missing = columns_meant(prompt.names, table.names)
    unused = [] if prompt.reads_all else [name for name in table.names if name not in meant.values()]
    cells = columns_of(table, [KeptRow(row.body, row.columns) for row in first])
    told = [_rendered(prompt, meant, at, row, of_row) for at, (row, of_row) in enumerate(zip(first, cells, strict=True), 1)]
    return Rendering(rows=told, missing=missing, unused=unused)


def _rendered(prompt: Prompt, meant: dict[str, str], at: int, row: NewRow, cells: dict[str, Any]) -> Rendered:
    code, turns = row.defect, list[Turn]()
    if code is None:
        try:
            chars = len(row.body or b"") + len(row.columns or b"")
            turns = prompt.fill({name: cells.get(column) for name, column in meant.items()}, chars, cells)
        except Unfilled as unfilled:
            code = unfilled.code
    return Rendered(row=at, line=row.line, messages=turns, error=code, message=None if code is None else describe(code).message)


def with_any_text(source: Source) -> Source:
    """Of a prompt's table any column may be its text: the first one, where none is called so."""
    if source.path is None or "text_column" in source.fields:
        return source
    name = some_column(source.path, source.fields.get("format"))
    return source if name is None else replace(source, fields={**source.fields, "text_column": name})
