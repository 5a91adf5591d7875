"""Every kind of bad input, through the front door: a clear error for the line or the request, and the neighbours answered."""

import gzip
import io
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from db.connect import Store
from db.settings import Role
from tests.api.conftest import Served
from tests.api.lines import CLASSIFY, classify_line
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of

Stores = Callable[[Role], Store]
GOOD = [classify_line("first", "a text"), classify_line("last", "another")]


def outcomes(served: Served, mill: Mill, data: bytes, **upload: str) -> dict[int, str]:
    """Line → "ok" or the failure's code, after a whole run."""
    defaults = {"labels": ["a", "b"]} if upload.get("purpose") == "rows" else {}
    file_id = served.upload(data, **upload).raise_for_status().json()["id"]
    http = served.http()
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "defaults": defaults}).raise_for_status().json()
    mill.run_all()
    batch = http.get(f"/v1/batches/{batch['id']}").json()
    assert batch["status"] == "completed"
    found = {}
    for result in (batch["output_file_id"], batch["error_file_id"]):
        for text in http.get(f"/v1/files/{result}/content").text.splitlines() if result else ():
            line = json.loads(text)
            found[line["line"]] = "ok" if line["response"]["status_code"] == 200 else line["response"]["body"]["error"]["code"]
    return found


def test_bad_lines_fail_each_with_its_code_and_their_neighbours_are_answered(api: Served, mill: Mill) -> None:
    bad: list[tuple[bytes, str]] = [
        (b'{"custom_id":"ID","method":"POST","url":"/v1/classifications","body":{"input":"\xff"}}\n', "invalid_utf8"),
        (b'{"custom_id":"\xff","method":"POST","url":"/v1/classifications","body":{"input":"a"}}\n', "invalid_utf8"),
        (classify_line("ID", "a\x00b"), "nul_character"),
        (b'{"custom_id":"ID\x00"}\n', "nul_character"),
        (classify_line("ID", "\ud800"), "lone_surrogate"),
        (classify_line("ID").replace(b'"some text"', b"[" * 90 + b"]" * 90), "too_deep"),
        (classify_line("ID").replace(b'"some text"', b"[" * 50_000 + b"]" * 50_000), "too_deep"),
        (classify_line("ID").replace(b'"some text"', b"NaN"), "non_finite_number"),
        (classify_line("ID").replace(b'"some text"', b"1e999"), "non_finite_number"),
        (classify_line("good-0", "again"), "duplicate_custom_id"),
        (classify_line("ID").replace(b'"custom_id": "ID", ', b""), "missing_custom_id"),
        (classify_line("ID").replace(b'"ID"', b"null"), "missing_custom_id"),
        (classify_line("ID").replace(b'"ID"', b"7"), "invalid_custom_id"),
        (classify_line("ID").replace(b"POST", b"PUT"), "wrong_method"),
        (classify_line("ID").replace(CLASSIFY.encode(), b"/v2/nothing"), "wrong_url"),
        (classify_line("ID").replace(CLASSIFY.encode(), b"/v1/embeddings"), "url_mismatch"),
        (classify_line("ID", surprise=1), "unknown_field"),
        (classify_line("ID").replace(b'"method"', b'"manner"'), "unknown_field"),
        (classify_line("ID", ""), "empty_input"),
        (classify_line("ID").replace(b'"input"', b'"label"'), "missing_input"),
        (classify_line("ID").replace(b'"some text"', b"7"), "invalid_field"),
        (classify_line("ID", labels=[]), "too_few_labels"),
        (classify_line("ID", labels=["one"]), "too_few_labels"),
        (classify_line("ID", labels=["a", "a"]), "duplicate_label"),
        (classify_line("ID", labels=["a", " "]), "empty_label"),
        (classify_line("ID", labels=[str(number) for number in range(5001)]), "too_many_labels"),
        (b"[1, 2, 3]\n", "not_an_object"),
        (classify_line("ID")[:40] + b"\n", "invalid_json"),
    ]
    data = b""
    expected = {}
    for number, (line, code) in enumerate(bad):
        data += classify_line(f"good-{number}") + line.replace(b'"ID', b'"bad-%d' % number)
        expected[2 * number + 1] = "ok"
        expected[2 * number + 2] = code
    assert outcomes(api, mill, data + classify_line("last")) == {**expected, 2 * len(bad) + 1: "ok"}


def test_a_line_of_a_hundred_megabytes_fails_alone(api: Served, mill: Mill) -> None:
    huge = b'{"custom_id":"bad","method":"POST","url":"/v1/classifications","body":{"input":"' + b"x" * 100_000_000 + b'"}}\n'
    assert outcomes(api, mill, GOOD[0] + huge + GOOD[1]) == {1: "ok", 2: "line_too_long", 3: "ok"}


def test_what_is_unusual_and_right_is_answered(api: Served, mill: Mill) -> None:
    for data in (
        b"".join(GOOD).rstrip(b"\n"),
        b"".join(GOOD).replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + b"".join(GOOD),
        GOOD[0] + classify_line("last", labels=[f"label {number}" for number in range(5000)]),
    ):
        assert outcomes(api, mill, data) == {1: "ok", 2: "ok"}


