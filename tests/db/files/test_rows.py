import time
import uuid
from itertools import islice
from typing import Any

import pytest

from db.actors import Actor
from db.errors import Conflict, NotFound, StoreError
from db.files import rows as rows_module
from db.files.files import create_file, delete_file, get_file
from db.files.rows import NewRow, RowWriter, iter_rows, sealed_body
from db.queue.endings import finalize_jobs
from tests.db.flow import Flow, Stores, plain


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_rows_come_back_as_they_were_in_order(flow: Flow, tenant: Actor) -> None:
    given = [
        plain(0),
        NewRow(line=3, endpoint="/v1/embeddings", defect=None, custom_id="ünïque 😀", body="ä".encode(), size=1),
        NewRow(line=9, endpoint=None, defect="invalid_json", custom_id=None, body=None, size=0),
        NewRow(line=10, endpoint=None, defect=None, custom_id=None, body=b"", size=0),
    ]
    file = flow.upload(tenant, given)
    assert (file.row_count, file.defect_count, file.size_chars, file.size_bytes, file.state) == (4, 1, 11, 1000, "processed")
    for page in (1, 3, 512):
        assert list(iter_rows(flow.api, tenant, file.file_id, page=page)) == [
            (idx, row.line, row.defect, row.custom_id, row.body, row.endpoint, False) for idx, row in enumerate(given)
        ]


def test_many_calls_and_large_calls_number_rows_on(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "CHUNK_ROWS", 7)
    monkeypatch.setattr(rows_module, "CHUNK_BYTES", 100)
    writer = RowWriter(flow.api, tenant, create_file(flow.api, tenant, name="n", purpose="batch"))
    for first, end in ((0, 20), (20, 20), (20, 21), (21, 50)):
        writer.append([plain(at) for at in range(first, end)])
    file = writer.finish(5)
    assert [(idx, line) for idx, line, *_ in iter_rows(flow.api, tenant, file.file_id)] == [(at, at + 1) for at in range(50)]


def test_a_page_ends_by_bytes_so_that_huge_rows_stay_flat(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "PAGE_BYTES", 1000)
    file = flow.upload(tenant, [plain(at, body=bytes(400 if at != 5 else 5000)) for at in range(12)])
    assert [len(row.body or b"") for row in iter_rows(flow.api, tenant, file.file_id)] == [400] * 5 + [5000] + [400] * 6
    pages = flow.execute(tenant, "SELECT first_idx FROM audit_events WHERE action = 'rows.read' ORDER BY first_idx")
    assert pages == [(0,), (3,), (6,), (9,)]


def test_of_equal_custom_ids_the_first_wins_and_the_others_become_defects(flow: Flow, tenant: Actor) -> None:
    ids = ["a", "b", "a", None, None, "a", "c"]
    file = flow.upload(tenant, [plain(at, custom_id=name) for at, name in enumerate(ids)])
    found = [(custom_id, defect) for _, _, defect, custom_id, *_ in iter_rows(flow.api, tenant, file.file_id)]
    double = "duplicate_custom_id"
    assert found == [("a", None), ("b", None), ("a", double), (None, None), (None, None), ("a", double), ("c", None)]
    assert file.defect_count == 2


def test_very_many_doubles_are_marked_in_pages_and_a_file_that_is_purged_meanwhile_is_not_finished(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "MARKED_AT_ONCE", 3)
    doubled = [plain(at, custom_id="a", **({"defect": "invalid_json"} if at == 5 else {})) for at in range(9)]
    file = flow.upload(tenant, doubled)
    assert file.defect_count == 8
    defects = [row.defect for row in iter_rows(flow.api, tenant, file.file_id)]
    assert defects == [None, *["duplicate_custom_id"] * 4, "invalid_json", *["duplicate_custom_id"] * 3]
    writer = RowWriter(flow.api, tenant, create_file(flow.api, tenant, name="n", purpose="batch"))
    writer.append(doubled)
    flow.execute(tenant, "UPDATE files SET state = 'error' WHERE state = 'uploading'")
    with pytest.raises(Conflict, match="purged"):
        writer.finish(1)
    assert flow.execute(tenant, "SELECT count(*) FROM rows WHERE defect = 'duplicate_custom_id'") == [(7,)]


@pytest.mark.parametrize("purpose", ["rows", "train"])
def test_of_rows_and_examples_equal_ids_are_counted_and_no_defect(flow: Flow, tenant: Actor, purpose: str) -> None:
    ids = ["a", "b", "a", None, None, "a", "c"]
    file = flow.upload(tenant, [plain(at, custom_id=name) for at, name in enumerate(ids)], purpose=purpose)
    assert [row.defect for row in iter_rows(flow.api, tenant, file.file_id)] == [None] * 7
    assert (file.defect_count, file.doubled_ids) == (0, 2)


def test_a_custom_id_that_is_no_text_is_a_defect_and_quotes_nothing(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, [plain(0, custom_id="half \ud800")])
    assert [row[2:4] for row in iter_rows(flow.api, tenant, file.file_id)] == [("lone_surrogate", None)]


def test_an_empty_file_is_refused_and_leaves_nothing(flow: Flow, tenant: Actor) -> None:
    file = create_file(flow.api, tenant, name="n", purpose="batch")
    with pytest.raises(StoreError) as refused:
        RowWriter(flow.api, tenant, file).finish(0)
    assert (refused.value.code, refused.value.status) == ("empty_file", 400)
    with pytest.raises(NotFound):
        get_file(flow.api, tenant, file.file_id)
    assert flow.execute(tenant, "SELECT FROM data_keys WHERE owner_kind = 'file'") == []


