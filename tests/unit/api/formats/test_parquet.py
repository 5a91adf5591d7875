"""Parquet: types, nulls, many row groups, and files that are none."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.errors import Refused
from api.formats.limits import Columns, FileLimits
from api.formats.parquet import parquet_rows
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


@pytest.mark.parametrize("column", [pa.array([1, 2]), pa.array([b"a", b"b"]), pa.array([["a"], ["b"]]), pa.array([1.5, 2.5])])
def test_a_text_column_of_another_type_is_refused(column: pa.Array) -> None:
    refusal = refusal_of(written(pa.table({"text": column})))
    assert (refusal.code, refusal.param, refusal.status) == ("wrong_column_type", "text_column", 400)


def test_an_id_column_of_another_type_is_refused() -> None:
    refusal = refusal_of(written(pa.table({"text": ["a"], "id": [1.5]})))
    assert (refusal.code, refusal.param) == ("wrong_column_type", "id_column")


def test_a_missing_column_is_told_by_the_names_that_were_looked_for() -> None:
    refusal = refusal_of(written(pa.table({"secret": ["a"]})))
    assert refusal.code == "missing_text_column"
    assert "it has “secret”" in refusal.message
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
