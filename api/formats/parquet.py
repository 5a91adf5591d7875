"""Parquet. The footer is at the end of the file and columns lie apart, so this format needs random access.

The file is held in an anonymous memory file (``memfd``: it has no name and no place on a disk) up to ``max_parquet_bytes``, and read row
group by row group, in small batches. What comes out of the columns asked for is counted before the first row is made, and bounded: by
``max_unpacked_bytes``, and by a multiple of the file's size. For that, columns of strings are read as dictionaries once, so that a value
which the file holds once is held once here, too. Where the system has no memfd, the bytes are held in the process.
"""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, repeat
from typing import BinaryIO, Final

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as types
from pyarrow.lib import Array, ArrowException, RecordBatch, Schema, array, int64
from pyarrow.lib import schema as pa_schema

from api.errors import Refused
from api.formats.cells import Cells, UnreadableCell, holds_bytes, is_scalar, stored_type
from api.formats.header import find_column, missing_column
from api.formats.limits import Columns, FileLimits
from api.formats.names import codec_of
from api.formats.plain import defective_row, fit_id, plain_row
from api.tables.arrow_cells import kept_cells, kept_type
from api.tables.noted import Noted, unique
from db.files.rows import NewRow

BATCH_ROWS: Final = 1024
BATCH_BYTES: Final = 32 << 20  # of their strings, beside one that is larger
FREE_BYTES: Final = 8 << 20  # may come out of however little
MAX_RATIO: Final = 1_000  # beyond that: texts that are often the same come to 100
COUNTED_ROWS: Final = 1 << 20  # a dictionary grows over a row group and is copied for each batch: small ones would cost its square
COUNTED_BYTES: Final = 192 << 20  # of values by their differences, at most, however often they are repeated
ROW_BYTES: Final = 12  # the least that a row takes, as a JSON line: a column of nulls is no way to a thousand million rows
FIXED_BYTES: Final = 16  # more than a value of a fixed width has, of most; of a text its place in a dictionary
_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12, "BYTE_ARRAY": 4}
MAGIC: Final = b"PAR1"
SEALED_MAGIC: Final = b"PARE"  # of a file whose footer is encrypted
MIN_BYTES: Final = 12  # both marks, and the length of the footer
MAX_ROW_GROUP_BYTES: Final = 1 << 30  # decompressed size of a column in one row group, as the footer tells: a bomb stops here


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
    file = _opened(held)
    text = _column(file, "text_column", columns.text_names, required=True)
    row_id = _column(file, "id_column", columns.id_names, required=columns.id is not None)
    label_needed = columns.label is not None or columns.label_required
    label = _column(file, "label_column", columns.label_names, required=label_needed)
    asked = ((text, "input", True), (row_id, "id", columns.id is not None), (label, "label", label_needed))
    names: list[str] = file.schema_arrow.names
    wanted = [name for name in (text, row_id, label) if name is not None] if noted is None else names
    _check_row_groups(file, wanted, nested=noted is not None)
    batch_rows = _batch_rows(held, file, wanted, limits.max_unpacked_bytes, nested=noted is not None)
    held.seek(0)
    if noted is not None:
        _note(noted, file.schema_arrow, names.index(text or ""))
    line = 0
    for batch in _batches(_opened(held), None if noted is not None else wanted, batch_rows):
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


def _opened(held: BinaryIO, dictionaries: list[str] | None = None) -> pq.ParquetFile:
    """``dictionaries``: columns of strings, read so; of an extension type (JSON) Arrow would read them plainly, however often a value is
    repeated."""
    extensions = dictionaries is None
    return pq.ParquetFile(held, pre_buffer=False, read_dictionary=dictionaries, arrow_extensions_enabled=extensions)  # type: ignore[no-untyped-call]


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


def _check_row_groups(file: pq.ParquetFile, wanted: list[str], *, nested: bool) -> None:
    chunks = _chunks(file, wanted) + (_nested_chunks(file) if nested else [])
    if any(chunk.total_uncompressed_size > MAX_ROW_GROUP_BYTES for chunk in chunks):
        message = f"A row group decompresses to more than {MAX_ROW_GROUP_BYTES >> 20} MiB. Write the file in smaller row groups."
        raise Refused("file_too_large", message, status=413, param="file")


def _chunks(file: pq.ParquetFile, wanted: Sequence[str]) -> list[pq.ColumnChunkMetaData]:
    """Of these columns, one a row group."""
    names = frozenset(wanted)
    return [chunk for chunk in _all_chunks(file) if chunk.path_in_schema in names]


def _nested_chunks(file: pq.ParquetFile) -> list[pq.ColumnChunkMetaData]:
    """Of what lies in lists and objects."""
    names = frozenset(file.schema_arrow.names)
    return [chunk for chunk in _all_chunks(file) if chunk.path_in_schema not in names]


def _all_chunks(file: pq.ParquetFile) -> Iterator[pq.ColumnChunkMetaData]:
    metadata = file.metadata
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return (group.column(place) for group in groups for place in range(metadata.num_columns))


