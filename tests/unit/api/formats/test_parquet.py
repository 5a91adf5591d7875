"""Parquet: types, nulls, many row groups, and files that are none."""

import datetime
import gzip
import io
import resource
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refused
from api.formats import unpacked
from api.formats.limits import Columns, FileLimits
from api.formats.parquet import parquet_rows
from api.tables.noted import Noted
from db.files.rows import NewRow

LIMITS = FileLimits(max_line_bytes=4096, max_parquet_bytes=1 << 20)


def written(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def read(data: bytes, columns: Columns | None = None) -> list[NewRow]:
    return list(parquet_rows([data[:100], data[100:]], columns or Columns(), LIMITS))


def refusal_of(data: bytes, columns: Columns | None = None) -> Refused:
    with pytest.raises(Refused) as refusal:
        read(data, columns)
    return refusal.value


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()])
def test_every_kind_of_string_is_text(kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["a", "b", "é"]).cast(kind), "id": pa.array([1, 2, 3]), "label": ["x", None, "y"]})
    rows = read(written(table, row_group_size=2))
    assert [(row.line, row.custom_id, row.body) for row in rows] == [
        (1, "1", b'{"input":"a","label":"x"}'),
        (2, "2", b'{"input":"b"}'),
        (3, "3", '{"input":"é","label":"y"}'.encode()),
    ]


def test_nulls_and_bad_values_fail_alone() -> None:
    table = pa.table({"text": ["a", None, "b\x00", "c" * 5000, "d"], "id": ["1", "2", "3", "4", "x" * 600]})
    assert [row.defect for row in read(written(table))] == [
        None,
        "missing_input",
        "nul_character:input",
        "line_too_long",
        "invalid_custom_id",
    ]


def test_text_that_is_not_utf8_fails_alone() -> None:
    bad = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb"))
    assert [row.defect for row in read(written(pa.table({"text": bad})))] == [None, "invalid_utf8", None]


def test_a_text_that_cannot_be_read_does_not_cost_its_id() -> None:
    table = pa.table({"text": pa.array([b"a", b"\xff", b"c"]), "id": [7, 8, 9]})
    assert [(row.custom_id, row.defect) for row in read(written(table))] == [("7", None), ("8", "invalid_utf8"), ("9", None)]


def test_bytes_that_are_no_text_are_no_id_where_nobody_asked_and_a_fault_where_somebody_did() -> None:
    data = written(pa.table({"text": ["a", "b"], "id": [b"\xff\xfe", b"ok"], "label": [b"\xff", b"x"]}))
    assert [(row.custom_id, row.defect) for row in read(data)] == [(None, None), ("ok", None)]
    assert [(row.custom_id, row.defect) for row in read(data, Columns(id="id"))] == [(None, "invalid_utf8"), ("ok", None)]
    assert [row.defect for row in read(data, Columns(label_required=True))] == ["invalid_utf8", None]


def test_an_id_that_is_too_long_is_not_kept_beside_another_fault() -> None:
    [row] = read(written(pa.table({"text": ["a" * 5000], "id": ["x" * 600]})))
    assert (row.custom_id, row.defect) == (None, "line_too_long")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_json_is_text_as_an_id_and_as_what_is_read(kind: pa.DataType) -> None:
    values = pa.array(['{"a":1}', "2", None], pa.json_(kind))
    assert [row.custom_id for row in read(written(pa.table({"id": values, "text": ["a", "b", "c"]})))] == ['{"a":1}', "2", None]
    rows = read(written(pa.table({"text": values})))
    assert [(row.body, row.defect) for row in rows] == [
        (b'{"input":"{\\"a\\":1}"}', None),
        (b'{"input":"2"}', None),
        (None, "missing_input"),
    ]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PARE" + b"x" * 100 + b"PARE", "is encrypted"),
        (b"id,text\n1,hello\n", "is no Parquet file"),
        (b"ARROW1\0\0" + b"x" * 100 + b"ARROW1", "is no Parquet file"),
        (written(pa.table({"text": ["a"]}))[:-9], "is cut"),
        (b"PAR1", "is cut"),
        (b"PAR1" + b"x" * 100 + b"PAR1", "is damaged"),
    ],
)
def test_what_is_no_readable_parquet_is_told_why(data: bytes, told: str) -> None:
    assert told in refusal_of(data).message


