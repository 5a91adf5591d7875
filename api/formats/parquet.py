"""Parquet. The footer is at the end of the file and columns lie apart, so this format needs random access.

The file is held in an anonymous memory file (``memfd``: it has no name and no place on a disk) up to ``max_parquet_bytes``, and read row
group by row group, in small batches. What comes out of the columns asked for is counted before the first row is made, and bounded: by
``max_unpacked_bytes``, and by a multiple of the file's size. For that, columns of strings are read as dictionaries once, so that a value
which the file holds once is held once here, too. Where the system has no memfd, the bytes are held in the process.
"""

import io
import os
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import BinaryIO, Final

import msgspec
import pyarrow.parquet as pq
import pyarrow.types as types
from pyarrow.lib import ArrowException, RecordBatch, Schema
from pyarrow.lib import schema as pa_schema

from api.errors import Refused
from api.formats.cells import Cells, UnreadableCell, holds_bytes, is_scalar, stored_type
from api.formats.header import find_column, missing_column
from api.formats.limits import Columns, FileLimits
from api.formats.names import codec_of
from api.formats.plain import defective_row, fit_id, plain_row
from api.formats.unpacked import batch_rows, batches, columns_of, open_parquet
from api.tables.noted import Noted
from db.files.rows import NewRow
from db.files.table import unique
from workers.content.arrow_cells import kept_cells, kept_type

MAGIC: Final = b"PAR1"
SEALED_MAGIC: Final = b"PARE"  # of a file whose footer is encrypted
MIN_BYTES: Final = 12  # both marks, and the length of the footer


def parquet_rows(chunks: Iterable[bytes], columns: Columns, limits: FileLimits, noted: Noted | None = None) -> Iterator[NewRow]:
    """One row a record; ``line`` is the record's number, from 1. ``noted``: all columns are kept."""
    with _held(chunks, limits.max_parquet_bytes) as held:
        _check_ends(held)
        try:
            yield from _rows(held, columns, limits, noted)
        except (ArrowException, OSError):  # their messages may quote the file
            raise Refused(
                "invalid_parquet", "The Parquet file is damaged, or written in a way that is not read here.", param="file"
            ) from None


def _check_ends(held: BinaryIO) -> None:
    """What a file begins and ends with tells what it is, and whether it is whole."""
    size = held.seek(0, os.SEEK_END)
    held.seek(0)
    begins = held.read(len(MAGIC))
    held.seek(max(0, size - len(MAGIC)))
    ends = held.read()
    held.seek(0)
    if SEALED_MAGIC in (begins, ends):
        message = "The Parquet file is encrypted. Write it without encryption: it is sealed here before it is stored."
    elif begins != MAGIC:
        message = (
            "The file is no Parquet file: say in the form field format what it is. Feather, ORC and Avro are to be written as Parquet."
        )
    elif ends != MAGIC or size < MIN_BYTES:
        message = "The Parquet file is cut: its end is missing. Send it again."
    else:
        return
    raise Refused("invalid_parquet", message, param="file")


def _held(chunks: Iterable[bytes], max_bytes: int) -> BinaryIO:
    held: BinaryIO = os.fdopen(os.memfd_create("textmill-parquet"), "w+b") if hasattr(os, "memfd_create") else io.BytesIO()
    size = 0
    try:
        for chunk in chunks:
            if not size and codec_of(chunk) is not None:
                message = "The file is compressed around its own compression. Send the Parquet file without gzip or zstd around it."
                raise Refused("compressed_file", message, param="file")
            size += len(chunk)
            if size > max_bytes:
                message = f"A Parquet file may have {max_bytes >> 20} MiB. Send the data in parts, or as JSON lines or CSV."
                raise Refused("file_too_large", message, status=413, param="file")
            held.write(chunk)
        held.seek(0)
    except BaseException:
        held.close()
        raise
    return held


