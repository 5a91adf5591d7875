"""What a demo shows: titles, tables, bars, and what must hold."""

import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from api.cli.terminal.progress import show_progress
from api.cli.terminal.terminal import answer, console, shown
from api.client import Client, Upload
from api.wire import FileInfo


@dataclass(slots=True)
class Checks:
    """What the demo must show. It fails when one of them does not hold."""

    failed: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:
        answer(f"  {'ok  ' if holds else 'FAIL'}  {what}")
        if not holds:
            self.failed.append(what)


def upload(client: Client, name: str, purpose: str, lines: Iterable[bytes], text_column: str | None = None) -> FileInfo:
    content = b"".join(lines)
    with show_progress(f"Uploading {name}", unit="bytes") as bar:
        fields = {} if text_column is None else {"text_column": text_column}
        return client.upload(Upload(io.BytesIO(content), name, purpose, fields, len(content)), lambda sent: bar.update(sent, len(content)))


def title(text: str) -> None:
    answer(f"\n{text}")


def show_table(rows: list[tuple[str, str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE, show_header=False)
    for name, value in rows:
        drawn.add_row(Text(name), Text(shown(value)))
    console().print(drawn)