def test_a_table_without_columns_is_told_so() -> None:
    assert refusal_of(written(pa.table({}))).message == "The file has no column “text” or “input” or “prompt”, nor any other."


@pytest.mark.parametrize("column", [pa.array([1, 2]), pa.array([["a"], ["b"]]), pa.array([1.5, 2.5])])
def test_a_text_column_of_another_type_is_refused(column: pa.Array) -> None:
    refusal = refusal_of(written(pa.table({"text": column})))
    assert (refusal.code, refusal.param, refusal.status) == ("wrong_column_type", "text_column", 400)
    assert refusal.message.startswith("The column “text” must hold strings, and holds ")
    assert refusal.message.endswith(". Name another one in the form field text_column.")


def test_an_id_column_of_another_type_is_refused_where_it_was_asked_for_and_passed_over_where_not() -> None:
    data = written(pa.table({"text": ["a"], "id": [[1]], "label": [{"x": 1}]}))
    assert [(row.custom_id, row.body) for row in read(data)] == [(None, b'{"input":"a"}')]
    refusal = refusal_of(data, Columns(id="id"))
    assert (refusal.code, refusal.param) == ("wrong_column_type", "id_column")


def test_a_missing_column_is_told_by_the_names_that_were_looked_for() -> None:
    refusal = refusal_of(written(pa.table({"secret": ["a"]})))
    assert refusal.code == "missing_text_column"
    assert "it has “secret”" in refusal.message
    refusal = refusal_of(written(pa.table({"text": ["a"], "id": [1]})), Columns(id="nope"))
    assert (refusal.code, refusal.param) == ("missing_column", "id_column")
    assert "“nope”; it has “text”, “id”" in refusal.message
    assert refusal_of(written(pa.table({"text": ["a"]})), Columns(label_required=True)).param == "label_column"


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1", b"text\nhello\n", written(pa.table({"text": ["a"]}))[:-9]])
def test_a_broken_file_is_refused_without_its_content(data: bytes) -> None:
    refusal = refusal_of(data)
    assert (refusal.code, refusal.status) == ("invalid_parquet", 400)


def test_a_damaged_page_is_refused() -> None:
    data = bytearray(written(pa.table({"text": [f"row {number} " * 20 for number in range(1000)]}), compression="zstd"))
    frame = data.index(b"\x28\xb5\x2f\xfd")
    data[frame : frame + 4] = b"\xaa" * 4
    assert refusal_of(bytes(data)).code == "invalid_parquet"


def test_a_file_over_the_limit_is_refused() -> None:
    refusal = refusal_of(b"x" * ((1 << 20) + 1))
    assert (refusal.code, refusal.status) == ("file_too_large", 413)


def test_a_file_of_no_records_has_no_rows() -> None:
    assert read(written(pa.table({"text": pa.array([], pa.string())}))) == []


UUID = uuid.UUID("331fcacc-5845-4462-8baa-f8729405a327")
DAY = datetime.datetime(2026, 5, 4, 12, 0, 0)


