"""Every type of a Parquet file comes back as it was, by way of JSON."""

import datetime as d
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.tables.arrow_cells import kept_cells, kept_type, restored

DAYS = [d.date(2020, 1, 1), None, d.date(1, 1, 1)]
NUMBERS = [Decimal("1.10"), None, Decimal("-3.00")]
TEXTS = ["a", None, "ü\x00"]
COLUMNS: dict[str, Any] = {
    "int8": pa.array([1, None, -3], pa.int8()),
    "uint64": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "float16": pa.array([np.float16(1.5), None, np.float16("nan")], pa.float16()),
    "float32": pa.array([1.1, float("inf"), None], pa.float32()),
    "float64": pa.array([float("nan"), -0.0, 5e-324]),
    "bool": pa.array([True, None, False]),
    "string": pa.array(TEXTS),
    "large_string": pa.array(TEXTS, pa.large_string()),
    "string_view": pa.array(TEXTS, pa.string_view()),
    "binary": pa.array([b"\xff", None, b""]),
    "fixed_size_binary": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "date32": pa.array(DAYS),
    "date64": pa.array(DAYS, pa.date64()),
    "time32": pa.array([1, None, 3], pa.time32("ms")),
    "time64": pa.array([1, None, 3], pa.time64("ns")),
    "timestamp": pa.array([2**62 + 1, None, -5], pa.timestamp("ns", tz="Europe/Berlin")),
    "duration": pa.array([1, None, 3], pa.duration("us")),
    "decimal128": pa.array(NUMBERS, pa.decimal128(38, 2)),
    "decimal256": pa.array(NUMBERS, pa.decimal256(60, 2)),
    "dictionary": pa.array(["x", None, "x"]).dictionary_encode(),
    "null": pa.nulls(3),
    "list": pa.array([[1, 2], None, []]),
    "vector": pa.array([[1.5, -0.25], None, [0.1, 3.0]], pa.list_(pa.float32(), 2)),
    "list with no number": pa.array([[float("nan")], None, [1.0]]),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
    "struct of times": pa.array([{"a": d.date(2020, 1, 1)}, None, {"a": None}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "list of categories": pa.array([["a", "b"], None, ["a"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "interval": pa.array([(1, 2, 3), None, (0, 0, 1)], pa.month_day_nano_interval()),
    "uuid": pa.array([b"a" * 16, None, b"b" * 16], pa.uuid()),
    "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}', None, "[]"])),
}


def back(column: Any) -> Any:
    return restored(kept_type(column.type), msgspec.json.decode(msgspec.json.encode(kept_cells(column))))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back_in_its_type_with_its_values(name: str) -> None:
    column = COLUMNS[name]
    found = back(column)
    found.validate(full=True)
    assert found.type == column.type
    assert str(found) == str(column)  # as printed: to Arrow what is no number equals nothing


@pytest.mark.parametrize("name", COLUMNS)
def test_a_part_of_a_column_and_none_of_it_come_back_too(name: str) -> None:
    part = COLUMNS[name][1:]
    assert (back(part).type, str(back(part))) == (part.type, str(part))
    assert (back(part[:0]).type, len(back(part[:0]))) == (part.type, 0)


def test_of_categories_with_an_order_the_values_come_back() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([1, 0, None], pa.int8()), pa.array(["low", "high"]), ordered=True)
    assert back(column).equals(pa.array(["high", "low", None]))


def test_bytes_in_a_column_of_text_that_are_none_are_replaced() -> None:
    column = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")])
    assert back(column).to_pylist() == ["a\ufffd"]


@given(st.lists(st.none() | st.lists(st.none() | st.floats(width=32)), max_size=5))
def test_lists_of_any_numbers_come_back(values: list[list[float | None] | None]) -> None:
    column = pa.array(values, pa.list_(pa.float32()))
    assert str(back(column)) == str(column)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_moments_of_every_number_come_back(values: list[int | None]) -> None:
    column = pa.array(values, pa.int64()).view(pa.timestamp("us"))
    assert back(column).equals(column)
