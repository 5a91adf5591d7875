"""``GET /v1/batches/{id}/table``: the user's table with the results behind its own columns."""

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import text

from db.settings import Role
from tests.api.conftest import Served
from tests.api.mill import Mill, Stores
from tests.api.routes.test_files import error_of

DEFAULTS = {"model": "fake-encoder", "labels": ["a", "b"]}
CSV = b'id,text,price,label\r\n1,"one, two",3.50,old\r\n2,,4,\r\n3,"fi\nve",,new\r\n'


def run(api: Served, mill: Mill, data: bytes, name: str, **fields: str) -> str:
    file = api.upload(data, name, purpose="rows", **fields).json()
    body = {"input_file_id": file["id"], "endpoint": "/v1/classifications", "completion_window": "24h", "defaults": DEFAULTS}
    batch = api.http().post("/v1/batches", json=body).json()
    mill.run_all()
    return str(batch["id"])


def table(api: Served, batch_id: str, **parameters: Any) -> bytes:
    response = api.http().get(f"/v1/batches/{batch_id}/table", params=parameters)
    assert response.status_code == 200, response.text
    return response.content


def records(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def test_a_csv_comes_back_with_its_columns_in_its_order_and_ours_behind_them(api: Served, mill: Mill) -> None:
    batch_id = run(api, mill, CSV, "t.csv")
    header, *rows = records(table(api, batch_id, format="csv"))
    assert header == ["id", "text", "price", "label", "label_2", "score", "truncated", "chunks", "error", "message"]
    assert [row[:4] for row in rows] == [["1", "one, two", "3.50", "old"], ["2", "", "4", ""], ["3", "fi\nve", "", "new"]]
    assert [row[4] in {"a", "b"} for row in rows] == [True, False, True]
    assert rows[1][8] == "empty_input"


def test_columns_can_be_picked_or_left_out(api: Served, mill: Mill) -> None:
    batch_id = run(api, mill, CSV, "t.csv")
    picked = records(table(api, batch_id, format="csv", columns=["label_2", "price", "row"]))
    assert picked[0] == ["label_2", "price", "row"]
    assert [row[1:] for row in picked[1:]] == [["3.50", "1"], ["4", "2"], ["", "3"]]
    bare = records(table(api, batch_id, format="csv", input=False))
    assert bare[0] == ["row", "line", "id", "label", "score", "truncated", "chunks", "error", "message"]
    assert [row[:3] for row in bare[1:]] == [["1", "2", "1"], ["2", "3", "2"], ["3", "4", "3"]]
    refused = api.http().get(f"/v1/batches/{batch_id}/table", params={"columns": ["prize"]})
    assert error_of(refused)[:2] == (400, "unknown_column")
    assert "“price”" in refused.text


def test_lines_of_json_keep_their_fields_as_they_were_written(api: Served, mill: Mill) -> None:
    lines = b'{"n": 1.50, "text": "one", "deep": {"a": [null]}}\n{"text": "two", "id": 7}\n{"n": 12345678901234567890}\nnonsense\n'
    batch_id = run(api, mill, lines, "t.jsonl")
    found = [json.loads(line) for line in table(api, batch_id).splitlines()]
    assert [{name: row[name] for name in row if name in {"n", "text", "deep", "id"}} for row in found] == [
        {"n": 1.5, "text": "one", "deep": {"a": [None]}},
        {"text": "two", "id": 7},
        {"n": 12345678901234567890},
        {},
    ]
    assert [list(row)[-3:] for row in found[:2]] == [["label", "score", "scores"]] * 2
    assert [row.get("error") for row in found] == [None, None, "missing_text_column", "invalid_json"]
    in_csv = records(table(api, batch_id, format="csv", columns=["n", "deep", "text"]))
    assert in_csv == [
        ["n", "deep", "text"],
        ["1.50", '{"a": [null]}', "one"],
        ["", "", "two"],
        ["12345678901234567890", "", ""],
        ["", "", ""],
    ]
    in_parquet = parquet.read_table(io.BytesIO(table(api, batch_id, format="parquet", columns=["n", "id"])))
    assert in_parquet.column("n").to_pylist() == ["1.50", None, "12345678901234567890", None]
    assert in_parquet.column("id").to_pylist() == [None, 7, None, None]


def test_the_columns_of_a_parquet_file_keep_their_types(api: Served, mill: Mill) -> None:
    source = pa.table(
        {
            "when": pa.array([2**60 + 1, None], pa.timestamp("ns", tz="UTC")),
            "text": pa.array(["one", None], pa.large_string()),
            "price": pa.array(["1.10", "2.00"]).cast(pa.decimal128(9, 2)),
            "tags": pa.array([["x"], None]),
            "id": pa.array([5, 6], pa.uint8()),
        },
    ).replace_schema_metadata({"pandas": "{}"})
    data = io.BytesIO()
    parquet.write_table(source, data)
    batch_id = run(api, mill, data.getvalue(), "t.parquet")
    found = parquet.read_table(io.BytesIO(table(api, batch_id, format="parquet")))
    assert found.select(source.column_names).equals(source)
    assert found.schema.metadata[b"pandas"] == b"{}"
    assert found.column_names == [*source.column_names, "label", "score", "scores", "truncated", "chunks", "error", "message"]
    assert found.column("error").to_pylist() == [None, "missing_input"]
    rows = records(table(api, batch_id, format="csv", columns=source.column_names))
    assert rows[1] == ["2006-07-14T23:58:24.606846977Z", "one", "1.10", '["x"]', "5"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.txt", b"one\ncaf\xe9\n"),
        ("t.jsonl", b'{"text":"one"}\n{"text":"caf\xe9","n":2}\n'),
        ("t.csv", b"text\none\n\xe9\n"),
    ],
)
def test_a_line_that_is_not_utf8_costs_no_other_its_place(api: Served, mill: Mill, name: str, data: bytes) -> None:
    batch_id = run(api, mill, data, name)
    good, bad = (json.loads(line.decode()) for line in table(api, batch_id).splitlines())
    assert (good["text"], bad["error"]) == ("one", "invalid_utf8")
    assert [row[0] for row in records(table(api, batch_id, format="csv", columns=["text"]))][:2] == ["text", "one"]
    assert parquet.read_table(io.BytesIO(table(api, batch_id, format="parquet"))).num_rows == 2


