"""Plain lines: each is a text. They have no columns, so neither ids nor labels."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import msgspec

from api.errors import Refused
from api.formats.limits import FileLimits
from api.formats.lines import split_lines, text_chunks
from api.formats.plain import defective_row, plain_row
from db.files.rows import NewRow


def text_rows(chunks: Iterable[bytes], limits: FileLimits, *, told_by_name: bool = False) -> Iterator[NewRow]:
    """One row a line; blank lines are skipped and still counted. ``told_by_name``: nobody said that these are plain lines, so that JSON is
    refused: whoever names JSON lines so would have their braces labelled."""
    lines = split_lines(text_chunks(chunks, limits), limits.max_line_bytes)
    begun = list(islice(lines, 2))
    if len(begun) == 1 and b"\r" in (begun[0][1] or b"").rstrip(b"\r"):
        message = "The file's lines end in a carriage return alone: `tr '\\r' '\\n' < FILE > FILE.txt` makes lines of it that can be read."
        raise Refused("wrong_line_ends", message, param="file")
    if told_by_name and begun and _is_object(begun[0][1] or b""):
        message = "The file's lines are JSON objects: say so in the form field format: `jsonl`, or `txt` to take each line as a text."
        raise Refused("invalid_format", message, param="format")
    for number, line in chain(begun, lines):
        if line is None:
            yield defective_row(number, "line_too_long")
        elif line.strip():
            yield _row(number, line)


def _is_object(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _row(number: int, line: bytes) -> NewRow:
    try:
        text = line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        return defective_row(number, "invalid_utf8", raw=line)
    return plain_row(number, text, None, None, label_required=False)
