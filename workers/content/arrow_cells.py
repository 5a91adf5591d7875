"""Arrow columns as lists of JSON values and back, so that every type that a Parquet file has survives: whole numbers, texts and flags as
they are; what is not finite by its name; times as the whole numbers that they are stored as; decimals by their digits; bytes in base64;
of lists, maps and objects lists: of their items, pairs, and values. What no Parquet file holds (unions, intervals, run ends) is null."""

import math
from base64 import b64decode
from collections.abc import Callable, Sequence
from decimal import Decimal
from importlib import import_module
from itertools import chain, islice, repeat
from typing import Any, Final
from uuid import UUID

import pyarrow.types as types

# pyarrow fills its name space at run time, so that a type checker cannot follow it.
pa: Any = import_module("pyarrow")
pc: Any = import_module("pyarrow.compute")

_STORED: Final = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


def kept_cells(column: Any) -> list[Any]:
    """Values that JSON holds, one a cell, of an array."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return kept_cells(column.storage)
    if types.is_dictionary(kind):
        return kept_cells(column.dictionary_decode())
    if types.is_floating(kind):
        return [_named(value) for value in column.cast(pa.float64()).to_pylist()]
    if is_moment(kind):
        return whole_numbers(column)
    if types.is_decimal(kind):
        return [None if value is None else format(value, "f") for value in column.to_pylist()]
    return list(column.to_pylist()) if is_bytes(kind) else plain_cells(column, kept_cells)


def plain_cells(column: Any, told: Callable[[Any], list[Any]]) -> list[Any]:
    """The same of text, whole numbers and flags, and of what is nested, whose parts ``told`` tells. Bytes in a text that are none are
    replaced."""
    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        try:
            return list(column.to_pylist())
        except UnicodeDecodeError:
            return [None if cell is None else cell.decode("utf-8", "replace") for cell in column.cast(pa.binary()).to_pylist()]
    if types.is_integer(kind) or types.is_boolean(kind):
        return list(column.to_pylist())
    if types.is_struct(kind):
        there = column.is_valid().to_pylist()
        return [
            list(row) if is_there else None for is_there, row in zip(there, zip(*map(told, column.flatten()), strict=True), strict=True)
        ]
    if types.is_map(kind):
        column = as_lists(column)
        items = iter(plain_cells(column.flatten(), told))
    elif is_list(kind):
        items = iter(told(column.flatten()))
    else:
        return [None] * len(column)
    return [None if length is None else list(islice(items, length)) for length in list_lengths(column).to_pylist()]


def restored(kind: Any, cells: Sequence[Any]) -> Any:
    """The array of this type whose cells were kept so."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, restored(kind.storage_type, cells))
    if types.is_dictionary(kind):
        return _as_categories(kind, restored(kind.value_type, cells))
    if types.is_floating(kind):
        return pa.array([value if value is None else float(value) for value in cells], pa.float64()).cast(kind)
    if is_moment(kind):
        return pa.array(cells, _STORED[kind.bit_width]).view(kind)
    if types.is_decimal(kind):
        return _fitting(kind, [None if value is None else Decimal(value) for value in cells])
    if is_bytes(kind):
        return _fitting(kind, [None if value is None else b64decode(value) for value in cells])
    if types.is_struct(kind) or types.is_map(kind) or is_list(kind):
        return _nested(kind, cells)
    return pa.nulls(len(cells), kind) if types.is_union(kind) or types.is_run_end_encoded(kind) else pa.array(cells, kind)


