"""What a person sees. Text that came from data is shown with its control characters spelled out, so that a document cannot move the
cursor, set the window title or turn a line around; answers go to stdout, everything said along the way to stderr."""

import os
import re
import sys
import textwrap
import time
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# C0 and C1 controls with DEL, line and paragraph separators, the marks that change the direction of text, lone surrogates.
UNSHOWABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
PIPE_COLUMNS: Final = 120  # of what is read later, where no terminal can be asked for its width
UNKNOWN_COLUMNS: Final = 80  # of a terminal that does not tell
TO_COPY: Final = "  textmill "  # a line that begins so is a command that is copied: it stays whole


def shown(value: object) -> str:
    """One line, safe to print."""
    return UNSHOWABLE.sub(_spelled, str(value))


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code in (0x09, 0x0A, 0x0D):
        return {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}[code]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shown_lines(text: str) -> str:
    """Like shown, but a line feed or a tab stays what it is."""
    return "\n".join("\t".join(map(shown, line.split("\t"))) for line in text.replace("\r\n", "\n").split("\n"))


def shortened(value: object, width: int) -> str:
    text = " ".join(str(value).split())
    return shown(text if len(text) <= width else text[: width - 1] + "…")


def say(*lines: str) -> None:
    """To a person, on stderr. The caller passes data through shown()."""
    for line in lines:
        print(broken(line, sys.stderr), file=sys.stderr, flush=True)


def answer(line: str) -> None:
    print(line, flush=True)


def broken(line: str, stream: TextIO, *, indent: int | None = None) -> str:
    """On a terminal between words, so that it cuts none in two; what goes elsewhere stays as it is. ``indent``: of the lines after the
    first; otherwise as far in as that."""
    if not stream.isatty() or line.startswith(TO_COPY):
        return line
    further = " " * (len(line) - len(line.lstrip()) if indent is None else indent)
    width = max(columns_of(stream), len(further) + 20)
    return textwrap.fill(
        line, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False, expand_tabs=False, replace_whitespace=False
    )


def columns_of(stream: TextIO) -> int:
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns) or UNKNOWN_COLUMNS
    except (ValueError, OSError):
        return UNKNOWN_COLUMNS


def answer_json(value: object) -> None:
    """One JSON document on stdout. On a terminal the few controls that JSON leaves as they are get escaped too."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    answer(shown_lines(text) if sys.stdout.isatty() else text)


def console(*, stderr: bool = False) -> "Console":
    """Markup, emoji codes and highlighting off: they would read data as commands."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=None if stream.isatty() else PIPE_COLUMNS)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, stderr: bool = False, cut: str | None = None, folds: Collection[str] = ()
) -> None:
    """A table on stdout, or on stderr: drawn on a terminal, tab-separated elsewhere, so that cut and awk work. ``cut``: the column that
    gives way where the terminal is too narrow; the others keep their line then. ``folds``: those that take several lines there."""
    if not (sys.stderr if stderr else sys.stdout).isatty():
        write = say if stderr else answer
        write("\t".join(columns))
        for row in rows:
            write("\t".join(shown(value) for value in row))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    gives_way = [name == cut or name in folds or not (cut or folds) for name in columns]
    for name, gives in zip(columns, gives_way, strict=True):
        drawn.add_column(Text(name, no_wrap=True, overflow="ellipsis"), overflow="fold", no_wrap=not gives)
    for row in rows:
        cells = [Text(shown(value), no_wrap=cut is not None, overflow="ellipsis" if cut is not None else "fold") for value in row]
        drawn.add_row(*cells)
    console(stderr=stderr).print(drawn)


DATE: Final = len("2026-11-27")  # of :func:`when`


def age(unix_seconds: float, now_seconds: float | None = None) -> str:
    """How long ago, in its greatest unit: 40 s, 5 min, 3 h, 12 d."""
    seconds = max(0.0, (time.time() if now_seconds is None else now_seconds) - unix_seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def when(unix_seconds: object) -> str:
    """Local time, or nothing."""
    if not isinstance(unix_seconds, int | float) or isinstance(unix_seconds, bool):
        return shown(unix_seconds) if unix_seconds else ""
    from datetime import datetime

    return datetime.fromtimestamp(unix_seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
