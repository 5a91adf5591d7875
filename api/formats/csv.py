"""CSV as a stream: a header line, then records; quotes, line breaks inside quotes, UTF-8 with or without a byte order mark.

A record that cannot be read (a stray quote, more cells than the header, bytes that are not UTF-8) becomes one failed row. The lines that a
stray quote swallowed are read again, so that its neighbours are not lost; and each alone, once as much has been read twice as has come. The
record's id is kept where it stands before the fault.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Self

import msgspec

from api.errors import Refused
from api.formats.dialect import Dialect, Line, sniff
from api.formats.header import find_column
from api.formats.limits import Columns, FileLimits
from api.formats.lines import LongLine, old_line_ends, split_lines, text_chunks
from api.formats.plain import defective_row, fit_id, plain_row
from api.tables.noted import Noted
from db.files.rows import NewRow

DELIMITERS: Final = {",": ",", ";": ";", "\t": "\t", "\\t": "\t", "tab": "\t", "|": "|"}
AGAIN_BYTES: Final = 1 << 20  # may be read again in any case, however little has come

# By what the csv module says; its messages are constants, and nothing of the record is in them.
_FAULTS: Final = {"field larger": "line_too_long", "new-line character": "stray_carriage_return"}


class _BadLine(Exception):
    """A line that cannot be part of a record. Holds a failure code and nothing else."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Feed:
    """Lines for ``csv.reader``, decoded; remembers those of the record in hand, for its number, its size, and to read them again."""

    def __init__(self, lines: Iterator[Line], max_record_bytes: int) -> None:
        self._lines = lines
        self._max_record_bytes = max_record_bytes
        self._again: deque[Line] = deque()
        self._again_bytes_left = AGAIN_BYTES
        self._alone = 0  # lines at the head of those to read again that are a record each, or none
        self._taken: list[Line] = []
        self._taken_bytes = 0
        self._ends = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        if self._ends:
            raise _BadLine("stray_quote")
        if self._again:
            number, line = self._again.popleft()
            if self._alone:
                self._alone -= 1
                self._ends = True
        else:
            number, line = next(self._lines)
            self._again_bytes_left += len(line) + 1
        self._taken.append((number, line))
        self._taken_bytes += len(line)
        if isinstance(line, LongLine) or self._taken_bytes > self._max_record_bytes:
            raise _BadLine("line_too_long")
        try:
            return line.decode() + "\n"
        except UnicodeDecodeError:
            raise _BadLine("invalid_utf8") from None

    @property
    def record_line(self) -> int:
        """Where the record in hand began; 0 before the first line."""
        return self._taken[0][0] if self._taken else 0

    @property
    def first_line(self) -> bytes:
        """Of the record in hand, as it came."""
        return self._taken[0][1] if self._taken else b""

    def next_record(self) -> None:
        self._taken.clear()
        self._taken_bytes = 0
        self._ends = False

    def read_again(self) -> None:
        """After a bad record: all its lines but the first go back. Each may begin a record that swallows all others once more, so that what
        is read again is bounded: beyond that, every line stands for itself."""
        lines = self._taken[1:]
        if not lines:
            return
        self._again_bytes_left -= sum(len(line) + 1 for _, line in lines)
        if self._again_bytes_left < 0:
            self._alone = len(lines)
        self._again.extendleft(reversed(lines))


class _Places(NamedTuple):
    """Positions of the columns, and how many there are."""

    text: int
    id: int | None
    label: int | None
    cells: int


def csv_rows(
    chunks: Iterable[bytes], columns: Columns, limits: FileLimits, delimiter: str | None = None, noted: Noted | None = None
) -> Iterator[NewRow]:
    """``delimiter`` None: the one of a comma, a semicolon, a tab and a bar with which the header has the wanted columns.
    ``noted``: all columns are kept."""
    csv.field_size_limit(limits.max_line_bytes)  # of the process; the default of 131,072 characters is less than a long document
    lines, dialect = sniff(split_lines(text_chunks(chunks, limits), limits.max_line_bytes), columns, delimiter)
    feed = _Feed(lines, limits.max_line_bytes)
    reader = csv.reader(feed, **dialect.as_csv, skipinitialspace=dialect.spaced, strict=True)
    places: _Places | None = None
    while True:
        feed.next_record()
        code = "stray_quote"
        record: list[str] | None = None
        try:
            record = next(reader)
        except StopIteration:
            return
        except _BadLine as bad:
            code = bad.code
        except csv.Error as error:
            code = next((code for begin, code in _FAULTS.items() if str(error).startswith(begin)), "stray_quote")
        if places is None:
            if record is None:
                raise _unreadable_header(feed.first_line)
            if record:
                places = _find_columns(record, columns, dialect.delimiter)
                if noted is not None:
                    noted.cells(record, places.text)
        elif record is None:
            yield defective_row(feed.record_line, code, _legible_id(feed.first_line, places, dialect))
            feed.read_again()
        elif not record:
            continue  # a blank line
        elif len(record) <= places.text or (len(record) > places.cells and any(record[places.cells :])):
            custom_id = _cell(record, places.id) if _is_before_text(places) else None
            kept = None if noted is None else msgspec.json.encode(record)
            yield defective_row(feed.record_line, f"wrong_cell_count::{len(record)}|{places.cells}", fit_id(custom_id), columns=kept)
        else:
            yield plain_row(
                feed.record_line,
                record[places.text],
                _cell(record, places.id),
                _cell(record, places.label),
                label_required=columns.label_required,
                cells=None if noted is None else record,
                text_place=places.text,
            )


def _find_columns(header: list[str], columns: Columns, delimiter: str) -> _Places:
    taken = "a tab" if delimiter == "\t" else delimiter
    hint = f", or what separates the cells in the form field delimiter (“{taken}” was taken)"
    text = find_column(header, "text_column", columns.text_names, required=True, hint=hint)
    row_id = find_column(header, "id_column", columns.id_names, required=columns.id is not None, hint=hint)
    label_required = columns.label is not None or columns.label_required
    label = find_column(header, "label_column", columns.label_names, required=label_required, hint=hint)
    return _Places(text or 0, row_id, label, len(header))


def _unreadable_header(line: bytes) -> Refused:
    message = old_line_ends(line, "csv") or "The first line of the CSV file is not a readable header."
    if not _is_utf8(line):
        message = (
            "The first line of the CSV file is not UTF-8: save it as “CSV UTF-8”, or `iconv -f WINDOWS-1252 -t UTF-8 FILE > FILE.csv`."
        )
    return Refused("invalid_header", message, param="file")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _legible_id(line: bytes, places: _Places, dialect: Dialect) -> str | None:
    """Of a record that cannot be read, from its first line: the id, where all up to it is in order."""
    if places.id is None or not _is_before_text(places):
        return None
    cells = line.split(dialect.delimiter.encode(), places.id + 1)
    if len(cells) < places.id + 2:
        return None
    quote = dialect.quote.encode()
    for at, cell in enumerate(cells[:-1]):
        cell = cell.strip() if dialect.spaced else cell
        cells[at] = cell[1:-1] if len(cell) > 1 and cell[:1] == cell[-1:] == quote else cell
    if any(quote in cell for cell in cells[:-1]):
        return None
    try:
        return fit_id(cells[places.id].decode())
    except UnicodeDecodeError:
        return None


def _is_before_text(places: _Places) -> bool:
    """A delimiter in a text that nobody quoted puts what stands behind it out of step."""
    return places.id is not None and places.id < places.text


def _cell(record: list[str], place: int | None) -> str | None:
    return record[place] if place is not None and place < len(record) else None
