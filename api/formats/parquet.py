"""Parquet. The footer is at the end of the file and columns lie apart, so this format needs random access.

The file is held in an anonymous memory file (``memfd``: it has no name and no place on a disk) up to ``max_parquet_bytes``, and read row
group by row group, in small batches. Memory is thus the compressed file plus one row group of the two or three columns asked for. Where the
system has no memfd, the bytes are held in the process.
"""

import io
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

import pyarrow.parquet as pq
import pyarrow.types as types
from pyarrow.lib import Array, ArrowException, Schema

from api.errors import Refused
from api.formats.header import missing_column
from api.formats.limits import Columns, FileLimits
from api.formats.plain import defective_row, plain_row
from db.files.rows import NewRow

BATCH_ROWS: Final = 1024
MAX_ROW_GROUP_BYTES: Final = 1 << 30  # decompressed size of a column in one row group, as the footer tells: a bomb stops here


def parquet_rows(chunks: Iterable[bytes], columns: Columns, limits: FileLimits) -> Iterator[NewRow]:
    """One row a record; ``line`` is the record's number, from 1."""
    with _held(chunks, limits.max_parquet_bytes) as held:
        try:
            yield from _rows(held, columns, limits)
        except (ArrowException, OSError):  # their messages may quote the file
            raise Refused("invalid_parquet", "The file is not a readable Parquet file.", param="file") from None


def _held(chunks: Iterable[bytes], max_bytes: int) -> BinaryIO:
    held: BinaryIO = os.fdopen(os.memfd_create("textmill-parquet"), "w+b") if hasattr(os, "memfd_create") else io.BytesIO()
    size = 0
    try:
        for chunk in chunks:
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


def _rows(held: BinaryIO, columns: Columns, limits: FileLimits) -> Iterator[NewRow]:
    file = pq.ParquetFile(held, pre_buffer=False)  # type: ignore[no-untyped-call]
    schema = file.schema_arrow
    text = _column(schema, "text_column", columns.text_names, required=True)
    row_id = _column(schema, "id_column", columns.id_names, required=columns.id is not None)
    label = _column(schema, "label_column", columns.label_names, required=columns.label is not None or columns.label_required)
    wanted = [name for name in (text, row_id, label) if name is not None]
    _check_row_groups(file, wanted)
    line = 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):  # type: ignore[no-untyped-call]
        texts = batch.column(text)
        ids = batch.column(row_id) if row_id is not None else None
        labels = batch.column(label) if label is not None else None
        for place in range(batch.num_rows):
            line += 1
            try:
                value, custom_id, name = (_cell(column, place) for column in (texts, ids, labels))
            except UnicodeDecodeError:
                yield defective_row(line, "invalid_utf8")
                continue
            if value is not None and len(value) > limits.max_line_bytes:
                yield defective_row(line, "line_too_long", custom_id)
            else:
                yield plain_row(line, value, custom_id, name, label_required=columns.label_required)


def _column(schema: Schema, field: str, names: tuple[str, ...], *, required: bool) -> str | None:
    name = next((name for name in names if name in schema.names), None)
    if name is None:
        if required:
            raise missing_column(field, names, schema.names)
        return None
    kind = schema.field(name).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not is_text and (field == "text_column" or not types.is_integer(kind)):
        expected = "strings" if field == "text_column" else "strings or whole numbers"
        raise Refused("wrong_column_type", f"The column that {field} names must hold {expected}.", param=field)
    return name


def _check_row_groups(file: pq.ParquetFile, wanted: list[str]) -> None:
    metadata = file.metadata
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(place)
            if chunk.path_in_schema in wanted and chunk.total_uncompressed_size > MAX_ROW_GROUP_BYTES:
                message = f"A row group decompresses to more than {MAX_ROW_GROUP_BYTES >> 20} MiB. Write the file in smaller row groups."
                raise Refused("file_too_large", message, status=413, param="file")


def _cell(column: Array | None, place: int) -> str | None:
    value = None if column is None else column[place].as_py()
    return None if value is None else str(value)
