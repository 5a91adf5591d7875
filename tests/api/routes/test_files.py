"""`/v1/files`: what is uploaded, shown, listed, read back and deleted."""

import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from api.streams import sizes
from db.connect import Store
from db.errors import AnotherSchema, AuditUnavailable
from db.files.purge import FilePurge
from db.files.rows import RowWriter
from db.operators.api_keys import SCOPES, create_api_key
from db.operators.tenants import create_tenant
from db.purging import ERASED_AT_ONCE, Lasting
from db.schema import files, rows
from db.settings import Role
from tests.api.conftest import Served
from tests.api.lines import CLASSIFY, ROWS, classify_file, classify_line
from tests.api.mill import Mill
from tests.looking import on_record
from tests.waiting import wait_until

Stores = Callable[[Role], Store]


def count_of(stores: Stores, served: Served) -> tuple[int, int]:
    """Files and rows of the tenant."""
    with on_record(stores(Role.API), served.actor.tenant_id) as connection:
        return tuple(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in (files, rows))  # type: ignore[return-value]


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"], error["param"]


def test_an_uploaded_file_is_shown_as_it_was(api: Served, mill: Mill) -> None:
    data = classify_file(3) + b"broken\n"
    created = api.upload(data, "my texts.jsonl").json()
    assert (created["filename"], created["bytes"], created["status"], created["object"]) == (
        "my texts.jsonl",
        len(data),
        "processed",
        "file",
    )
    content = api.http().get(f"/v1/files/{created['id']}/content").content
    assert created["textmill"] == {"rows": 4, "defective_rows": 1, "content_bytes": len(content)}
    assert abs(created["created_at"] - time.time()) < 60
    assert created["expires_at"] is None
    assert api.http().get(f"/v1/files/{created['id']}").json() == created


def test_a_file_is_read_back_line_by_line(api: Served) -> None:
    lines = [classify_line("a"), b'{"custom_id": 7}\n', b"not json\n", classify_line("a", "twice")]
    file_id = api.upload(b"\n".join(lines)).json()["id"]
    response = api.http().get(f"/v1/files/{file_id}/content")
    assert response.headers["content-type"] == "application/jsonl"
    got = response.text.splitlines()
    assert [json.loads(line) for line in (got[0], got[3])] == [json.loads(line) for line in (lines[0], lines[3])]
    assert got[1:3] == ['{"custom_id": 7}', "not json"]


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")], ids=["as Python writes it", "as JavaScript does"])
def test_a_batch_file_comes_back_byte_for_byte(api: Served, separators: tuple[str, str]) -> None:
    bodies: list[dict[str, object]] = [{"input": 'a: "b", c', "labels": ["x", "y"]}, {"labels": ["x", "y"], "input": "é"}, {"input": ""}]
    told = {"method": "POST", "url": "/v1/classifications"}
    lines = [json.dumps({"custom_id": f"r {at}", **told, "body": body}, separators=separators) for at, body in enumerate(bodies)]
    sent = "".join(f"{line}\n" for line in lines).encode()
    file = api.upload(sent).json()
    assert api.http().get(f"/v1/files/{file['id']}/content").content == sent
    assert file["bytes"] == file["textmill"]["content_bytes"] == len(sent)


def test_plain_rows_are_read_back_as_json_lines(api: Served) -> None:
    file_id = api.upload(b"id,text,label\n1,hello,x\n2\n,world,\n", "a.csv", purpose="rows").json()["id"]
    lines = [json.loads(line) for line in api.http().get(f"/v1/files/{file_id}/content").text.splitlines()]
    assert lines[0] == {"id": "1", "input": "hello", "label": "x"}
    assert (lines[1]["line"], lines[1]["error"]["code"]) == (3, "wrong_cell_count")
    assert lines[2] == {"input": "world"}