@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        (pa.array([1.0, None, 3.0, float("nan"), 2.5, 1e15]), ["1", None, "3", None, "2.5", "1000000000000000"]),
        (pa.array([1.0, 0.1], pa.float32()), ["1", "0.1"]),
        (pa.array([1.0, 0.5], pa.float32()).cast(pa.float16()), ["1", "0.5"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([1, -2], pa.int8()), ["1", "-2"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([1, 2]).dictionary_encode(), ["1", "2"]),
        (pa.array([Decimal("12.50"), Decimal("0.01")]), ["12.50", "0.01"]),
        (pa.array([Decimal(12), None], pa.decimal128(9, 0)), ["12", None]),
        (pa.array([DAY.date()], pa.date32()), ["2026-05-04"]),
        (pa.array([DAY.date()], pa.date64()), ["2026-05-04"]),
        (pa.array([DAY], pa.timestamp("ms")), ["2026-05-04T12:00:00"]),
        (pa.array([DAY], pa.timestamp("us", "UTC")), ["2026-05-04T12:00:00Z"]),
        (pa.array([1], pa.timestamp("ns")), ["1970-01-01T00:00:00.000000001"]),
        (pa.array([UUID.bytes], pa.uuid()), [str(UUID)]),
        (pa.array([b"abcd"], pa.binary(4)), ["abcd"]),
        (pa.array([b"\xff\x00ab", b"ab\x00\x00", None], pa.binary(4)), ["ff006162", "61620000", None]),
        (pa.array([b"k1", None]), ["k1", None]),
        (pa.array([b"k1"], pa.large_binary()), ["k1"]),
        (pa.array([None, None]), [None, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_an_id_of_every_scalar_type_is_text(ids: pa.Array, texts: list[str | None]) -> None:
    rows = read(written(pa.table({"text": ["a"] * len(ids), "id": ids})))
    assert [(row.defect, row.custom_id) for row in rows] == [(None, text) for text in texts]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2)])
def test_utf8_bytes_are_text(kind: pa.DataType) -> None:
    rows = read(written(pa.table({"text": pa.array([b"ab", b"\xff\xfe", "é".encode(), None], kind)})))
    assert [row.defect for row in rows] == [None, "invalid_utf8", None, "missing_input"]
    assert rows[2].body == '{"input":"é"}'.encode()


def test_a_text_column_of_nothing_but_nulls_fails_its_rows() -> None:
    rows = read(written(pa.table({"text": pa.nulls(2), "id": [1, 2]})))
    assert [(row.custom_id, row.defect) for row in rows] == [("1", "missing_input"), ("2", "missing_input")]


@pytest.mark.parametrize("names", [("id", "text", "text"), ("id", "id", "text")])
def test_a_column_that_is_there_twice_is_refused(names: tuple[str, ...]) -> None:
    refusal = refusal_of(written(pa.table([pa.array(["a"])] * 3, names=names)))
    twice = max(names, key=names.count)
    assert (refusal.code, refusal.status, refusal.param) == ("duplicate_column", 400, f"{twice}_column")
    assert f"The column “{twice}” is there twice" in refusal.message


def test_columns_that_nobody_asked_for_may_be_anything() -> None:
    columns = [pa.array(["a"]), pa.array([[1, 2]]), pa.array([{"text": 1}]), pa.array([1]), pa.array([2]), pa.array([0])]
    data = written(pa.table(columns, names=["text", "id", "meta", "x", "x", "__index_level_0__"]))
    assert [(row.custom_id, row.body) for row in read(data)] == [(None, b'{"input":"a"}')]


def test_a_text_column_that_cannot_be_read_gives_way_to_the_next_usual_name() -> None:
    assert read(written(pa.table({"text": [[1]], "prompt": ["a"]})))[0].body == b'{"input":"a"}'


def unpacking(values: pa.Array, repeated: int) -> bytes:
    return written(pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * repeated, pa.int32()), values)}), compression="zstd")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_a_value_that_is_repeated_to_gigabytes_is_refused_without_being_unpacked(kind: pa.DataType) -> None:
    data = unpacking(pa.array(["x" * (8 << 20)]).cast(kind), 1024)
    assert len(data) < 4096
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal = refusal_of(data)
    assert (refusal.code, refusal.status, refusal.param) == ("file_too_large", 413, "file")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


@contextmanager
def arrow_memory() -> Iterator[pa.MemoryPool]:
    """What Arrow takes from now on."""
    before = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(before)
    pa.set_memory_pool(counted)
    try:
        yield counted
    finally:
        pa.set_memory_pool(before)


