"""A table's other columns: sealed beside the text, joined to results, and gone with the text."""

import uuid

import pytest

from db.actors import Actor
from db.errors import NotFound
from db.files.columns import table_of_file
from db.files.files import FileRecord, create_file, delete_file
from db.files.purge import FilePurge, Lasting
from db.files.rows import RowWriter
from db.files.table import Table
from db.jobs.results import iter_results
from db.queue.endings import finalize_jobs
from tests.db.flow import Flow, Stores, plain

ROWS = 5
TABLE = Table(form="cells", names=["id", "text", "canary-name"], text="text")


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def upload(flow: Flow, actor: Actor, table: Table | None = TABLE) -> FileRecord:
    writer = RowWriter(flow.api, actor, create_file(flow.api, actor, name="n", purpose="rows"))
    writer.append([plain(at, columns=b'["canary-cell %d"]' % at) for at in range(ROWS)])
    return writer.finish(1, table=table)


def test_columns_are_told_as_they_were_noted_and_on_record(flow: Flow, tenant: Actor) -> None:
    assert table_of_file(flow.api, tenant, upload(flow, tenant).file_id) == TABLE
    assert table_of_file(flow.api, tenant, upload(flow, tenant, None).file_id) is None
    assert table_of_file(flow.api, tenant, uuid.uuid4()) is None
    assert flow.execute(tenant, "SELECT count(*) FROM audit_events WHERE action = 'columns.read'") == [(3,)]


def test_neither_names_nor_cells_are_in_the_tables(flow: Flow, tenant: Actor) -> None:
    upload(flow, tenant)
    stored = str(flow.execute(tenant, "SELECT rows::text, files::text FROM rows, files"))
    for word in (b"canary-name", b"canary-cell"):
        assert word.decode() not in stored
        assert word.hex() not in stored


def test_results_bring_their_rows_as_they_were_uploaded_where_that_is_asked_for(flow: Flow, tenant: Actor) -> None:
    job = flow.submit(tenant, upload(flow, tenant))
    flow.cut()
    lease = flow.claim()
    flow.answer(lease, [0, 2, 3], finish=False)
    flow.answer(lease, [1, 4], fail=True)
    finalize_jobs(flow.dispatcher)
    for which, idxs in (("output", [0, 2, 3]), ("errors", [1, 4])):
        read = list(iter_results(flow.api, tenant, job.job_id, which=which, inputs=True, page=2))  # type: ignore[arg-type]
        assert [(line.idx, line.body, line.columns) for line in read] == [
            (at, b'{"input":"text %d"}' % at, b'["canary-cell %d"]' % at) for at in idxs
        ]
        bare = list(iter_results(flow.api, tenant, job.job_id, which=which))  # type: ignore[arg-type]
        assert [(line.idx, line.body, line.columns) for line in bare] == [(at, None, None) for at in idxs]


def test_rows_that_never_ran_bring_their_columns_too(flow: Flow, tenant: Actor) -> None:
    job = flow.submit(tenant, upload(flow, tenant))
    flow.cut()
    flow.cancel(tenant, job.job_id)
    read = list(iter_results(flow.api, tenant, job.job_id, which="errors", inputs=True))
    assert [(line.code, line.columns) for line in read] == [("batch_cancelled", b'["canary-cell %d"]' % at) for at in range(ROWS)]


def test_a_page_ends_by_the_bytes_of_the_rows_that_it_brings(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    job = flow.submit(tenant, upload(flow, tenant))
    flow.cut()
    flow.answer(flow.claim(), fail=True)
    finalize_jobs(flow.dispatcher)
    monkeypatch.setattr("db.jobs.results.PAGE_BYTES", 200)
    pages = "SELECT count(*) FROM audit_events WHERE action = 'results.read'"
    assert len(list(iter_results(flow.api, tenant, job.job_id, which="errors"))) == ROWS
    assert flow.execute(tenant, pages) == [(1,)]
    assert len(list(iter_results(flow.api, tenant, job.job_id, which="errors", inputs=True))) == ROWS
    assert flow.execute(tenant, pages) == [(1 + 3,)]  # two rows are more than 200 bytes


def test_cells_that_were_moved_to_another_row_are_damage(flow: Flow, tenant: Actor) -> None:
    job = flow.submit(tenant, upload(flow, tenant))
    flow.cut()
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    flow.execute(tenant, "UPDATE rows SET columns_sealed = (SELECT columns_sealed FROM rows WHERE idx = 1)")
    read = list(iter_results(flow.api, tenant, job.job_id, which="output", inputs=True))
    assert [(line.columns is None, line.damaged) for line in read] == [(at != 1, at != 1) for at in range(ROWS)]


@pytest.mark.parametrize("at_once", [1000, 2])
def test_columns_go_with_the_texts_also_where_ids_stay_for_the_outputs(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("db.files.files.ERASED_AT_ONCE", at_once)
    file = upload(flow, tenant)
    job = flow.submit(tenant, file)
    flow.cut()
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    delete_file(flow.api, tenant, file.file_id)
    FilePurge(flow.dispatcher, Lasting(3600), page_rows=2).run()
    assert flow.execute(tenant, "SELECT count(*), count(columns_sealed) FROM rows") == [(ROWS, 0)]
    assert flow.execute(tenant, "SELECT count(columns_sealed) FROM files") == [(0,)]
    assert [line.custom_id for line in iter_results(flow.api, tenant, job.job_id, which="output")] == [f"id-{at}" for at in range(ROWS)]
    with pytest.raises(NotFound):
        next(iter_results(flow.api, tenant, job.job_id, which="output", inputs=True))