def test_blank_lines_between_do_not_matter(api: Served, mill: Mill) -> None:
    assert outcomes(api, mill, b"\n" * 100_000 + GOOD[0] + b"\n" * 100_000 + GOOD[1]) == {100_001: "ok", 200_002: "ok"}


def test_a_csv_file_keeps_quotes_and_newlines(api: Served, mill: Mill) -> None:
    data = b'id,text\r\n1,"say ""hi"",\r\nplease"\r\n2,\r\n3,"open\r\n4,d\r\n'
    found = outcomes(api, mill, data, purpose="rows", name="a.csv")
    assert found == {2: "ok", 4: "empty_input", 5: "stray_quote", 6: "ok"}


def test_a_bad_file_is_refused_as_a_whole(api: Served) -> None:
    for data, name, code in (
        (b"", "a.jsonl", "empty_file"),
        (b"\n" * 1_000_000, "a.jsonl", "empty_file"),
        ('{"text":"a"}\n'.encode("utf-16"), "a.jsonl", "not_utf8"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00", "a.jsonl", "compressed_file"),
        (b"id,words\n1,a\n", "a.csv", "missing_text_column"),
        (b"id,text,text\n1,a,b\n", "a.csv", "duplicate_column"),
        (b'{"id":1,"body":"a"}\n', "a.jsonl", "missing_text_column"),
        (b'[{"text":"a"}]', "a.jsonl", "json_array"),
        (b'{"text":"a"},\n{"text":"b"}\n', "a.jsonl", "json_commas"),
        (b'{\n"text":"a"\n}\n', "a.jsonl", "multiline_json"),
        (b"id,text\n1,a\n", "a.jsonl", "not_json_lines"),
        (gzip.compress(b"")[:-4], "a.csv.gz", "compressed_file"),
        (gzip.compress(b""), "a.txt.gz", "empty_file"),
        (gzip.compress(gzip.compress(b"one")), "a.txt.gz.gz", "compressed_file"),
        (gzip.compress(b"PAR1"), "a.parquet", "compressed_file"),
        (b"one\rtwo", "a.txt", "wrong_line_ends"),
        (b"%PDF-1.7", "a.txt", "wrong_format"),
        (b"", "a.csv", "empty_file"),
        (b"text\n", "a.csv", "empty_file"),
        (b"PAR1 not parquet PAR1", "a.parquet", "invalid_parquet"),
        (b"", "a.parquet", "invalid_parquet"),
    ):
        assert error_of(api.upload(data, name, purpose="rows"))[:2] == (400, code), name


def test_plain_lines_and_compressed_files_are_read(api: Served, mill: Mill) -> None:
    assert outcomes(api, mill, b"a\n\nb", purpose="rows", name="a.txt") == {1: "ok", 3: "ok"}
    assert outcomes(api, mill, gzip.compress(b"id\ttext\n1\ta\n"), purpose="rows", name="a.tsv.gz") == {2: "ok"}
    assert outcomes(api, mill, pa.compress(b"".join(GOOD), "zstd", asbytes=True), name="a.jsonl.zst") == {1: "ok", 2: "ok"}
    assert outcomes(api, mill, b"".join(GOOD), name="batch.txt") == {1: "ok", 2: "ok"}  # a batch is JSON lines, whatever its name


def test_a_bomb_is_refused_and_leaves_nothing(api: Served) -> None:
    for data, name in (
        (gzip.compress(b"\n" * (64 << 20)), "a.txt.gz"),
        (pa.compress(b"id,text\n" + b'x","\n' * (16 << 20), "zstd", asbytes=True), "a.csv.zst"),
    ):
        before = api.http().get("/v1/files").json()["data"]
        assert error_of(api.upload(data, name, purpose="rows"))[:2] == (413, "file_too_large")
        assert api.http().get("/v1/files").json()["data"] == before


def test_plain_lines_have_neither_columns_nor_labels(api: Served) -> None:
    assert error_of(api.upload(b"a\n", "a.txt", purpose="rows", id_column="id")) == (400, "invalid_field", "id_column")
    assert error_of(api.upload(b"a\n", "a.txt", purpose="train")) == (400, "invalid_format", "format")


def test_a_parquet_file_of_the_wrong_type_is_refused(api: Served) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": [1, 2]}), sink)
    assert error_of(api.upload(sink.getvalue(), "a.parquet", purpose="rows")) == (400, "wrong_column_type", "text_column")


def test_nothing_of_a_bad_line_is_in_its_error(api: Served, mill: Mill) -> None:
    secret = "my-own-words"
    bad = [
        f"{{broken {secret}\n".encode(),
        classify_line("b1", **{secret: 1}),
        classify_line("b2", labels=[secret, secret]),
        classify_line("b3", model=[secret]),
        f'{{"custom_id":"b4","method":"{secret}","url":"{secret}","body":"{secret}"}}\n'.encode(),
    ]
    file_id = api.upload(b"".join([*bad, *GOOD])).json()["id"]
    http = api.http()
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY}).json()
    mill.run_all()
    text = http.get(f"/v1/files/{batch['id'].replace('batch_', 'file-e')}/content").text
    assert len(text.splitlines()) == len(bad)
    assert secret not in text
