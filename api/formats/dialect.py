"""How a CSV file is written, seen by its beginning: where the header is, what separates the cells, and how they are quoted.

By the first lines alone, which are read ahead: a file is still read as it comes. Quotes are double, and doubled inside a cell (RFC 4180),
unless more of the records come out whole with a backslash before them, or with single ones.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain, product
from typing import Any, Final, NamedTuple

from api.errors import Refused
from api.formats.header import find_column
from api.formats.limits import Columns
from api.formats.lines import LongLine

SNIFFED: Final = (",", ";", "\t", "|")
SAMPLE_BYTES: Final = 64 << 10
SAMPLE_LINES: Final = 200
TITLE_LINES: Final = 10  # that may stand before the header: what a report calls itself, who made it and when

_NO_HEADER: Final = b' \t\r,;|"'  # of nothing else is a line before the header
_SEP_LINE: Final = re.compile(rb'"?sep=([,;\t|])"?[\s,;|]*', re.IGNORECASE)  # tells Excel the delimiter

Line = tuple[int, bytes]


class Dialect(NamedTuple):
    """``spaced``: spaces after a delimiter are not part of a cell. ``escape``: stands before a quote that is part of one."""

    delimiter: str
    spaced: bool
    quote: str = '"'
    escape: str | None = None

    @property
    def as_csv(self) -> dict[str, Any]:
        """For ``csv.reader``; and for ``csv.writer``, which otherwise leaves a cell with escaped quotes without any around it."""
        quoting = csv.QUOTE_MINIMAL if self.escape is None else csv.QUOTE_ALL
        how = {"quotechar": self.quote, "escapechar": self.escape, "doublequote": self.escape is None, "quoting": quoting}
        return {"delimiter": self.delimiter, **how}


_QUOTED: Final = tuple(product(('"', "'"), (None, "\\")))  # the usual way first


def sniff(lines: Iterator[Line], columns: Columns, delimiter: str | None, *, titles: int = TITLE_LINES) -> tuple[Iterator[Line], Dialect]:
    """The lines from the header on, and how they are written. The header is the first line that is more than empty cells and Excel's
    ``sep=;``; where the text's column is in none of its cells, but in those of one at most ``titles`` lines after it that has more of them,
    that one. Its delimiter: the first with which that column is there, or else the one that makes most cells. Raises Refused of JSON."""
    seen: list[Line] = []
    size = 0
    for number, line in lines:
        if not seen and (told := _SEP_LINE.fullmatch(line)) is not None:
            delimiter = delimiter or told[1].decode()
        elif seen or line.strip(_NO_HEADER) or line.count(b'"') % 2:  # an open quote: a name with a line break
            seen.append((number, line))
            size += len(line)
            if size > SAMPLE_BYTES or len(seen) > SAMPLE_LINES or isinstance(line, LongLine):
                break
    tried = SNIFFED if delimiter is None else (delimiter,)
    header, chosen = _header(seen[: 1 + titles], columns, tried)
    seen = seen[header:]
    first = _text(seen[0][1]) if seen else ""
    cells = _split_cells(first, chosen)
    if first.startswith(("{", "[")) and not _has_text(cells, columns):
        raise Refused("invalid_format", "The file begins as JSON does: set the form field format to `jsonl`.", param="format")
    spaced = any(cell.startswith(" ") for cell in cells[1:])
    return chain(seen, lines), _quoted(seen, [Dialect(chosen, spaced, *quoted) for quoted in _QUOTED])


def looks_like_csv(first: bytes, second: bytes) -> bool:
    """Whether two lines are a header, with a column that is usually the text, and a record."""
    tried = ((_split_cells(_text(first), known), known.encode()) for known in SNIFFED)
    return any(len(cells) > 1 and known in second and _has_text(cells, Columns()) for cells, known in tried)


def _split_cells(header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=delimiter, strict=True), [])
    except csv.Error:  # a header with a line break in it
        return header.split(delimiter)


def _header(seen: Sequence[Line], columns: Columns, tried: Sequence[str]) -> tuple[int, str]:
    """Its place, and the delimiter."""
    found = [{known: _split_cells(_text(line), known) for known in tried} for _, line in seen] or [{tried[0]: []}]
    best = [max(cells, key=lambda known: (_has_text(cells[known], columns), len(cells[known]))) for cells in found]  # the first of equals
    first = found[0][best[0]]
    if not _has_text(first, columns) and not (seen and seen[0][1].count(b'"') % 2):
        widest = len(first)
        for at, (cells, known) in enumerate(zip(found, best, strict=True)):
            names = [name.strip() for name in cells[known]]
            if len(names) > widest and _has_text(names, columns) and all(names) and len(set(names)) == len(names):
                return at, known
            widest = max(widest, len(names))
    return 0, best[0]


def _quoted(seen: Sequence[Line], dialects: Sequence[Dialect]) -> Dialect:
    """The first of those with which most of the records come out whole."""
    if not any(quote in line for _, line in seen[1:] for quote in (b"'", b'\\"')):
        return dialects[0]
    texts = [_text(line) + "\n" for _, line in seen if not isinstance(line, LongLine)]
    return max(dialects, key=lambda dialect: _whole(texts, dialect))


def _whole(texts: Sequence[str], dialect: Dialect) -> int:
    """Lines whose records have as many cells as the header, less those whose records have not. What is at the end may go on behind it."""
    lines = iter(texts)
    reader = csv.reader(lines, **dialect.as_csv, skipinitialspace=dialect.spaced, strict=True)
    width, whole, before = 0, 0, 0
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return whole
        except csv.Error:
            record = None
        took, before = reader.line_num - before, reader.line_num
        if not width:
            if record is None:
                return -len(texts)
            width = len(record)
        elif record is None or (record and (len(record) < width or any(record[width:]))):
            whole -= took
        else:
            whole += took


def _has_text(header: Sequence[str], columns: Columns) -> bool:
    try:
        return find_column(header, "text_column", columns.text_names, required=False) is not None
    except Refused:  # there twice: told where the header is read
        return True


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
