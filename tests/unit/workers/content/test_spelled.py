"""Values of every type as a CSV and a line of JSON show them; none of them stops the others."""

import datetime as d
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from workers.content.spelled import json_values, texts

BAD_TEXT = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")])
LATE = pa.array([2**31 - 1], pa.int32()).view(pa.date32())
NOON = pa.array([43_200], pa.int64())


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pa.array([{"a": d.date(2020, 1, 2), "b": [Decimal("1.10"), None]}, None]), ['{"a":"2020-01-02","b":[1.10,null]}', None]),
        (pa.array([[(b"k", [b"\xff"])]], pa.map_(pa.binary(), pa.list_(pa.binary()))), ['[["k",["/w=="]]]']),
        (pa.array([[1]], pa.list_(pa.timestamp("ns"))), ['["1970-01-01T00:00:00.000000001"]']),
        (pa.array([[float("nan"), 0.1]], pa.list_(pa.float32())), ["[null,0.1]"]),
        (pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), ['{"a":1,"a_2":2}']),
        (pa.StructArray.from_arrays([BAD_TEXT], names=["a"]), ['{"a":"a\ufffd"}']),
        (pa.StructArray.from_arrays([LATE], names=["a"]), ['{"a":2147483647}']),
        (LATE, ["2147483647"]),
        (pa.array([2**62, -5], pa.int64()).view(pa.time64("us")), [str(2**62), "-5"]),
        (NOON.view(pa.timestamp("s", "Foo/Bar")), ["1970-01-01T12:00:00Z"]),
        (NOON.view(pa.timestamp("s", "Europe/Berlin")), ["1970-01-01T12:00:00Z"]),
        (NOON.view(pa.timestamp("s")), ["1970-01-01T12:00:00"]),
        (NOON.view(pa.duration("s")), ["43200"]),
        (pa.array([[True, None]]), ["[true,null]"]),
        (pa.array([b"a" * 16, None], pa.uuid()), ["61616161-6161-6161-6161-616161616161", None]),
        (pa.array(["x", None]).dictionary_encode(), ["x", None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_value_is_told(column: Any, told: list[str | None]) -> None:
    assert texts(column) == told


def test_what_is_nested_stays_so_in_json() -> None:
    assert json_values(pa.array([{"a": [1, None]}])) == [{"a": [1, None]}]