def _rows(held: BinaryIO, columns: Columns, limits: FileLimits, noted: Noted | None) -> Iterator[NewRow]:
    file = open_parquet(held)
    text = _column(file, "text_column", columns.text_names, required=True)
    row_id = _column(file, "id_column", columns.id_names, required=columns.id is not None)
    label_needed = columns.label is not None or columns.label_required
    label = _column(file, "label_column", columns.label_names, required=label_needed)
    asked = ((text, "input", True), (row_id, "id", columns.id is not None), (label, "label", label_needed))
    names: list[str] = file.schema_arrow.names
    columns_here = columns_of(file)
    wanted = columns_here if noted is not None else [columns_here[names.index(name)] for name in {text, row_id, label} if name is not None]
    rows = batch_rows(held, file, wanted, limits.max_unpacked_bytes)
    if noted is not None:
        _note(noted, file.schema_arrow, names.index(text or ""))
    line = 0
    for batch in batches(open_parquet(held), wanted, rows):
        there: list[str] = batch.schema.names
        cells = [
            Cells(batch.column(there.index(name)), field=field, needed=needed) if name is not None else None
            for name, field, needed in asked
        ]
        kept = repeat(None, batch.num_rows) if noted is None else _kept_rows(batch, there.index(text or ""))
        for place, of_row in enumerate(kept):
            line += 1
            yield _row(line, place, cells, columns, limits, of_row, there.index(text or ""))


def _note(noted: Noted, schema: Schema, text: int) -> None:
    names = unique(schema.names)
    fields = [  # that may be null: of a row of which nothing could be kept all are
        field.with_name(name).with_type(kept_type(field.type)).with_nullable(True) for name, field in zip(names, schema, strict=True)
    ]
    noted.cells(names, text, bytes(pa_schema(fields, schema.metadata).serialize()))


def _kept_rows(batch: RecordBatch, text: int) -> Iterator[list[object] | None]:
    """Of each row the cells of all its columns, but for its text."""
    nothing = [None] * batch.num_rows
    kept = [nothing if place == text else kept_cells(column) for place, column in enumerate(batch.columns)]
    return map(list, zip(*kept, strict=True))


def _row(
    line: int, place: int, cells: list[Cells | None], columns: Columns, limits: FileLimits, kept: list[object] | None, text_place: int
) -> NewRow:
    text, row_id, label = cells
    custom_id: str | None = None
    try:
        custom_id = row_id.text(place) if row_id is not None else None  # first: a text that cannot be read does not cost it
        name = label.text(place) if label is not None else None
        value = text.text(place) if text is not None else None
    except UnreadableCell as unreadable:
        row = defective_row(line, unreadable.code, fit_id(custom_id), columns=_written(kept))
    else:
        if value is not None and len(value.encode()) > limits.max_line_bytes:
            row = defective_row(line, "line_too_long", fit_id(custom_id), columns=_written(kept))
        else:
            row = plain_row(line, value, custom_id, name, label_required=columns.label_required, cells=kept, text_place=text_place)
    if row.columns is not None and len(row.columns) > limits.max_line_bytes:
        return defective_row(line, row.defect or "line_too_long", fit_id(custom_id))
    return row


def _written(kept: list[object] | None) -> bytes | None:
    return None if kept is None else msgspec.json.encode(kept)


def _column(file: pq.ParquetFile, field: str, names: tuple[str, ...], *, required: bool) -> str | None:
    """The first column of ``names`` that can be read as text. One that nobody asked for is passed over where it cannot."""
    schema = file.schema_arrow
    places = [find_column(schema.names, field, (name,), required=False) for name in names]
    there: list[str] = [schema.names[place] for place in places if place is not None]
    if not there and required:
        raise missing_column(field, names, schema.names)
    for name in there:
        kind = stored_type(schema.field(name).type)
        if holds_bytes(kind) or types.is_null(kind) or types.is_fixed_size_binary(kind) or (field != "text_column" and is_scalar(kind)):
            return name
    if there and required:
        expected = "strings" if field == "text_column" else "strings, numbers, booleans, UUIDs or dates"
        message = f"The column “{there[0]}” must hold {expected}, and holds {schema.field(there[0]).type}"[:400]
        raise Refused("wrong_column_type", f"{message}. Name another one in the form field {field}.", param=field)
    return None