def test_how_large_a_file_is_as_it_is_read_back_is_told(api: Served) -> None:
    """`bytes` is what was uploaded; its rows come back as JSON lines, which are of another size."""
    batch = classify_line("é") + b" \n" + classify_line("é") + b'not json\n{"custom_id": "\\ud800", "method": "POST"}\n' + b"x" * 3_000_000
    plain = b'{"id": "six",  "text": "a",\t"label": "l"}\n{"text": ""}\n'
    for response in (
        api.upload(batch),
        api.upload(plain, purpose="rows"),
        api.upload(b'id,text,label\n1,"hello, you",x\n2\n,w\xff,\n', "a.csv", purpose="rows"),
    ):
        file = response.json()
        content = api.http().get(f"/v1/files/{file['id']}/content").content
        assert file["textmill"]["content_bytes"] == len(content) != file["bytes"]


def test_the_format_follows_the_name_or_the_field(api: Served, mill: Mill) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"]}), sink)
    uploads = [
        api.upload(b"text\na\nb\n", "x.csv", purpose="rows"),
        api.upload(b"text\tid\na\t1\nb\t2\n", "x.tsv", purpose="rows"),
        api.upload(b"wer;was\na;b\nb;c\n", "x", purpose="rows", format="csv", delimiter=";", text_column="was"),
        api.upload(sink.getvalue(), "x.parquet", purpose="rows"),
        api.upload(sink.getvalue(), "x", purpose="rows", format="parquet"),
        api.upload(b'{"text":"a"}\n{"input":"b"}', "x.jsonl", purpose="rows"),
        api.upload(b'{"text":"a","label":"x"}\n{"text":"b","label":"y"}', "x", purpose="train"),
    ]
    told = [(response.status_code, response.json()["textmill"]) for response in uploads]
    assert [(status, known["rows"], known["defective_rows"]) for status, known in told] == [(200, 2, 0)] * 7


def test_fields_after_the_file_are_taken_when_they_change_nothing(api: Served) -> None:
    def form(*parts: tuple[str, bytes]) -> httpx.Response:
        body = b"".join(b'--b\r\nContent-Disposition: form-data; name="%b\r\n\r\n%b\r\n' % (name.encode(), data) for name, data in parts)
        headers = {"content-type": "multipart/form-data; boundary=b"}
        return api.http().post("/v1/files", content=body + b"--b--\r\n", headers=headers)

    file = ('file"; filename="a.jsonl"', classify_file())
    assert form(file, ('purpose"', b"batch")).status_code == 200
    assert error_of(form(file, ('purpose"', b"rows"))) == (400, "fields_after_file", "purpose")
    assert error_of(form(file)) == (400, "missing_field", "purpose")
    assert error_of(form(('purpose"', b"batch"))) == (400, "missing_file", "file")
    assert error_of(form(('purpose"', b"batch"), file, file)) == (400, "invalid_form", "file")
    for nameless in ('file"', 'file"; filename=""', "file\"; filename*=UTF-8''"):
        refused = form(('purpose"', b"batch"), (nameless, classify_file()))
        assert error_of(refused) == (400, "missing_file", "file")
        assert "has no filename" in refused.json()["error"]["message"]
    assert form(('purpose"', b"batch"), ("file\"; filename*=UTF-8''t%C3%A9.jsonl", classify_file())).json()["filename"] == "té.jsonl"


def test_a_file_may_expire(api: Served) -> None:
    created = api.upload(classify_file(), **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}).json()
    assert abs(created["expires_at"] - created["created_at"] - 3600) <= 2
    for wrong in ("3599", "2592001", "-1", "soon", "9" * 400):
        assert error_of(api.upload(classify_file(), **{"expires_after[seconds]": wrong}))[:2] == (400, "invalid_field")


def test_a_form_that_asks_for_the_impossible_is_refused_and_leaves_nothing(api: Served, stores: Stores) -> None:
    impossible: list[tuple[dict[str, str], str]] = [
        ({"purpose": "fine-tune"}, "invalid_purpose"),
        ({"format": "xml"}, "invalid_format"),
        ({"format": "csv"}, "invalid_format"),
        ({"purpose": "rows", "format": "csv", "delimiter": "xx"}, "invalid_delimiter"),
        ({"surprise": "1"}, "unknown_field"),
    ]
    for fields, code in impossible:
        assert error_of(api.upload(classify_file(), **fields))[:2] == (400, code)
    assert count_of(stores, api) == (0, 0)