def _nested(kind: Any, cells: Sequence[Any]) -> Any:
    null = pa.array([cell is None for cell in cells], pa.bool_())
    if types.is_struct(kind):
        nothing = [None] * kind.num_fields
        return pa.StructArray.from_arrays(
            _columns(list(kind), [nothing if cell is None else cell for cell in cells]), fields=list(kind), mask=null
        )
    if types.is_fixed_size_list(kind):
        nothing = [None] * kind.list_size
        items = restored(kind.value_type, [*chain.from_iterable(nothing if cell is None else cell for cell in cells)])
        return pa.FixedSizeListArray.from_arrays(items, type=kind, mask=null)
    is_large = types.is_large_list(kind) or types.is_large_list_view(kind)
    lengths = pa.array([len(cell or ()) for cell in cells], pa.int64() if is_large else pa.int32())
    ends = pa.concat_arrays([pa.array([0], lengths.type), pc.cumulative_sum(lengths)])
    within = [*chain.from_iterable(cell or () for cell in cells)]
    if types.is_map(kind):
        keys, values = _columns([kind.key_field, kind.item_field], within)
        return pa.MapArray.from_arrays(ends, keys, values, type=kind, mask=null)
    items = restored(kind.value_type, within)
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        of_views = pa.LargeListViewArray if is_large else pa.ListViewArray
        return of_views.from_arrays(ends[:-1], lengths, items, type=kind, mask=null)
    return (pa.LargeListArray if is_large else pa.ListArray).from_arrays(ends, items, type=kind, mask=null)


def _columns(fields: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[Any]:
    columns = zip(*rows, strict=True) if rows else repeat(())
    return [restored(field.type, column) for field, column in zip(fields, columns, strict=bool(rows))]


def restored_texts(kind: Any, values: Sequence[str | None]) -> Any:
    """The same of a column of texts, which were kept as such whatever held them."""
    if types.is_dictionary(kind):
        return _as_categories(kind, restored_texts(kind.value_type, values))
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name != "arrow.uuid":
            return pa.ExtensionArray.from_storage(kind, restored_texts(kind.storage_type, values))
        return pa.ExtensionArray.from_storage(kind, _fitting(kind.storage_type, [_uuid_bytes(value) for value in values]))
    return _fitting(kind, [value.encode() if value is not None and is_bytes(kind) else value for value in values])


def kept_type(kind: Any) -> Any:
    """The type of what comes back: of categories with an order only their values, since a stream of rows does not tell the order."""
    return kind.value_type if types.is_dictionary(kind) and kind.ordered else kind


def is_moment(kind: Any) -> bool:
    return bool(types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind) or types.is_duration(kind))


def is_bytes(kind: Any) -> bool:
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind) or types.is_binary_view(kind)
    return bool(binary)


def is_list(kind: Any) -> bool:
    """Of items; a map is none."""
    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or views)


def as_lists(column: Any) -> Any:
    """A column of maps as one of lists of objects, which Arrow can flatten. By its offsets: a cast loses fixed lists of nulls within."""
    pairs = pa.StructArray.from_arrays([column.keys, column.items], names=["key", "value"])
    ends = pa.array(column.offsets.to_pylist(), pa.int32())  # a slice takes no mask
    return pa.ListArray.from_arrays(ends, pairs, mask=column.is_null())


def list_lengths(column: Any) -> Any:
    """Of each cell how many items of the flattened column are its own; null where it is."""
    return pc.if_else(column.is_valid(), pc.list_value_length(column), None)


def whole_numbers(column: Any) -> list[int | None]:
    """Moments as they are stored."""
    return list(column.view(_STORED[column.type.bit_width]).to_pylist())


def _named(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _as_categories(kind: Any, values: Any) -> Any:
    found = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(found.indices.cast(kind.index_type), found.dictionary, ordered=kind.ordered)


def _fitting(kind: Any, values: Sequence[Any]) -> Any:
    """Null where a value does not fit, which only a file has that says one thing of its values and holds another."""
    try:
        return pa.array(values, kind)
    except pa.ArrowException:
        return pa.array([value if _fits(kind, value) else None for value in values], kind)


def _fits(kind: Any, value: Any) -> bool:
    try:
        pa.array([value], kind)
    except pa.ArrowException:
        return False
    return True


def _uuid_bytes(value: str | None) -> bytes | None:
    try:
        return None if value is None else UUID(value).bytes
    except ValueError:
        return None