def by_differences(kind: str, texts: list[str | None], **options: object) -> bytes:
    table = pa.table({"id": pa.array(range(len(texts)), pa.int32()), "text": texts})
    return written(table, use_dictionary=False, column_encoding={"text": kind, "id": "DELTA_BINARY_PACKED"}, **options)


@pytest.mark.parametrize("kind", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_texts_that_are_written_by_their_differences_are_read(kind: str) -> None:
    texts: list[str | None] = [None if at % 7 == 0 else f"ticket {at} about é" for at in range(5_000)]
    rows = read(by_differences(kind, texts, row_group_size=700))
    assert [(row.custom_id, row.body) for row in rows] == [
        (str(at), None if text is None else f'{{"input":"{text}"}}'.encode()) for at, text in enumerate(texts)
    ]


def test_a_value_that_is_repeated_by_its_differences_is_refused_without_being_unpacked() -> None:
    data = by_differences("DELTA_BYTE_ARRAY", ["x" * (8 << 20)] * 64, compression="zstd")
    assert len(data) < 16_384
    with arrow_memory() as taken, pytest.raises(Refused, match="once it is unpacked"):
        list(parquet_rows([data], Columns(), FileLimits()))
    assert taken.max_memory() < 300 << 20


def test_json_that_is_repeated_is_counted_without_being_unpacked_too() -> None:
    values = pa.array(['"' + "x" * (64 << 10) + '"'] * 2_000, pa.json_())
    data = written(pa.table({"text": values}), compression="zstd")
    assert len(data) < 4096
    with arrow_memory() as taken, pytest.raises(Refused, match="once it is unpacked"):
        list(parquet_rows([data], Columns(), FileLimits()))
    assert taken.max_memory() < 16 << 20


def test_bytes_of_a_fixed_size_and_rows_of_nothing_count_as_well() -> None:
    wide = pa.array([b"x" * (1 << 20)] * 8, pa.binary(1 << 20))
    limits = FileLimits(max_line_bytes=4096, max_unpacked_bytes=4 << 20)
    for table in (pa.table({"text": wide}), pa.table({"text": pa.nulls(400_000)})):
        with pytest.raises(Refused, match="once it is unpacked"):
            list(parquet_rows([written(table)], Columns(), limits))


def test_a_text_is_measured_in_bytes() -> None:
    assert [row.defect for row in read(written(pa.table({"text": ["é" * 2048, "é" * 2049]})))] == [None, "line_too_long"]


@pytest.mark.parametrize(
    "data",
    [
        written(pa.table({"text": pa.nulls(2_000_000)})),
        written(pa.table({"text": pa.nulls(2_000_000, pa.string())})),
        written(pa.table({"text": pa.nulls(2_000_000, pa.large_string())})),
        unpacking(pa.array(["x"]), 2_000_000),
        unpacking(pa.array(["x" * (8 << 20)]), 100),  # less than what may come out of a larger file
    ],
)
def test_very_much_is_not_made_of_very_little(data: bytes) -> None:
    assert len(data) < 8192
    with pytest.raises(Refused) as refused:
        next(parquet_rows([data], Columns(), FileLimits()))
    assert (refused.value.code, refused.value.status) == ("file_too_large", 413)


def test_texts_that_are_often_the_same_are_read() -> None:
    texts = [f"Canned answer {number}, as it was sent." for number in range(40)]
    rows = list(parquet_rows([written(pa.table({"text": [texts[at % 40] for at in range(200_000)]}))], Columns(), FileLimits()))
    assert (len(rows), rows[-1].body) == (200_000, b'{"input":"Canned answer 39, as it was sent."}')


@pytest.mark.parametrize("codec", [gzip.compress, lambda data: pa.compress(data, "zstd", asbytes=True)])
def test_a_parquet_file_that_is_compressed_once_more_is_told_so(codec: Callable[[bytes], bytes]) -> None:
    assert "without gzip or zstd" in str(refusal_of(codec(written(pa.table({"text": ["a"]})))))


def batches_of(data: bytes) -> list[int]:
    """How many rows were read at once."""
    file = unpacked.open_parquet(io.BytesIO(data))
    columns = unpacked.columns_of(file)
    rows = unpacked.batch_rows(io.BytesIO(data), file, columns, 1 << 30)
    return [batch.num_rows for batch in unpacked.batches(file, columns, rows)]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.string_view()])