def test_a_file_without_rows_is_refused_and_leaves_nothing(api: Served, stores: Stores) -> None:
    for data in (b"", b"\n", b"\n" * 1_000_000, b"\xef\xbb\xbf", b"  \r\n \n"):
        assert error_of(api.upload(data))[:2] == (400, "empty_file")
    assert count_of(stores, api) == (0, 0)


def test_lists_are_paged_ordered_and_filtered(api: Served) -> None:
    made = [api.upload(classify_file()).json()["id"] for _ in range(3)]
    made.append(api.upload(b'{"text":"a"}', purpose="rows").json()["id"])
    http = api.http()
    first = http.get("/v1/files", params={"limit": 3}).json()
    assert [file["id"] for file in first["data"]] == made[:0:-1]
    assert (first["object"], first["has_more"], first["first_id"], first["last_id"]) == ("list", True, made[3], made[1])
    rest = http.get("/v1/files", params={"limit": 3, "after": first["last_id"]}).json()
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([made[0]], False)
    oldest_first = http.get("/v1/files", params={"order": "asc", "purpose": "batch"}).json()
    assert [file["id"] for file in oldest_first["data"]] == made[:3]
    empty = http.get("/v1/files", params={"purpose": "train"}).json()
    assert (empty["data"], empty["first_id"], empty["last_id"], empty["has_more"]) == ([], None, None, False)
    assert error_of(http.get("/v1/files", params={"after": "file-nonsense"}))[0] == 404
    assert error_of(http.get("/v1/files", params={"limit": "many"})) == (400, "invalid_field", "limit")
    assert error_of(http.get("/v1/files", params={"order": "sideways"})) == (400, "invalid_field", "order")


def test_a_file_in_use_is_not_deleted(api: Served) -> None:
    file_id = api.upload(classify_file()).json()["id"]
    http = api.http()
    http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "completion_window": "1h"}).raise_for_status()
    response = http.delete(f"/v1/files/{file_id}")
    assert error_of(response)[:2] == (409, "file_in_use")
    assert response.headers["x-should-retry"] == "false"
    assert http.get(f"/v1/files/{file_id}").status_code == 200


def test_a_deleted_file_is_gone_with_its_rows(api: Served, stores: Stores) -> None:
    file_id = api.upload(classify_file()).json()["id"]
    http = api.http()
    assert http.delete(f"/v1/files/{file_id}").json() == {"id": file_id, "object": "file", "deleted": True}
    for response in (http.get(f"/v1/files/{file_id}"), http.get(f"/v1/files/{file_id}/content"), http.delete(f"/v1/files/{file_id}")):
        assert error_of(response)[0] == 404
    assert count_of(stores, api)[1] == 0


def test_a_large_file_and_a_large_job_are_gone_at_once_and_answered_while_their_rows_are_erased(api: Served) -> None:
    http = api.http()
    file_id = api.upload(classify_file(ERASED_AT_ONCE + 1)).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "completion_window": "1h"}).json()
    for path, kind in ((f"/v1/batches/{batch['id']}", "batch"), (f"/v1/files/{file_id}", "file")):
        response = http.delete(path)
        expected = {"id": path.rpartition("/")[2], "object": kind, "deleted": True, "state": "deleting"}
        assert (response.status_code, response.json()) == (202, expected)
        assert error_of(http.get(path))[:2] == (404, "not_found")


def test_a_jobs_files_expire_where_that_was_asked_for(api: Served, mill: Mill) -> None:
    http = api.http()
    request = {"input_file_id": api.upload(classify_file()).json()["id"], "endpoint": CLASSIFY, "completion_window": "1h"}
    expiring = http.post("/v1/batches", json={**request, "output_expires_after": {"anchor": "created_at", "seconds": 7200}}).json()
    lasting = http.post("/v1/batches", json=request).json()
    mill.run_all()
    ended, kept = (http.get(f"/v1/batches/{batch['id']}").json() for batch in (expiring, lasting))
    shown = http.get(f"/v1/files/{ended['output_file_id']}").json()
    assert shown["expires_at"] == ended["completed_at"] + 7200
    assert shown in http.get("/v1/files", params={"purpose": "batch_output"}).json()["data"]
    assert http.get(f"/v1/files/{kept['output_file_id']}").json()["expires_at"] is None