def test_whatever_a_field_holds_it_comes_back_and_a_column_holds_what_fits(api: Served, mill: Mill) -> None:
    lines = [
        b'{"text":"a","n":1,"whole":1,"mixed":9007199254740993}',
        b'{"text":"b","n":1.5,"whole":-9223372036854775808,"mixed":1.5}',
        b'{"text":"c","n":1' + b"0" * 4_400 + b"}",
        b'{"text":"d","text":"e","n":"many","whole":[]}',
        b'{"text":"f","n":1e999,"whole":null}',
    ]
    batch_id = run(api, mill, b"\n".join(lines), "t.jsonl")
    assert b"9007199254740993" in table(api, batch_id)
    found = parquet.read_table(io.BytesIO(table(api, batch_id, format="parquet")))
    assert found.column("whole").to_pylist() == [1, -(2**63), None, None, None]
    assert found.column("mixed").to_pylist()[:2] == ["9007199254740993", "1.5"]
    assert found.column("n").to_pylist()[:2] == ["1", "1.5"]


def test_lines_that_have_their_text_in_other_fields_keep_each_its_own(api: Served, mill: Mill) -> None:
    lines = [
        {"text": "a", "n": 1},
        {"input": "b"},
        {"text": "c", "input": "other"},
        {"text": "keep", "messages": [{"role": "user", "content": "d"}]},
    ]
    batch_id = run(api, mill, b"\n".join(json.dumps(line).encode() for line in lines), "t.jsonl")
    found = [json.loads(line) for line in table(api, batch_id).splitlines()]
    assert [{name: row[name] for name in row if name in {"text", "input", "n", "messages"}} for row in found] == lines


def test_a_header_of_very_many_columns_is_refused_and_one_with_empty_cells_behind_is_not(api: Served, mill: Mill) -> None:
    assert error_of(api.upload(b"text," + b"a," * 5_000 + b"b\n1\n", "t.csv", purpose="rows"))[:2] == (400, "too_many_columns")
    batch_id = run(api, mill, b"text,more" + b"," * 16_000 + b"\none,two\n", "t.csv")
    assert records(table(api, batch_id, format="csv"))[0][:2] == ["text", "more"]


def test_lines_of_json_have_more_fields_than_a_table_has_columns(api: Served, mill: Mill) -> None:
    line = {"text": "a"} | {f"f{number}": number for number in range(5_200)}
    batch_id = run(api, mill, json.dumps(line).encode(), "t.jsonl")
    found = json.loads(table(api, batch_id))
    assert line.items() <= found.items()