def test_few_large_values_are_read_at_once_and_many_small_ones(kind: pa.DataType) -> None:
    small, large = ["x"] * 2048, [str(at) * ((4 << 20) - 100) for at in range(9)]
    often = pa.array(large[:1] * 64).cast(kind)  # a dictionary in the file
    assert batches_of(written(pa.table({"text": pa.array(small).cast(kind)}))) == [1024, 1024]
    for column in (pa.array(large).cast(kind), often):
        assert max(batches_of(written(pa.table({"text": column}), compression="none"))) == 8


def test_one_very_large_value_does_not_slow_the_others() -> None:
    data = written(pa.table({"text": ["x" * (33 << 20), *["y"] * 4095]}), compression="none")
    assert batches_of(data) == [1024] * 4


def test_a_dictionary_is_counted_once_however_many_rows_a_row_group_has(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    lengths = unpacked._lengths
    monkeypatch.setattr(unpacked, "_lengths", lambda column: counted.append(len(column.dictionary)) or lengths(column))
    data = written(pa.table({"text": [f"text {at}" for at in range(60_000)]}), row_group_size=60_000)
    assert len(batches_of(data)) == 59
    assert sum(counted) <= 2 * 60_000


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 45))
def test_the_largest_piece_is_found(lengths: list[int], rows: int) -> None:
    pieces = [sum(lengths[start : start + rows]) for start in range(0, len(lengths), rows)]
    assert unpacked._most(pa.array(lengths, pa.int64()), rows) == max(pieces, default=0)


OUT_OF_RANGE = [
    pa.array([1_700_000_000_000], pa.timestamp("s")),
    pa.array([1_700_000_000_000], pa.timestamp("s", "Europe/Berlin")),
    pa.array([-(2**62)], pa.timestamp("ms")),
    pa.array([2**62], pa.timestamp("us")),
    pa.array([2**31 - 1], pa.date32()),
    pa.array([-(2**31)], pa.date32()),
    pa.array([86_400_000 * 5], pa.time32("ms")),
    pa.array([-5], pa.time64("us")),
]


@pytest.mark.parametrize("values", OUT_OF_RANGE, ids=lambda values: str(values.type))
@pytest.mark.parametrize("name", ["id", "label"])
def test_a_date_or_time_out_of_range_is_an_error_where_it_was_asked_for_and_else_none(values: pa.Array, name: str) -> None:
    data = written(pa.table({"text": pa.array(["t"]), name: values}))
    asked = Columns(id="id") if name == "id" else Columns(label="label", label_required=True)
    (row,) = read(data, asked)
    assert (row.defect, row.custom_id) == (f"invalid_field:{name}:a date or a time that there is", None)
    (row,) = read(data)
    assert (row.defect, row.custom_id, row.body) == (None, None, b'{"input":"t"}')


def kept(table: pa.Table, columns: Columns | None = None, limits: FileLimits = LIMITS) -> tuple[Noted, list[NewRow]]:
    noted = Noted()
    return noted, list(parquet_rows([written(table)], columns or Columns(), limits, noted))


def test_a_row_whose_text_or_id_cannot_be_read_keeps_its_other_columns() -> None:
    texts = pa.array([b"\xff", b"c" * 5000, b"d"])
    ids = pa.array([1, 1, 2**31 - 1], pa.int32()).view(pa.date32())
    _, rows = kept(pa.table({"text": texts, "id": ids, "n": [1, 2, 3]}), Columns(id="id"))
    assert [(row.defect, row.columns) for row in rows] == [
        ("invalid_utf8", b"[null,1,1]"),
        ("line_too_long", b"[null,1,2]"),
        ("invalid_field:id:a date or a time that there is", b"[null,2147483647,3]"),
    ]