def test_results_can_be_read_while_the_job_runs(api: Served, mill: Mill) -> None:
    file_id = api.upload(classify_file(ROWS)).json()["id"]
    http = api.http()
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "completion_window": "1h"}).json()
    output = batch["id"].replace("batch_", "file-o")
    assert http.get(f"/v1/files/{output}/content").content == b""
    mill.cut(shard_chars=1)
    mill.run_one_shard()
    lines = http.get(f"/v1/files/{output}/content").text.splitlines()
    assert 0 < len(lines) < ROWS
    assert [json.loads(line)["row"] for line in lines] == list(range(1, len(lines) + 1))
    assert http.get(f"/v1/batches/{batch['id']}").json()["textmill"]["readable_rows"] == len(lines)
    running = http.get(f"/v1/batches/{batch['id']}").json()
    assert (running["status"], running["output_file_id"]) == ("in_progress", None)
    assert running["textmill"]["output_file_id"] == output
    assert running["request_counts"]["completed"] == len(lines)
    told = http.get(f"/v1/files/{output}").json()
    assert (told["bytes"], told["textmill"]) == (0, {"complete": False, "rows": len(lines), "exact_bytes": False})


def test_results_are_read_on_from_the_line_where_a_reader_was_cut_off(api: Served, mill: Mill) -> None:
    http = api.http()
    file_id = api.upload(classify_file(ROWS)).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "completion_window": "1h"}).json()
    mill.run_all()
    content = f"/v1/files/{batch['id'].replace('batch_', 'file-o')}/content"
    whole = http.get(content).content
    lines = whole.splitlines(keepends=True)
    for got in (1, len(lines) // 2, len(lines)):
        last = json.loads(lines[got - 1])["id"]
        assert b"".join(lines[:got]) + http.get(content, params={"after": last}).content == whole
    other_job = f"batch_req_{'0' * 32}00000001"
    for after in ("", "line-3", last[:-1], f"{last[:-8]}7fffffff", f"{last[:-8]}ffffffff", other_job):
        assert error_of(http.get(content, params={"after": after})) == (404, "not_found", None)
    assert error_of(http.get(f"/v1/files/{file_id}/content", params={"after": last})) == (400, "invalid_after", "after")


def test_a_result_file_without_a_row_is_empty_while_the_job_runs_and_after_its_end(api: Served, mill: Mill) -> None:
    """Whoever asks for it while the job ends finds it as empty as a moment before."""
    http = api.http()
    file_id = api.upload(classify_file(2)).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "completion_window": "1h"}).json()
    output, errors = (batch["id"].replace("batch_", f"file-{letter}") for letter in "oe")
    for _ in range(2):
        response = http.get(f"/v1/files/{errors}/content")
        assert (response.status_code, response.content) == (200, b"")
        mill.run_all()
    assert http.get(f"/v1/batches/{batch['id']}").json()["error_file_id"] is None
    assert http.get(f"/v1/files/{errors}").status_code == 404
    http.delete(f"/v1/files/{output}").raise_for_status()
    assert http.get(f"/v1/files/{output}/content").status_code == 404, "what was deleted is gone, not empty"
    assert http.get(f"/v1/files/{'file-e' + '0' * 32}/content").status_code == 404


