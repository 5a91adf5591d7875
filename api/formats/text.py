"""Plain lines: each is a text. They have no columns, so neither ids nor labels."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import msgspec

from api.errors import Refused
from api.formats.dialect import looks_like_csv
from api.formats.json_text import is_object
from api.formats.limits import FileLimits
from api.formats.lines import LongLine, old_line_ends, split_lines, text_chunks
from api.formats.plain import defective_row, plain_row
from api.tables.noted import Noted
from db.files.rows import NewRow


def text_rows(chunks: Iterable[bytes], limits: FileLimits, *, told_by_name: bool = False, noted: Noted | None = None) -> Iterator[NewRow]:
    """One row a line; blank lines are skipped and still counted. ``told_by_name``: nobody said that these are plain lines, so that JSON and
    CSV are refused: whoever names them so would have their braces and their header labelled."""
    if noted is not None:
        noted.cells(["text"], 0)
    lines = split_lines(text_chunks(chunks, limits), limits.max_line_bytes)
    begun = list(islice(lines, 2))
    if len(begun) == 1 and (message := old_line_ends(begun[0][1], "txt")) is not None:
        raise Refused("wrong_line_ends", message, param="file")
    if told_by_name and begun and is_object(begun[0][1]):
        raise _other_format("JSON objects", "jsonl")
    if told_by_name and len(begun) > 1 and looks_like_csv(begun[0][1], begun[1][1]):
        raise _other_format("records of a CSV", "csv")
    for number, line in chain(begun, lines):
        if isinstance(line, LongLine):
            yield defective_row(number, "line_too_long")
        elif line.strip():
            yield _row(number, line, kept=noted is not None)


def _other_format(what: str, told: str) -> Refused:
    message = f"The file's lines are {what}: set the form field format to `{told}`, or to `txt` to take each line as a text."
    return Refused("invalid_format", message, param="format")


def _row(number: int, line: bytes, *, kept: bool) -> NewRow:
    try:
        text = line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        columns = msgspec.json.encode([line.decode("utf-8", "replace")]) if kept else None
        return defective_row(number, "invalid_utf8", raw=line, columns=columns)
    return plain_row(number, text, None, None, label_required=False)