def test_of_a_row_whose_columns_are_too_long_nothing_is_kept() -> None:
    _, rows = kept(pa.table({"text": pa.array([b"a", b"\xff"]), "more": ["x" * 5000] * 2}))
    assert [(row.defect, row.columns, row.body) for row in rows] == [("line_too_long", None, None), ("invalid_utf8", None, None)]


def test_columns_that_must_be_there_may_be_null_in_what_comes_out() -> None:
    schema = pa.schema([pa.field("text", pa.string(), nullable=False), pa.field("n", pa.int64(), nullable=False)])
    noted, _ = kept(pa.table({"text": ["a"], "n": [1]}, schema))
    assert noted.table is not None
    assert noted.table.schema is not None
    assert [field.nullable for field in pa.ipc.read_schema(pa.py_buffer(noted.table.schema))] == [True, True]


def test_an_id_that_only_looks_like_arrows_words_is_an_id() -> None:
    (row,) = read(written(pa.table({"text": pa.array(["t"]), "id": pa.array(["<value out of range: 1>"])})), Columns(id="id"))
    assert (row.defect, row.custom_id) == (None, "<value out of range: 1>")


def refused_of(table: pa.Table, **options: object) -> str:
    """What an upload of all its columns is refused with."""
    with pytest.raises(Refused) as refusal:
        next(parquet_rows([written(table, **options)], Columns(), FileLimits(), Noted()))
    assert (refusal.value.status, refusal.value.code, refusal.value.param) == (413, "file_too_large", "file")
    return refusal.value.message


def test_wide_bytes_within_objects_count_by_their_width() -> None:
    wide = pa.array([{"b": b"x" * 20_000}] * 2_000, pa.struct([("b", pa.binary(20_000))]))
    assert "once it is unpacked" in refused_of(pa.table({"text": ["a"] * 2_000, "wide": wide}), compression="zstd")
    assert max(batches_of(written(pa.table({"wide": wide[:1500]}), use_dictionary=False, compression="none"))) == 1024


@pytest.mark.parametrize("name", ["a.b", "a.list.element", "b"])
def test_what_is_nested_is_told_by_its_place_and_not_by_its_name(name: str) -> None:
    table = pa.table({"a": pa.array([{"b": "x" * 20_000}] * 2_000), "text": ["a"] * 2_000, name: ["y"] * 2_000})
    assert "once it is unpacked" in refused_of(table, compression="zstd")


def test_of_rows_with_long_lists_few_are_read_at_once() -> None:
    flags = pa.array([[{"f": True}] * 1_000] * 1_030, pa.list_(pa.struct([("f", pa.bool_())])))
    assert max(batches_of(written(pa.table({"flags": flags})))) == 128
    pairs = pa.array([[(str(at), 1.0) for at in range(1_000)]] * 300, pa.map_(pa.string(), pa.float32()))
    assert max(batches_of(written(pa.table({"pairs": pairs})))) == 64


def test_one_row_with_a_very_long_list_is_read_with_few_others_or_refused() -> None:
    def table(items: int) -> pa.Table:
        lists = pa.ListArray.from_arrays(pa.array([0, *[items] * 2_000], pa.int32()), pa.array(range(items), pa.int32()))
        return pa.table({"text": ["a"] * 2_000, "list": lists})

    assert max(batches_of(written(table(300_000)))) == 1024  # 30 MB, and nothing beside them
    assert "take more than 256 MiB" in refused_of(table(3_000_000))


def varint(number: int, length: int) -> bytes:
    """As a footer writes it; longer than it need be."""
    groups = [(2 * number >> 7 * at) & 127 for at in range(length)]
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def test_lists_are_counted_though_the_footer_tells_of_fewer_values() -> None:
    items = 2_500_001
    lists = pa.ListArray.from_arrays(pa.array([0, items], pa.int32()), pa.array([True] * items))
    data = written(pa.table({"text": ["a"], "list": lists}), compression="zstd", write_statistics=False)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    told = data[:footer] + data[footer:].replace(varint(items, 4), varint(7, 4))
    assert pq.ParquetFile(io.BytesIO(told)).metadata.row_group(0).column(1).num_values == 7
    with pytest.raises(Refused, match="once it is unpacked"):
        next(parquet_rows([told], Columns(), FileLimits(), Noted()))