def test_lines_tell_the_row_and_where_it_begins_in_the_file(api: Served, mill: Mill) -> None:
    http = api.http()
    file_id = api.upload(b'text\n"two\nlines"\n\nplain\n""\nlast\n', "a.csv", purpose="rows").json()["id"]
    request = {"input_file_id": file_id, "endpoint": CLASSIFY, "completion_window": "1h", "defaults": {"labels": ["a", "b"]}}
    batch = http.post("/v1/batches", json=request).json()
    mill.run_all()
    for letter, places in (("o", [(1, 2), (2, 5), (4, 7)]), ("e", [(3, 6)])):
        lines = http.get(f"/v1/files/{batch['id'].replace('batch_', f'file-{letter}')}/content").text.splitlines()
        assert [(json.loads(line)["row"], json.loads(line)["line"]) for line in lines] == places


def test_result_files_are_listed_with_their_size(api: Served, mill: Mill) -> None:
    http = api.http()
    file_id = api.upload(classify_line("ü", "") + classify_file(30)).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "completion_window": "1h"}).json()
    assert http.get("/v1/files", params={"purpose": "batch_output"}).json()["data"] == []
    mill.run_all()
    batch = http.get(f"/v1/batches/{batch['id']}").json()
    listed = http.get("/v1/files", params={"purpose": "batch_output"}).json()["data"]
    assert [file["id"] for file in listed] == [batch["error_file_id"], batch["output_file_id"]]
    for file, row_count in zip(listed, (1, 30), strict=True):
        assert file["bytes"] == len(http.get(f"/v1/files/{file['id']}/content").content)
        assert (file["purpose"], file["textmill"]) == ("batch_output", {"complete": True, "rows": row_count, "exact_bytes": True})
        assert http.get(f"/v1/files/{file['id']}").json() == file
    assert [file["id"] for file in http.get("/v1/files").json()["data"]] == [batch["error_file_id"], batch["output_file_id"], file_id]
    first = http.get("/v1/files", params={"limit": 1}).json()
    rest = http.get("/v1/files", params={"limit": 5, "after": first["last_id"]}).json()
    assert [file["id"] for file in rest["data"]] == [batch["output_file_id"], file_id]
    assert [file.id for file in api.openai().files.list(purpose="batch_output", limit=1)] == [file["id"] for file in listed]


def test_a_large_result_file_is_told_from_its_first_rows(api: Served, mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "BUDGET_ROWS", 300)
    http = api.http()
    file_id = api.upload(classify_file(400)).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "completion_window": "1h"}).json()
    mill.run_all()
    output = batch["id"].replace("batch_", "file-o")
    told, real = http.get(f"/v1/files/{output}").json(), len(http.get(f"/v1/files/{output}/content").content)
    assert told["textmill"]["exact_bytes"] is False
    assert abs(told["bytes"] - real) < real / 20


def test_who_reads_on_behind_a_line_of_before_a_retry_is_told_to_begin_anew(api: Served, mill: Mill) -> None:
    http = api.http()
    file_id = api.upload(classify_line("a", "") + classify_file(2)).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "completion_window": "1h"}).json()
    content = f"/v1/files/{batch['id'].replace('batch_', 'file-o')}/content"
    mill.run_all()
    last = json.loads(http.get(content).text.splitlines()[-1])["id"]
    http.post(f"/v1/batches/{batch['id']}/retry").raise_for_status()
    mill.run_all()
    assert error_of(http.get(content, params={"after": last}))[:2] == (409, "results_changed")
    lines = http.get(content).text.splitlines()
    again = json.loads(lines[0])["id"]
    assert again != last
    assert http.get(content, params={"after": again}).text.splitlines() == lines[1:]


@pytest.mark.parametrize("length_known", [True, False])
def test_an_upload_over_the_limit_is_refused_and_leaves_nothing(serve: Callable[..., Served], stores: Stores, length_known: bool) -> None:
    api = serve(max_upload_bytes=2_000_000)
    head = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(30):
            yield classify_file(1000)

    content = b"".join(body()) if length_known else body()
    response = api.http().post("/v1/files", content=content, headers={"content-type": "multipart/form-data; boundary=b"})
    assert error_of(response)[:2] == (413, "file_too_large")
    FilePurge(stores(Role.DISPATCHER), Lasting(3600)).run()  # what is left of a large one
    assert count_of(stores, api) == (0, 0)


