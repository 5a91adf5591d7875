"""What a job would be: its first rows, and what it would take. Nothing is sent but how many rows and characters there are."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec

from api.cli.terminal.connection import connect
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.terminal import age, answer, answer_json, columns_of, say, shortened, shown, shown_lines, table, when
from api.cli.work.sources import Source
from api.formats.limits import FileLimits

if TYPE_CHECKING:
    from api.client import Client
    from api.wire import Forecast
    from db.files.rows import NewRow
    from db.files.table import Table

Opened = AbstractContextManager[tuple[BinaryIO, int | None]]
SHOWN_ROWS: Final = 3
SAMPLE_ROWS: Final = 1_000  # that a prompt is filled in for, to know how long it becomes
CHUNK_BYTES: Final = 1 << 20
LIMITS: Final = FileLimits(
    max_line_bytes=8 << 20, max_parquet_bytes=256 << 20, max_unpacked_bytes=1 << 30, max_text_bytes=1 << 44
)  # the server's own, as it comes


class Counted(msgspec.Struct):
    """Of an input: the rows that can be run, their characters, the others, and the bodies of the first. ``sample``: of one that a prompt is
    filled in with, its first rows, and what its columns are."""

    rows: int = 0
    chars: int = 0
    defects: int = 0
    first: list[bytes] = []
    sample: "list[NewRow]" = []
    table: "Table | None" = None


def dry_run(source: Source, endpoint: str, plan: Mapping[str, Any], *, prompt: object = None, as_json: bool) -> ExitCode:
    """Shows it. ``prompt``: the name of the one that is filled in with each row. Raises CommandError where the input cannot be read, and
    what the server says of such a job."""
    counted = count(source.open(), source.name, source.fields, sampled=0 if prompt is None else SAMPLE_ROWS)
    with connect() as client:
        first = [text_of(body) for body in counted.first] if prompt is None else filled_in(client, str(prompt), counted)
        told = client.forecast_batch(endpoint, counted.rows, counted.chars, **plan)
    if as_json:
        answer_json({"defective_rows": counted.defects, "characters": counted.chars, "first": first, **msgspec.to_builtins(told)})
        return ExitCode.OK
    for number, text in enumerate(first, 1):
        answer(f"row {number}: {shortened(text, columns_of(sys.stdout) - 8)}" if prompt is None else f"row {number}:\n{shown_lines(text)}")
    answer("")
    table(("FIELD", "VALUE"), figures(told, counted))
    say("A dry run: no job was made, and nothing of the file was sent.")
    return ExitCode.OK


def filled_in(client: "Client", name: str, counted: Counted) -> list[str]:
    """The first rows as a model would read them. What is ``counted`` becomes the prompt's characters in them, by the mean of the rows that
    it is filled in for here."""
    from api.cli.work.prompts import compiled, fill, stored_prompt  # brings jinja2

    rendering = fill(compiled(stored_prompt(client, name)), counted.table, counted.sample)
    if rendering.missing:
        raise CommandError(f"The prompt names columns that the file has not: {', '.join(map(shown, rendering.missing))}.")
    written = [sum(len(turn.content) for turn in row.messages) for row in rendering.rows if row.message is None]
    if written:
        counted.chars = round(sum(written) / len(written) * counted.rows)
    return [row.message or "\n".join(f"{turn.role}: {turn.content}" for turn in row.messages) for row in rendering.rows[:SHOWN_ROWS]]


def count(opened: Opened, name: str, fields: Mapping[str, str], *, sampled: int = 0) -> Counted:
    """Reads the input as an upload of it would be read. ``sampled``: as many of its first rows are kept."""
    from api.streams.uploads import noted_of, plan_of, rows_of

    counted = Counted()
    plan = plan_of(dict(fields), name)
    noted = noted_of(plan) if sampled else None
    with opened as (stream, _):
        chunks = iter(lambda: stream.read(CHUNK_BYTES), b"")
        for row in _rows(rows_of(plan, chunks, LIMITS, noted)):
            if len(counted.sample) < sampled:
                counted.sample.append(row)
            if row.defect is not None:
                counted.defects += 1
                continue
            counted.rows += 1
            counted.chars += row.size
            if len(counted.first) < SHOWN_ROWS:
                counted.first.append(row.body or b"")
    counted.table = None if noted is None else noted.table
    if not counted.rows:
        raise CommandError("No row of the input can be read.")
    return counted


def _rows(rows: "Iterator[NewRow]") -> "Iterator[NewRow]":
    from api.errors import Refused

    try:
        yield from rows
    except Refused as refused:
        raise CommandError(refused.message) from None


def text_of(body: bytes) -> str:
    """What a row asks about: its text, or its prompt; of any other the body as it is."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")
    for name in ("input", "prompt"):
        if isinstance(text := fields.get(name), str):
            return text
    return body.decode("utf-8", "replace")


def figures(told: "Forecast", counted: Counted) -> list[tuple[str, str]]:
    """What is known, field by field."""
    others = f", and {counted.defects:,} that cannot be read" if counted.defects else ""
    found = [("rows", f"{told.rows:,}{others}"), ("characters", f"{counted.chars:,}")]
    if told.input_tokens is not None and told.output_tokens is not None:
        written = [("tokens out", f"about {told.output_tokens:,}")] if told.output_tokens else []
        found += [("tokens in", f"about {told.input_tokens:,}"), *written]
    if told.worker_seconds is not None:
        found.append(("work", f"about {lasting(told.worker_seconds)} of a worker"))
    if told.expected_at is not None:
        late = ", which is after its window" if told.late else ""
        found.append(("done at", f"{when(told.expected_at)}, in {age(time.time(), told.expected_at)}{late}"))
    if told.unforeseen is not None:
        found.append(("not known", shown(told.unforeseen.message)))
    if told.price is not None:
        found.append(("price", f"about {told.price:,.4f} {shown(told.currency or '')}".rstrip()))
    return found


def lasting(seconds: float) -> str:
    """5 s, 2 min, 3 h."""
    return age(0.0, seconds)
