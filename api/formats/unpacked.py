"""What comes out of a Parquet file's columns, counted before the first row is made: a value that the file holds once may stand in it a
million times, and a list of a few bytes may hold millions of items.

Numbers are counted by the footer. Texts, and what is nested, are read once, a column at a time, with texts as dictionaries, so that a
value which the file holds once is held once here, too. What is counted bounds the file, the largest row, and how many rows are read at
once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as types
from pyarrow.lib import Array, BaseExtensionType, DataType, array, concat_arrays, int64, repeat

from api.errors import Refused
from api.formats.cells import holds_bytes, stored_type
from workers.content.arrow_cells import as_lists, is_list, list_lengths

BATCH_ROWS: Final = 1024
BATCH_BYTES: Final = 32 << 20  # of rows that are read at once, beside one that is larger
FREE_BYTES: Final = 8 << 20  # may come out of however little
MAX_RATIO: Final = 1_000  # beyond that: texts that are often the same come to 100
MAX_COLUMNS: Final = 5_000
MAX_DEPTH: Final = 100  # of lists and objects within each other
MAX_ROW_GROUP_BYTES: Final = 1 << 30  # decompressed, of all columns that are read, as the footer tells: a bomb stops here
MAX_ROW_BYTES: Final = 256 << 20  # that a row's lists and objects take here
COUNTED_ROWS: Final = 1 << 20  # a dictionary grows over a row group and is copied for each batch: small ones would cost its square
NESTED_ROWS: Final = 1 << 14  # the same of lists, of which a footer may tell too little
COUNTED_BYTES: Final = 192 << 20  # of values by their differences, at most, however often they are repeated
ROW_BYTES: Final = 12  # the least that a row takes, as a JSON line: a column of nulls is no way to a thousand million rows
CELL_BYTES: Final = 16  # that are stored of a cell at least, about
ITEM_BYTES: Final = 8  # the same of one in a list, of which honest files (vectors) have very many
HELD_BYTES: Final = 100  # that Python takes for any value, beside the bytes of a text, while its row is made
SIZES: Final = tuple(1 << power for power in range(BATCH_ROWS.bit_length()))  # of batches, in rows


@dataclass(frozen=True, slots=True)
class Column:
    """``leaves``: which of the parts that the file holds apart are its own; of an object or a map there are several."""

    leaves: range
    nested: bool


def open_parquet(held: Any, dictionaries: Sequence[int] | None = None) -> pq.ParquetFile:
    """``dictionaries``: leaves of texts, read so; of an extension type (JSON) Arrow would read them plainly, however often a value is
    repeated."""
    extensions = dictionaries is None
    return pq.ParquetFile(held, pre_buffer=False, read_dictionary=dictionaries, arrow_extensions_enabled=extensions)  # type: ignore[no-untyped-call]


def columns_of(file: pq.ParquetFile) -> list[Column]:
    """Of all columns, by their place: names within names may look like others. Raises Refused."""
    found: list[Column] = []
    start = 0
    for field in file.schema_arrow:
        stop = start + _leaves(field.type)
        found.append(Column(range(start, stop), types.is_nested(stored_type(field.type))))
        start = stop
    if start != file.metadata.num_columns:
        raise Refused("invalid_parquet", "The Parquet file's columns are not those that its schema tells of.", param="file")
    return found


def _leaves(kind: DataType, depth: int = 0) -> int:
    kind = stored_type(kind)
    if depth > MAX_DEPTH:
        message = f"The Parquet file's lists and objects lie within each other more than {MAX_DEPTH} times."
        raise Refused("invalid_parquet", message, param="file")
    if types.is_struct(kind):
        return sum(_leaves(field.type, depth + 1) for field in kind)
    if types.is_map(kind):
        return _leaves(kind.key_type, depth + 1) + _leaves(kind.item_type, depth + 1)
    return _leaves(kind.value_type, depth + 1) if is_list(kind) else 1


def batches(file: pq.ParquetFile, columns: Sequence[Column], rows: int) -> Iterator[Any]:
    leaves = [leaf for column in columns for leaf in column.leaves]
    groups = range(file.metadata.num_row_groups)
    return iter(file.reader.iter_batches(rows, row_groups=groups, column_indices=leaves, use_threads=True))


def batch_rows(held: Any, file: pq.ParquetFile, wanted: Sequence[Column], max_bytes: int) -> int:
    """How many rows to read at once, so that about BATCH_BYTES come of them at most. Raises Refused where the columns hold too much."""
    max_bytes = min(max_bytes, max(FREE_BYTES, MAX_RATIO * held.seek(0, 2)))
    held.seek(0)
    leaves = {leaf: _Leaf.of(file, leaf) for column in wanted for leaf in column.leaves}
    if len(leaves) > MAX_COLUMNS:
        message = f"The Parquet file has more than {MAX_COLUMNS:,} columns, with what lies in objects. Leave some out, or send JSON lines."
        raise Refused("file_too_large", message, status=413, param="file")
    _check_row_groups(file, list(leaves))
    size = file.metadata.num_rows * ROW_BYTES + sum(_footer_bytes(file, column, leaves) for column in wanted)
    _check_size(size, max_bytes)
    numbers = [column for column in wanted if not column.nested and not leaves[column.leaves[0]].is_text]
    most = [rows * sum(HELD_BYTES + leaves[column.leaves[0]].width for column in numbers) for rows in SIZES]
    longest = 0
    counter = open_parquet(held, [at for at, leaf in leaves.items() if leaf.is_text and not leaf.by_differences])
    for columns in _together(file, wanted, leaves):
        largest = [0] * len(SIZES)
        found = 0
        for texts, of_rows in _counted(counter, columns, _at_once(file, columns[0], leaves)):
            size += texts
            _check_size(size, max_bytes)
            if columns[0].nested and of_rows is not None:  # the footer may tell of too few; an item may be an object, too
                found += pc.sum(of_rows).as_py() * ITEM_BYTES // (2 * HELD_BYTES)  # type: ignore[attr-defined]
                _check_size(found, max_bytes)
            for place, rows in enumerate(SIZES if of_rows is not None else ()):
                largest[place] = max(largest[place], _most(of_rows, rows))
        if columns[0].nested and largest[0] > MAX_ROW_BYTES:
            message = f"The lists or objects of a row take more than {MAX_ROW_BYTES >> 20} MiB. Leave their column out."
            raise Refused("file_too_large", message, status=413, param="file")
        longest = max(longest, largest[0])
        most = [before + more for before, more in zip(most, largest, strict=True)]
    held.seek(0)
    bound = max(BATCH_BYTES, longest + BATCH_BYTES // 4)
    return max(rows for rows, together in zip(SIZES, most, strict=True) if together <= bound or rows == 1)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        held_most = f"What the file's columns hold is more than {max_bytes >> 20} MiB once it is unpacked."
        message = f"{held_most} Send the data in parts, or as JSON lines or CSV."
        raise Refused("file_too_large", message, status=413, param="file")


def _check_row_groups(file: pq.ParquetFile, leaves: Sequence[int]) -> None:
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        if sum(group.column(leaf).total_uncompressed_size for leaf in leaves) > MAX_ROW_GROUP_BYTES:
            message = f"A row group decompresses to more than {MAX_ROW_GROUP_BYTES >> 20} MiB. Write the file in smaller row groups."
            raise Refused("file_too_large", message, status=413, param="file")


@dataclass(frozen=True, slots=True)
class _Leaf:
    """``width``: of bytes of a fixed length. ``by_differences``: of such texts Arrow reads no dictionaries. ``repeats``: a text may stand
    in the file once for many times that it comes out; otherwise, as its length tells."""

    is_text: bool
    width: int
    by_differences: bool
    repeats: bool
    largest: int

    @staticmethod
    def of(file: pq.ParquetFile, at: int) -> "_Leaf":
        column = file.schema.column(at)
        is_text = column.physical_type == "BYTE_ARRAY" and column.logical_type.type != "DECIMAL"
        chunks = list(_chunks(file, at)) if is_text else []
        encodings = {encoding for chunk in chunks for encoding in chunk.encodings}
        return _Leaf(
            is_text=is_text,
            width=column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0,
            by_differences=any(encoding.startswith("DELTA_") for encoding in encodings),
            repeats=not encodings <= {"DELTA_LENGTH_BYTE_ARRAY", "RLE"},
            largest=max((chunk.total_uncompressed_size for chunk in chunks), default=0),
        )


def _chunks(file: pq.ParquetFile, leaf: int) -> Iterator[pq.ColumnChunkMetaData]:
    return (file.metadata.row_group(number).column(leaf) for number in range(file.metadata.num_row_groups))


def _footer_bytes(file: pq.ParquetFile, column: Column, leaves: dict[int, _Leaf]) -> int:
    """That come of it, but for its texts."""
    if not column.nested:
        return int(file.metadata.num_rows * (CELL_BYTES + leaves[column.leaves[0]].width))
    return sum(chunk.num_values * (ITEM_BYTES + leaves[leaf].width) for leaf in column.leaves for chunk in _chunks(file, leaf))


def _at_once(file: pq.ParquetFile, column: Column, leaves: dict[int, _Leaf]) -> int:
    """Rows to count at once: of COUNTED_ROWS values or about as many bytes, and few where texts are read plainly."""
    rows = max(1, file.metadata.num_rows)
    values = sum(chunk.num_values * (1 + leaves[leaf].width // 16) for leaf in column.leaves for chunk in _chunks(file, leaf))
    at_once: int = max(1, min(COUNTED_ROWS, COUNTED_ROWS * rows // max(rows, values)))
    at_once = min(at_once, NESTED_ROWS) if column.nested else at_once
    for leaf in (leaves[at] for at in column.leaves if leaves[at].by_differences):
        if leaf.repeats and column.nested:
            message = "Texts in the file's lists or objects are written by their differences (DELTA_BYTE_ARRAY): write them plainly."
            raise Refused("invalid_parquet", message, param="file")
        at_once = min(at_once, BATCH_ROWS, max(1, COUNTED_BYTES // max(1, leaf.largest)) if leaf.repeats else BATCH_ROWS)
    return at_once


def _together(file: pq.ParquetFile, wanted: Sequence[Column], leaves: dict[int, _Leaf]) -> Iterator[list[Column]]:
    """Columns to count, alone or, since a reader takes a while to make, of short texts in few rows as many as have COUNTED_ROWS values."""
    flat = []
    for column in wanted:
        leaf = leaves[column.leaves[0]]
        if column.nested or leaf.by_differences:
            yield [column]
        elif leaf.is_text:
            flat.append(column)
    at_once = max(1, COUNTED_ROWS // max(1, file.metadata.num_rows))
    yield from (flat[start : start + at_once] for start in range(0, len(flat), at_once))


def _counted(file: pq.ParquetFile, columns: Sequence[Column], at_once: int) -> Iterator[tuple[int, Array | None]]:
    """Bytes of their texts, piece by piece, and now and then what each of the rows since takes, of as many as a batch may have."""
    some: list[Array] = []
    for batch in batches(file, columns, at_once):
        texts, of_rows = 0, array([0] * batch.num_rows, int64())
        for column, values in zip(columns, batch.columns, strict=True):
            more, of_column = _weighed(values, ITEM_BYTES if column.nested else CELL_BYTES)
            texts, of_rows = texts + more, pc.add(of_rows, of_column)  # type: ignore[attr-defined]
        some.append(of_rows)
        whole = sum(map(len, some)) >= BATCH_ROWS
        yield texts, concat_arrays(some) if whole else None
        some = [] if whole else some
    yield 0, concat_arrays(some) if some else None


def _weighed(column: Array, covered: int, ends: Array | None = None) -> tuple[int, Array]:
    """Bytes of all texts in it, however deep, beyond the ``covered`` first ones of each, and what each row takes here. ``ends``: where each
    row's values begin and end; None: each row has one."""
    kind = column.type
    if isinstance(kind, BaseExtensionType):
        return _weighed(column.storage, covered, ends)
    if types.is_dictionary(kind) or holds_bytes(kind):
        lengths = _lengths(column)
        beyond = pc.max_element_wise(pc.subtract(lengths, covered), 0)  # type: ignore[attr-defined]
        return int(pc.sum(beyond).as_py() or 0), _by_row(pc.add(lengths, HELD_BYTES), ends)  # type: ignore[attr-defined]
    width = HELD_BYTES + (kind.byte_width if types.is_fixed_size_binary(kind) else 0)
    texts, of_rows = 0, _by_row(repeat(width, len(column)).cast(int64()), ends)
    for part, part_ends in _parts(column, ends):
        more, of_part = _weighed(part, covered, part_ends)
        texts, of_rows = texts + more, pc.add(of_rows, of_part)  # type: ignore[attr-defined]
    return texts, of_rows