def test_empty_lists_in_lists_count() -> None:
    empty = pa.array([[[]] * 600] * 1_030, pa.list_(pa.list_(pa.int8())))
    assert max(batches_of(written(pa.table({"empty": empty})))) == 512


def test_numbers_and_nulls_that_are_the_same_in_all_rows_count() -> None:
    for same in (pa.array([7] * 20_000), pa.nulls(20_000, pa.string()), pa.array([True] * 20_000)):
        table = pa.table({"text": ["a"] * 20_000, **{f"c{at}": same for at in range(300)}})
        data = written(table, compression="zstd")
        noted = list(parquet_rows([data], Columns(), FileLimits()))
        assert len(noted) == 20_000
        limits = FileLimits(max_unpacked_bytes=90 << 20)
        with pytest.raises(Refused, match="once it is unpacked"):
            next(parquet_rows([data], Columns(), limits, Noted()))


def test_of_wide_rows_few_are_read_at_once() -> None:
    assert max(batches_of(written(pa.table({f"c{at}": [at] * 1_030 for at in range(700)})))) == 256
    assert max(batches_of(written(pa.table({f"c{at}": ["x"] * 1_030 for at in range(700)})))) == 256


def test_a_table_has_a_bounded_number_of_columns() -> None:
    columns = {"text": ["a"], "o": pa.array([{f"c{at}": 1 for at in range(2_600)}])}
    assert len(kept(pa.table(columns))[1]) == 1
    columns["p"] = columns["o"]
    assert "more than 5,000 columns" in refused_of(pa.table(columns))


def test_a_row_group_is_bounded_with_all_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"text": ["x" * 100] * 100, "more": [str(at) * 50 for at in range(100)]})
    monkeypatch.setattr(unpacked, "MAX_ROW_GROUP_BYTES", 12_000)
    assert "smaller row groups" in refused_of(table, use_dictionary=False, compression="none")
    assert len(list(parquet_rows([written(table, use_dictionary=False, compression="none")], Columns(), LIMITS))) == 100


def test_lists_within_lists_without_end_are_refused() -> None:
    kind, value = pa.int8(), 1
    for _ in range(unpacked.MAX_DEPTH + 1):
        kind, value = pa.struct([("a", kind)]), {"a": value}
    refusal = refusal_of(written(pa.table({"text": ["a"], "deep": pa.array([value], kind)})))
    assert refusal.code == "invalid_parquet"


NESTED = [
    pa.array([["ab", None], None, [], ["é"]]),
    pa.array([{"a": "xy", "b": [1, 2]}, None, {"a": None, "b": None}, {"a": "", "b": []}]),
    pa.array([[("k", "v"), ("kk", None)], None, [], [("", "x")]], pa.map_(pa.string(), pa.string())),
    pa.array([[["a"], [], None], None, [], [["b", "c"], ["d"]]]),
    pa.array([["a", "b"], None, [None, "c"], ["d", "e"]], pa.list_(pa.string(), 2)),
    pa.array(["a", None, "bcd", ""]).dictionary_encode(),
]


@pytest.mark.parametrize("column", NESTED, ids=lambda column: str(column.type))
def test_texts_are_counted_in_each_row_however_deep(column: pa.Array) -> None:
    def texts(value: object) -> list[str]:
        if isinstance(value, str):
            return [value]
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return [text for part in parts for text in texts(part)]

    def counted(part: pa.Array) -> tuple[int, list[int]]:
        total, of_rows = unpacked._weighed(part, 0)
        return total, [taken % unpacked.HELD_BYTES for taken in of_rows.to_pylist()]

    lengths = [len("".join(texts(value)).encode()) for value in column.to_pylist()]
    assert counted(column) == (sum(lengths), lengths)
    assert counted(column[1:]) == (sum(lengths[1:]), lengths[1:])