def test_an_aborted_upload_leaves_nothing(flow: Flow, tenant: Actor) -> None:
    writer = RowWriter(flow.api, tenant, create_file(flow.api, tenant, name="n", purpose="batch"))
    writer.append([plain(0)])
    writer.abort()
    writer.abort()
    assert flow.execute(tenant, "SELECT FROM rows") == []
    assert flow.execute(tenant, "SELECT FROM files") == []
    with pytest.raises(Conflict) as gone:
        writer.append([plain(1)])
    assert gone.value.code == "upload_gone"


def test_a_finished_file_takes_no_more_rows(flow: Flow, tenant: Actor) -> None:
    writer = RowWriter(flow.api, tenant, create_file(flow.api, tenant, name="n", purpose="batch"))
    writer.append([plain(0)])
    writer.finish(1)
    with pytest.raises(Conflict):
        writer.append([plain(1)])
    writer.abort()
    assert get_file(flow.api, tenant, writer._file.file_id).row_count == 1


def test_an_unfinished_upload_cannot_be_read(flow: Flow, tenant: Actor) -> None:
    file = create_file(flow.api, tenant, name="n", purpose="batch")
    with pytest.raises(Conflict) as refused:
        iter_rows(flow.api, tenant, file.file_id)
    assert refused.value.code == "file_not_processed"


def test_rows_of_a_foreign_or_missing_file_are_not_found_before_anything_is_read(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(flow.new_tenant(), 3)
    for file_id in (file.file_id, uuid.uuid4()):
        with pytest.raises(NotFound):
            iter_rows(flow.api, tenant, file_id)
    assert len(flow.execute(tenant, "SELECT FROM audit_events WHERE outcome = 'denied'")) == 2


def test_a_file_deleted_while_it_is_read_does_not_look_complete(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 10)
    reading = iter_rows(flow.api, tenant, file.file_id, page=4)
    assert [next(reading)[0] for _ in range(4)] == [0, 1, 2, 3]
    delete_file(flow.api, tenant, file.file_id)
    with pytest.raises(NotFound):
        next(reading)


def test_a_file_deleted_while_a_page_of_it_is_read_is_not_on_record_as_damaged(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = flow.job(tenant, 10)  # it keeps its rows and their ids: only their bodies go
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    finalize_jobs(flow.dispatcher)
    is_readable = rows_module.is_readable

    def deleted_after(*arguments: Any) -> bool:
        said = is_readable(*arguments)
        delete_file(flow.api, tenant, job.file_id)
        return said

    monkeypatch.setattr(rows_module, "is_readable", deleted_after)
    reading = iter_rows(flow.api, tenant, job.file_id)
    assert [row.damaged for row in islice(reading, 10)] == [False] * 10
    assert flow.execute(tenant, "SELECT FROM audit_events WHERE action = 'value.damaged'") == []


def test_each_page_is_on_record_with_its_digest_before_it_is_opened(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 10)
    reading = iter_rows(flow.api, tenant, file.file_id, page=4)
    next(reading)
    recorded = (
        "SELECT first_idx, end_idx, row_count, value_count FROM audit_events JOIN audit_digests USING (tenant_id, event_id)"
        " WHERE action = 'rows.read'"
    )
    assert flow.execute(tenant, recorded) == [(0, 4, 4, 8)]
    list(reading)
    assert sorted(flow.execute(tenant, recorded)) == [(0, 4, 4, 8), (4, 8, 4, 8), (8, 10, 2, 4)]


def test_a_body_moved_to_another_row_does_not_open(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 2)
    flow.execute(tenant, "UPDATE rows SET body_sealed = (SELECT body_sealed FROM rows WHERE idx = 1)")
    read = list(iter_rows(flow.api, tenant, file.file_id))
    assert [(row.body, row.custom_id, row.damaged) for row in read] == [(None, "id-0", True), (plain(1).body, "id-1", False)]


def test_no_plaintext_is_in_the_table(flow: Flow, tenant: Actor) -> None:
    flow.upload(tenant, [plain(0, custom_id="canary-id", body=b"canary-body")], name="canary-name")
    stored = flow.execute(tenant, "SELECT rows::text, files::text FROM rows, files")
    for word in (b"canary-id", b"canary-body", b"canary-name"):
        assert word.decode() not in str(stored)
        assert word.hex() not in str(stored)


def test_a_sealed_body_is_read_as_it_lies_there_and_on_record(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 3)
    (lies,) = flow.execute(tenant, "SELECT body_sealed FROM rows WHERE idx = 1")
    assert sealed_body(flow.api, tenant, file.file_id, 1) == lies[0]
    assert flow.execute(tenant, "SELECT first_idx, end_idx FROM audit_events WHERE action = 'rows.read'") == [(1, 2)]
    with pytest.raises(NotFound):
        sealed_body(flow.api, tenant, uuid.uuid4(), 0)


def test_twenty_thousand_rows_are_written_in_seconds(flow: Flow, tenant: Actor) -> None:
    rows = [plain(at, body=bytes(300), size=300) for at in range(20_000)]
    writer = RowWriter(flow.api, tenant, create_file(flow.api, tenant, name="n", purpose="batch"))
    started = time.perf_counter()
    writer.append(rows)
    written = time.perf_counter()
    file = writer.finish(1)
    finished = time.perf_counter()
    print(f"{len(rows) / (written - started):,.0f} rows/s; finished in {finished - written:.2f} s")
    assert file.row_count == len(rows)
    # Some ten times what it takes: a guard against row-by-row writing and against a plan that compares every row with every row.
    assert finished - started < 10
