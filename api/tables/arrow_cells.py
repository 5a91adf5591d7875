"""Arrow columns as lists of JSON values and back, so that every type of a Parquet file survives: whole numbers, texts and flags as they
are; what is not finite by its name; times as the whole numbers that they are stored as; decimals by their digits; bytes in base64; of what
is nested lists and objects where JSON can tell all that is in them, else Arrow's own bytes, a cell at a time."""

import io
import math
from base64 import b64decode
from decimal import Decimal
from importlib import import_module
from typing import Any, Final

import pyarrow.types as types

# pyarrow fills its name space at run time, so that a type checker cannot follow it.
pa: Any = import_module("pyarrow")
pc: Any = import_module("pyarrow.compute")

_STORED: Final = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_CELL: Final = "cell"


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
        return list(column.view(_STORED[kind.bit_width]).to_pylist())
    if types.is_decimal(kind):
        return [None if value is None else format(value, "f") for value in column.to_pylist()]
    if _is_plain(kind) or is_bytes(kind) or _is_told_by_json(column):
        try:
            return list(column.to_pylist())
        except UnicodeDecodeError:
            if _is_text(kind):
                return [None if cell is None else cell.decode("utf-8", "replace") for cell in column.cast(pa.binary()).to_pylist()]
    return [_as_stream(column, at) for at in range(len(column))]


def restored(kind: Any, cells: list[Any]) -> Any:
    """The array of this type whose cells were kept so."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, restored(kind.storage_type, cells))
    if types.is_dictionary(kind):
        found = restored(kind.value_type, cells).dictionary_encode()
        return pa.DictionaryArray.from_arrays(found.indices.cast(kind.index_type), found.dictionary)
    if types.is_floating(kind):
        return pa.array([value if value is None else float(value) for value in cells], pa.float64()).cast(kind)
    if is_moment(kind):
        return pa.array(cells, _STORED[kind.bit_width]).view(kind)
    if types.is_decimal(kind):
        return pa.array([None if value is None else Decimal(value) for value in cells], kind)
    if is_bytes(kind):
        return pa.array([None if value is None else b64decode(value) for value in cells], kind)
    if _is_plain(kind) or not any(isinstance(cell, str) for cell in cells):
        return pa.array(cells, kind)
    return pa.concat_arrays([_of_stream(cell) if isinstance(cell, str) else pa.array([cell], kind) for cell in cells])


def restored_texts(kind: Any, values: list[str | None]) -> Any:
    """The same of a column of texts, which were kept as such whatever held them."""
    if types.is_dictionary(kind):
        return restored_texts(kind.value_type, values).dictionary_encode().cast(kind)
    stored = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    texts = pa.array([value.encode() if value is not None and is_bytes(stored) else value for value in values], stored)
    return texts if stored is kind else pa.ExtensionArray.from_storage(kind, texts)


def kept_type(kind: Any) -> Any:
    """The type of what comes back: of categories with an order only their values, since a stream of rows does not tell the order."""
    return kind.value_type if types.is_dictionary(kind) and kind.ordered else kind


def _named(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def is_moment(kind: Any) -> bool:
    return bool(types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind) or types.is_duration(kind))


def is_bytes(kind: Any) -> bool:
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind) or types.is_binary_view(kind)
    return bool(binary)


def _is_text(kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_plain(kind: Any) -> bool:
    return bool(_is_text(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind))


def _is_told_by_json(column: Any) -> bool:
    """Of a nested array: whether all in it is text, whole numbers, flags, or finite."""
    kind = column.type
    if types.is_struct(kind):
        names = [field.name for field in kind]
        return len(set(names)) == len(names) and all(_is_told_by_json(part) for part in column.flatten())
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_told_by_json(column.flatten())
    if types.is_float32(kind) or types.is_float64(kind):
        return bool(pc.all(pc.is_finite(column), min_count=0).as_py())
    return _is_plain(kind)


def _as_stream(column: Any, at: int) -> bytes:
    """One cell, copied: a slice would bring along all that it was cut from."""
    sink = io.BytesIO()
    cell = pa.record_batch([column.take(pa.array([at]))], names=[_CELL])
    with pa.ipc.new_stream(sink, cell.schema) as stream:
        stream.write_batch(cell)
    return sink.getvalue()


def _of_stream(cell: str) -> Any:
    with pa.ipc.open_stream(b64decode(cell)) as stream:
        return stream.read_all().column(0).combine_chunks()