def _parts(column: Array, ends: Array | None) -> Iterator[tuple[Array, Array | None]]:
    if types.is_struct(column.type):
        yield from ((part, ends) for part in column.flatten())
    elif types.is_map(column.type) or is_list(column.type):
        lists = as_lists(column) if types.is_map(column.type) else column
        of_lists = _sums(list_lengths(lists).cast(int64()).fill_null(0))
        yield lists.flatten(), of_lists if ends is None else of_lists.take(ends)


def _lengths(column: Array) -> Array:
    """Bytes of each text, which may be in a dictionary."""
    is_dictionary = types.is_dictionary(column.type)
    lengths = pc.binary_length(column.dictionary).take(column.indices) if is_dictionary else pc.binary_length(column)  # type: ignore[attr-defined]
    return lengths.cast(int64()).fill_null(0)


def _sums(values: Array) -> Array:
    """Of none, of the first, of the first two …"""
    return concat_arrays([array([0], int64()), pc.cumulative_sum(values)])  # type: ignore[attr-defined]


def _by_row(values: Array, ends: Array | None) -> Array:
    if ends is None:
        return values
    sums = _sums(values).take(ends)
    return pc.subtract(sums[1:], sums[:-1])  # type: ignore[attr-defined]


def _most(values: Array, rows: int) -> int:
    """The sum of the largest of the pieces of ``rows`` each, which ``values`` are cut into; a batch may begin in the middle of one and end
    in the next."""
    ends = array([*range(0, len(values), rows), len(values)], int64()) if rows > 1 else None
    return int(pc.max(_by_row(values, ends)).as_py() or 0)  # type: ignore[attr-defined]