def test_what_an_answer_says_beside_its_columns_is_in_lines_of_json(api: Served, mill: Mill) -> None:
    data = b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"fake-encoder","input":["one","two"]}}'
    file = api.upload(data, "t.jsonl").json()
    batch = (
        api.http().post("/v1/batches", json={"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}).json()
    )
    mill.run_all()
    found = json.loads(table(api, batch["id"]))
    assert (found["id"], len(found["embeddings"])) == ("a", 2)


def test_a_file_that_has_expired_is_in_no_table_before_its_rows_are_gone(api: Served, mill: Mill, stores: Stores) -> None:
    batch_id = run(api, mill, CSV, "t.csv")
    batch = api.http().get(f"/v1/batches/{batch_id}").json()
    with stores(Role.API).transaction(tenant=api.actor.tenant_id) as conn:
        conn.execute(text("UPDATE files SET expires_at = now() - interval '1 second'"))
    assert records(table(api, batch_id, format="csv"))[0][:3] == ["row", "line", "id"]
    lines = api.http().get(f"/v1/files/{batch['output_file_id']}/content", params={"input": True})
    assert lines.status_code == 404
    assert api.http().get(f"/v1/files/{batch['output_file_id']}/content").status_code == 200


def test_plain_lines_are_a_table_of_one_column(api: Served, mill: Mill) -> None:
    batch_id = run(api, mill, b"one\n\ntwo\n", "t.txt")
    assert [row[0] for row in records(table(api, batch_id, format="csv"))] == ["text", "one", "two"]


def test_of_a_file_that_was_deleted_results_stand_alone(api: Served, mill: Mill) -> None:
    batch_id = run(api, mill, CSV, "t.csv")
    file_id = api.http().get(f"/v1/batches/{batch_id}").json()["input_file_id"]
    told = api.http().get(f"/v1/files/{file_id}/columns").json()
    assert (told["names"], told["text"]) == (["id", "text", "price", "label"], "text")
    assert api.http().delete(f"/v1/files/{file_id}").status_code == 200
    assert records(table(api, batch_id, format="csv"))[0][:4] == ["row", "line", "id", "label"]


def test_a_job_whose_results_were_deleted_has_no_table(api: Served, mill: Mill) -> None:
    batch_id = run(api, mill, CSV, "t.csv")
    batch = api.http().get(f"/v1/batches/{batch_id}").json()
    for file_id in (batch["output_file_id"], batch["error_file_id"]):
        api.http().delete(f"/v1/files/{file_id}")
    assert api.http().get(f"/v1/batches/{batch_id}/table").status_code == 404


def test_vectors_are_not_put_into_a_csv(api: Served, mill: Mill) -> None:
    file = api.upload(b"text\none\n", "t.csv", purpose="rows").json()
    body = {"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h", "defaults": {"model": "fake-encoder"}}
    batch = api.http().post("/v1/batches", json=body).json()
    mill.run_all()
    refused = api.http().get(f"/v1/batches/{batch['id']}/table", params={"format": "csv"})
    assert error_of(refused)[:2] == (400, "invalid_format")
    assert json.loads(table(api, batch["id"]))["text"] == "one"


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_lines_of_results_bring_what_is_kept_of_their_rows(api: Served, mill: Mill, name: str) -> None:
    data = b"text,more\none,two\n" if name == "t.csv" else b'{"text":"one","more":"two"}\n'
    batch_id = run(api, mill, data + (b"x\n" if name == "t.jsonl" else b"\xff,x\n"), name)
    batch = api.http().get(f"/v1/batches/{batch_id}").json()
    good, bad = (
        json.loads(api.http().get(f"/v1/files/{batch[file]}/content", params={"input": True}).content)["input"]
        for file in ("output_file_id", "error_file_id")
    )
    assert good == {"body": {"input": "one"}, "columns": [None, "two"] if name == "t.csv" else {"more": "two"}}
    assert bad == ({"body": None, "columns": None} if name == "t.csv" else {"body": "x", "columns": None})


def test_no_table_is_told_to_another_tenant(api: Served, mill: Mill) -> None:
    assert api.http().get(f"/v1/batches/batch_{'0' * 32}/table").status_code == 404


def test_rows_that_cannot_be_read_and_cells_of_odd_types_stop_no_table(api: Served, mill: Mill) -> None:
    late = pa.array([1, 2**31 - 1, 3], pa.int32()).view(pa.date32())
    there = pa.schema(
        [pa.field("text", pa.uuid(), nullable=False), pa.field("n", pa.int64(), nullable=False), ("deep", pa.struct([("d", late.type)]))]
    )
    deep = pa.StructArray.from_arrays([late], names=["d"])
    source = pa.table([pa.array([b"a" * 16, b"b" * 16, b"c" * 16], pa.uuid()), pa.array([1, 2, 3]), deep], schema=there)
    source = source.append_column("when", pa.array([0, 1, None], pa.int64()).view(pa.timestamp("us", "Foo/Bar")))
    source = source.append_column("long", pa.array(["", "x" * (9 << 20), None]))  # more than a line may have
    data = io.BytesIO()
    parquet.write_table(source, data)
    batch_id = run(api, mill, data.getvalue(), "t.parquet")
    names = ["text", "n", "deep", "when"]
    rows = records(table(api, batch_id, format="csv", columns=names))[1:]
    assert rows[0] == ["61616161-6161-6161-6161-616161616161", "1", '{"d":"1970-01-02"}', "1970-01-01T00:00:00.000000Z"]
    assert [row[1:] for row in rows[1:]] == [["", "", ""], ["3", '{"d":"1970-01-04"}', ""]]
    found = parquet.read_table(io.BytesIO(table(api, batch_id, format="parquet", columns=names)))
    assert found.column("deep").combine_chunks().field("d").view(pa.int32()).to_pylist()[::2] == [1, 3]
    assert found.column("n").to_pylist() == [1, None, 3]
    assert len(table(api, batch_id).splitlines()) == 3