def _batch_rows(held: BinaryIO, file: pq.ParquetFile, wanted: list[str], max_bytes: int, *, nested: bool = False) -> int:
    """How many rows to read at once, so that about BATCH_BYTES come of them at most. Counts what comes out of ``wanted`` before a row is
    made:
    lengths only, of dictionaries, so that a value that is repeated is not repeated here. Raises Refused where it is too much."""
    kinds = {name: stored_type(file.schema_arrow.field(name).type) for name in wanted}
    width = sum(kind.byte_width for kind in kinds.values() if types.is_fixed_size_binary(kind))
    strings = [name for name, kind in kinds.items() if holds_bytes(kind)]
    within = _nested_bytes(held, file, max_bytes) if nested else 0
    size = file.metadata.num_rows * (ROW_BYTES + width) + within
    rows: int = max(1, min(BATCH_ROWS, BATCH_BYTES // max(width, 1)))
    if within:
        rows = max(1, min(rows, BATCH_BYTES * file.metadata.num_rows // within))
    longest: int = 0
    max_bytes = min(max_bytes, max(FREE_BYTES, MAX_RATIO * held.seek(0, os.SEEK_END)))
    held.seek(0)
    for lengths in _counted(held, file, strings) if strings and size <= max_bytes else ():
        size += int(pc.sum(lengths).as_py() or 0)  # type: ignore[attr-defined]
        if size > max_bytes:
            break
        longest = max(longest, pc.max(lengths).as_py() or 0)  # type: ignore[attr-defined]
        while rows > 1 and _most(lengths, rows) > max(BATCH_BYTES, longest + BATCH_BYTES // 4):
            rows //= 2
    if size > max_bytes:
        held_most = f"What the file's columns hold is more than {max_bytes >> 20} MiB once it is unpacked."
        message = f"{held_most} Send the data in parts, or as JSON lines or CSV."
        raise Refused("file_too_large", message, status=413, param="file")
    return rows


def _counted(held: BinaryIO, file: pq.ParquetFile, strings: list[str]) -> Iterator[Array]:
    """The bytes of each row, many rows at a time. Arrow reads no dictionaries of values that are written by their differences: of such
    columns so few rows are read at once that they are few bytes, though each may begin with all of the one before it."""
    chunks = _chunks(file, strings)
    encodings = {encoding for chunk in chunks for encoding in chunk.encodings}
    if not any(encoding.startswith("DELTA_") for encoding in encodings):
        yield from map(_lengths, _batches(_opened(held, strings), strings, COUNTED_ROWS))
        return
    largest: int = max(chunk.total_uncompressed_size for chunk in chunks)
    repeats = not encodings <= {"DELTA_LENGTH_BYTE_ARRAY", "RLE"}
    at_once = max(1, min(BATCH_ROWS, COUNTED_BYTES // max(1, largest * len(strings)))) if repeats else BATCH_ROWS
    some: list[int] = []
    for batch in _batches(_opened(held, []), strings, at_once):
        some += _lengths(batch).to_pylist()
        if len(some) >= BATCH_ROWS or sum(some) >= BATCH_BYTES:
            yield array(some, int64())
            some = []
    yield array(some, int64())


def _nested_bytes(held: BinaryIO, file: pq.ParquetFile, max_bytes: int) -> int:
    """What comes out of lists and objects. Values of a fixed width are counted by the footer; texts, if they are not too many, are read as
    dictionaries. Raises Refused for texts that are written by their differences: of those Arrow reads none so."""
    chunks = _nested_chunks(file)
    size: int = sum(chunk.num_values * _WIDTHS.get(chunk.physical_type, FIXED_BYTES) for chunk in chunks)
    texts = sorted({chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"})
    if not texts or size > max_bytes:
        return size
    if any("DELTA_BYTE_ARRAY" in chunk.encodings for chunk in chunks):
        message = "Texts in the file's lists or objects are written by their differences (DELTA_BYTE_ARRAY): write them plainly."
        raise Refused("invalid_parquet", message, param="file")
    at_once = max(1, min(BATCH_ROWS, BATCH_BYTES * file.metadata.num_rows // size))
    held.seek(0)
    for batch in _batches(_opened(held, texts), texts, at_once):
        size += sum(_text_bytes(column) for column in batch.columns)
        if size > max_bytes:
            break
    held.seek(0)
    return size


def _text_bytes(column: Array) -> int:
    """Of all texts in an array, however deep."""
    kind = column.type
    if types.is_dictionary(kind):
        return int(pc.sum(pc.binary_length(column.dictionary).take(column.indices).cast(int64())).as_py() or 0)  # type: ignore[attr-defined]
    if types.is_map(kind):
        return _text_bytes(column.keys) + _text_bytes(column.items)
    if types.is_nested(kind) and not types.is_struct(kind):
        return _text_bytes(column.flatten())
    if types.is_struct(kind):
        return sum(_text_bytes(part) for part in column.flatten())
    return int(pc.sum(pc.binary_length(column).cast(int64())).as_py() or 0) if holds_bytes(kind) else 0  # type: ignore[attr-defined]


def _lengths(batch: RecordBatch) -> Array:
    """Bytes of each row, of all columns together, which may be dictionaries."""
    of_rows: Array | None = None
    for column in batch.columns:
        is_dictionary = types.is_dictionary(column.type)
        lengths = pc.binary_length(column.dictionary).take(column.indices) if is_dictionary else pc.binary_length(column)  # type: ignore[attr-defined]
        lengths = lengths.cast(int64()).fill_null(0)
        of_rows = lengths if of_rows is None else pc.add(of_rows, lengths)  # type: ignore[attr-defined]
    return of_rows


def _most(lengths: Array, rows: int) -> int:
    """The sum of the largest of the pieces of ``rows`` each, which ``lengths`` is cut into; a batch may begin in the middle of one and end
    in the next."""
    ends = [*range(rows - 1, len(lengths) - 1, rows), len(lengths) - 1] if len(lengths) else []
    sums = pc.cumulative_sum(lengths).take(array(ends, int64()))  # type: ignore[attr-defined]
    return max((int(end - start) for start, end in pairwise([0, *sums.to_pylist()])), default=0)


def _batches(file: pq.ParquetFile, names: list[str] | None, rows: int) -> Iterator[RecordBatch]:
    return iter(file.iter_batches(batch_size=rows, columns=names))  # type: ignore[no-untyped-call]
