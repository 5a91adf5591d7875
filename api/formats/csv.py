"""CSV as a stream: a header line, then records; quotes, line breaks inside quotes, UTF-8 with or without a byte order mark.

A record that cannot be read (a stray quote, more fields than the header, bytes that are not UTF-8) becomes one failed row. The lines that a
stray quote swallowed are read again, so that its neighbours are not lost.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Self

from api.errors import Refused
from api.formats.limits import Columns, FileLimits
from api.formats.lines import split_lines, text_chunks
from api.formats.plain import defective_row, plain_row
from db.files.rows import NewRow

DELIMITERS: Final = {",": ",", ";": ";", "\t": "\t", "tab": "\t", "|": "|"}


class _BadLine(Exception):
    """A line that cannot be part of a record. Holds a failure code and nothing else."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Feed:
    """Lines for ``csv.reader``, decoded; remembers those of the record in hand, for its number, its size, and to read them again."""

    def __init__(self, lines: Iterator[tuple[int, bytes | None]], max_record_bytes: int) -> None:
        self._lines = lines
        self._max_record_bytes = max_record_bytes
        self._again: deque[tuple[int, bytes | None]] = deque()
        self._taken: list[tuple[int, bytes | None]] = []
        self._taken_bytes = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        number, line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append((number, line))
        self._taken_bytes += len(line or b"")
        if line is None or self._taken_bytes > self._max_record_bytes:
            raise _BadLine("line_too_long")
        try:
            return line.decode() + "\n"
        except UnicodeDecodeError:
            raise _BadLine("invalid_utf8") from None

    @property
    def record_line(self) -> int:
        """Where the record in hand began; 0 before the first line."""
        return self._taken[0][0] if self._taken else 0

    def next_record(self) -> None:
        self._taken.clear()
        self._taken_bytes = 0

    def read_again(self) -> None:
        """After a bad record: all its lines but the first go back."""
        self._again.extendleft(reversed(self._taken[1:]))


def csv_rows(chunks: Iterable[bytes], columns: Columns, limits: FileLimits, delimiter: str = ",") -> Iterator[NewRow]:
    csv.field_size_limit(limits.max_line_bytes)  # of the process; the default of 131,072 characters is less than a long document
    feed = _Feed(split_lines(text_chunks(chunks), limits.max_line_bytes), limits.max_line_bytes)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    places = _Places(0, None, None)
    while True:
        feed.next_record()
        code = "invalid_record"
        record: list[str] | None = None
        try:
            record = next(reader)
        except StopIteration:
            return
        except _BadLine as bad:
            code = bad.code
        except csv.Error as error:
            # The message is a constant of the csv module; nothing of the record is in it.
            code = "line_too_long" if str(error).startswith("field larger") else "invalid_record"
        if header is None:
            if record is None:
                raise Refused("invalid_header", "The first line of the CSV file is not a readable header.", param="file")
            if record:
                header = record
                places = _find_columns(header, columns)
        elif record is None:
            yield defective_row(feed.record_line, code)
            feed.read_again()
        elif not record:
            continue  # a blank line
        elif len(record) > len(header) or len(record) <= places.text:
            yield defective_row(feed.record_line, "invalid_record")
        else:
            yield plain_row(
                feed.record_line,
                record[places.text],
                _cell(record, places.id),
                _cell(record, places.label),
                label_required=columns.label_required,
            )


class _Places:
    """Positions of the columns."""

    __slots__ = ("id", "label", "text")

    def __init__(self, text: int, id: int | None, label: int | None) -> None:
        self.text = text
        self.id = id
        self.label = label


def _find_columns(header: list[str], columns: Columns) -> _Places:
    text = _place(header, columns.text_names)
    if text is None:
        raise missing_column("text_column", columns.text_names)
    row_id, label = _place(header, columns.id_names), _place(header, columns.label_names)
    if row_id is None and columns.id is not None:
        raise missing_column("id_column", columns.id_names)
    if label is None and (columns.label is not None or columns.label_required):
        raise missing_column("label_column", columns.label_names)
    return _Places(text, row_id, label)


def missing_column(field: str, names: tuple[str, ...]) -> Refused:
    """Names what was looked for, which the caller sent; never what the file holds."""
    looked_for = " or ".join(f"“{name}”" for name in names)
    code = "missing_text_column" if field == "text_column" else "missing_column"
    return Refused(code, f"The file has no column {looked_for}. Name the right one in the form field {field}.", param=field)


def _place(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _cell(record: list[str], place: int | None) -> str | None:
    return record[place] if place is not None and place < len(record) else None
