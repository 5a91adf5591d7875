"""Every type of a Parquet file comes back as it was, by way of JSON."""

import datetime as d
import json
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.content.arrow_cells import is_list, kept_cells, kept_type, restored, restored_texts
from workers.content.spelled import json_values, texts

NESTED = pa.struct([("a", pa.date32()), ("b", pa.decimal128(5, 2)), ("c", pa.map_(pa.string(), pa.binary()))])
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
    "list of bytes": pa.array([[b"\xff", None], None, []], pa.list_view(pa.binary())),
    "map of decimals and moments": pa.array(
        [[(d.date(1, 1, 1), NUMBERS)], None, []], pa.map_(pa.date32(), pa.large_list(pa.decimal128(5, 2)))
    ),
    "fixed lists of fixed lists": pa.array([[[1, 2]], None, [None]], pa.list_(pa.list_(pa.int8(), 2), 1)),
    "uuid": pa.array([b"a" * 16, None, b"b" * 16], pa.uuid()),
    "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}', None, "[]"])),
}


LEAVES: dict[Any, Any] = {
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.bool_(): st.booleans(),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.string(): st.text(max_size=3),
    pa.string_view(): st.text(max_size=3),
    pa.large_binary(): st.binary(max_size=3),
    pa.binary(2): st.binary(min_size=2, max_size=2),
    pa.date32(): st.dates(),
    pa.time64("us"): st.times(),
    pa.duration("s"): st.integers(-(2**62), 2**62),
    pa.timestamp("us"): st.integers(-(2**62), 2**62),
    pa.timestamp("ns", "Foo/Bar"): st.integers(-(2**62), 2**62),
    pa.decimal128(6, 2): st.decimals(-9999, 9999, places=2),
    pa.decimal256(60, 0): st.integers(-(10**20), 10**20).map(Decimal),
    pa.dictionary(pa.int32(), pa.string()): st.sampled_from(["a", "b"]),
    pa.null(): st.none(),
}
KINDS = st.recursive(
    st.sampled_from(list(LEAVES)),
    lambda of: (
        of.map(pa.list_)
        | of.map(pa.large_list)
        | of.map(pa.list_view)
        | of.map(lambda kind: pa.list_(kind, 2))
        | of.map(lambda kind: pa.map_(pa.string(), kind))
        | st.lists(of, min_size=1, max_size=3).map(lambda kinds: pa.struct([(f"f{at}", kind) for at, kind in enumerate(kinds)]))
    ),
    max_leaves=4,
)


def values_of(kind: Any) -> Any:
    if pa.types.is_struct(kind):
        return st.none() | st.fixed_dictionaries({field.name: values_of(field.type) for field in kind})
    if pa.types.is_map(kind):
        return st.none() | st.lists(st.tuples(st.text(max_size=2), values_of(kind.item_type)), max_size=3)
    if is_list(kind):
        size = {"min_size": 2, "max_size": 2} if pa.types.is_fixed_size_list(kind) else {"max_size": 3}
        return st.none() | st.lists(values_of(kind.value_type), **size)
    return st.none() | LEAVES[kind]


def nested() -> Any:
    return KINDS.flatmap(lambda kind: st.lists(values_of(kind), max_size=4).map(lambda values: pa.array(values, kind)))


def back(column: Any) -> Any:
    return restored(kept_type(column.type), msgspec.json.decode(msgspec.json.encode(kept_cells(column))))


def same(found: Any, column: Any) -> bool:
    """To Arrow what is no number equals nothing, and neither do dictionaries in another order."""
    return found.type == column.type and (found.equals(column) or str(found.to_pylist()) == str(column.to_pylist()))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back_in_its_type_with_its_values(name: str) -> None:
    column = COLUMNS[name]
    found = back(column)
    found.validate(full=True)
    assert same(found, column)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_part_of_a_column_and_none_of_it_come_back_too(name: str) -> None:
    part = COLUMNS[name][1:]
    assert same(back(part), part)
    assert same(back(part[:0]), part[:0])


def test_of_categories_with_an_order_the_values_come_back() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([1, 0, None], pa.int8()), pa.array(["low", "high"]), ordered=True)
    assert back(column).equals(pa.array(["high", "low", None]))


def test_bytes_in_a_column_of_text_that_are_none_are_replaced() -> None:
    column = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")])
    assert back(column).to_pylist() == ["a\ufffd"]


def test_a_struct_whose_fields_are_called_alike_comes_back() -> None:
    column = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert back(column).equals(column)


def test_of_what_no_parquet_file_holds_nothing_is_kept() -> None:
    for column in (
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    ):
        assert back(column).to_pylist() == [None]


def test_a_nested_cell_takes_few_bytes() -> None:
    column = pa.array([{"a": d.date(2020, 1, 1), "b": Decimal("1.10"), "c": [("k", b"x")]}], NESTED)
    assert msgspec.json.encode(kept_cells(column)) == b'[[18262,"1.10",[["k","eA=="]]]]'


@pytest.mark.parametrize(
    "kind", [pa.uuid(), pa.binary(4), pa.dictionary(pa.int8(), pa.binary(4)), pa.null(), pa.json_(), pa.binary_view(), pa.string_view()]
)
def test_a_text_that_does_not_fit_its_column_is_null(kind: Any) -> None:
    found = restored_texts(kind, ["a text that is no code", None, "ü" * 2])
    assert (found.type, len(found), found[1].as_py()) == (kind, 3, None)
    assert (found[0].as_py() is None) == (kind in {pa.uuid(), pa.binary(4), pa.dictionary(pa.int8(), pa.binary(4)), pa.null()})


def test_texts_that_are_uuids_come_back_as_such() -> None:
    told = "331fcacc-5845-4462-8baa-f8729405a327"
    assert str(restored_texts(pa.uuid(), [told])[0].as_py()) == told


def test_a_decimal_of_more_digits_than_its_column_says_is_null() -> None:
    assert restored(pa.decimal128(4, 2), ["1.10", "123456.00"]).to_pylist() == [Decimal("1.10"), None]


@given(st.lists(st.none() | st.lists(st.none() | st.floats(width=32)), max_size=5))
def test_lists_of_any_numbers_come_back(values: list[list[float | None] | None]) -> None:
    column = pa.array(values, pa.list_(pa.float32()))
    assert str(back(column)) == str(column)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_moments_of_every_number_come_back(values: list[int | None]) -> None:
    column = pa.array(values, pa.int64()).view(pa.timestamp("us"))
    assert back(column).equals(column)


@given(nested())
def test_whatever_is_nested_comes_back_and_can_be_shown(column: Any) -> None:
    found = back(column)
    found.validate(full=True)
    assert (found.type, found.equals(column)) == (column.type, True)
    assert kept_cells(back(column[1:])) == kept_cells(column)[1:]
    assert json.loads(msgspec.json.encode(json_values(found))) is not None
    assert len(texts(found)) == len(column)