def test_an_upload_that_is_cut_leaves_nothing(api: Served, stores: Stores) -> None:
    host, _, port = api.url.removeprefix("http://").partition(":")
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        'Content-Length: 100000000\r\n\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + classify_file(5000))
        wait_until(lambda: count_of(stores, api)[1] > 0)
    wait_until(lambda: count_of(stores, api) == (0, 0))


def test_an_upload_that_stands_still_is_ended(serve: Callable[..., Served], stores: Stores) -> None:
    api = serve(upload_idle_seconds=0.2)

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        wait_until(lambda: api.app.state.front.uploads.in_flight == 1, "the upload has begun")
        wait_until(lambda: api.app.state.front.uploads.in_flight == 0, "the server has ended it")
        yield b"--b--\r\n"

    response = api.http().post("/v1/files", content=body(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert error_of(response)[:2] == (408, "upload_idle")
    assert count_of(stores, api) == (0, 0)


def test_too_many_uploads_are_asked_to_come_back(serve: Callable[..., Served]) -> None:
    api = serve(max_uploads=1)
    host, _, port = api.url.removeprefix("http://").partition(":")
    head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall((head + "Content-Length: 1000\r\n\r\n--b\r\n").encode())
        wait_until(lambda: api.app.state.front.uploads.in_flight == 1)
        response = api.upload(classify_file())
    assert error_of(response)[:2] == (429, "too_many_uploads")
    assert int(response.headers["retry-after"]) > 0
    wait_until(lambda: api.upload(classify_file()).status_code == 200)


def test_the_stalled_uploads_of_one_tenant_block_no_other(serve: Callable[..., Served], stores: Stores) -> None:
    """Forty of one key took all slots, and every tenant's uploads with them."""
    api = serve(max_uploads=3, max_tenant_uploads=2)
    _, theirs = create_api_key(stores(Role.API), create_tenant(stores(Role.API), "another"), uuid4(), "theirs", SCOPES)
    host, _, port = api.url.removeprefix("http://").partition(":")
    head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    with ExitStack() as stalled:
        for held in (1, 2):
            connection = stalled.enter_context(socket.create_connection((host, int(port))))
            connection.sendall((head + "Content-Length: 1000\r\n\r\n--b\r\n").encode())
            wait_until(lambda held=held: api.app.state.front.uploads.in_flight == held)
        assert error_of(api.upload(classify_file()))[:2] == (429, "too_many_uploads")
        sent = api.http(theirs).post("/v1/files", data={"purpose": "batch"}, files={"file": ("rows.jsonl", classify_file())})
        assert sent.status_code == 200
    wait_until(lambda: api.upload(classify_file()).status_code == 200)


def test_a_compressed_body_is_refused(api: Served) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b", "content-encoding": "gzip"}
    assert error_of(api.http().post("/v1/files", content=b"x", headers=headers))[:2] == (415, "compressed_body")


def test_a_reader_that_goes_away_ends_the_read(api: Served, stores: Stores) -> None:
    file_id = api.upload(b"".join(classify_line(str(number), "x" * 2000) for number in range(20_000))).json()["id"]
    with api.http().stream("GET", f"/v1/files/{file_id}/content") as response:
        next(response.iter_bytes())
    engine = api.app.state.front.store.engine
    wait_until(lambda: engine.pool.checkedout() == 0 and api.app.state.front.store_calls.borrowed_tokens == 0)
    assert api.http().get("/healthz").status_code == 200


@pytest.mark.parametrize("second", [AuditUnavailable(), AnotherSchema("another"), OperationalError("", None, Exception())])
def test_what_an_upload_is_refused_for_is_told_though_what_it_left_cannot_be_removed_now(
    api: Served, monkeypatch: pytest.MonkeyPatch, second: Exception
) -> None:
    def abort(_: RowWriter) -> None:
        raise second

    monkeypatch.setattr(RowWriter, "abort", abort)
    refused = api.http().post("/v1/files", files={"file": ("a.jsonl", b'{"text": "t"}')})
    assert error_of(refused) == (400, "missing_field", "purpose")
