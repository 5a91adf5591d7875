"""Uploads that stood still and files past their expiry go, in pieces, and nothing else does."""

import pytest
from sqlalchemy import text

from db.actors import Actor
from db.errors import Conflict, NotFound
from db.files.files import FileRecord, create_file, get_file
from db.files.purge import FilePurge, due, lock_due
from db.files.rows import RowWriter
from db.jobs.file_lists import list_files
from db.jobs.jobs import delete_outputs
from db.jobs.results import iter_results
from db.jobs.steering import cancel_job
from db.purging import Lasting, Purged
from db.queue.endings import finalize_jobs
from db.sweeps import Unfinished
from tests.db.flow import Flow, Stores, plain
from tests.looking import on_record


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_stale_uploads_are_purged_and_others_are_not(flow: Flow, tenant: Actor) -> None:
    writer = RowWriter(flow.api, tenant, create_file(flow.api, tenant, name="stale", purpose="batch"))
    writer.append([plain(0)])
    flow.execute(tenant, "UPDATE files SET created_at = now() - interval '2 hours'")
    create_file(flow.api, tenant, name="fresh", purpose="batch")
    processed = flow.upload(tenant, 2)
    flow.execute(tenant, "UPDATE files SET created_at = now() - interval '2 hours' WHERE file_id = :file", file=processed.file_id)

    assert FilePurge(flow.dispatcher, Lasting(3600)).run().gone == 1
    assert FilePurge(flow.dispatcher, Lasting(3600)).run().gone == 0
    assert {file.name for file in list_files(flow.api, tenant, limit=5)[0] if isinstance(file, FileRecord)} == {"fresh", "a file"}
    with pytest.raises(Conflict):
        writer.append([plain(1)])
    assert flow.file_counts(tenant) == (2, 2, 2)


def test_an_upload_that_was_finished_while_it_was_found_stale_stays(flow: Flow, tenant: Actor) -> None:
    writer = RowWriter(flow.api, tenant, create_file(flow.api, tenant, name="slow", purpose="batch"))
    writer.append([plain(0)])
    flow.execute(tenant, "UPDATE files SET created_at = now() - interval '2 hours'")
    (file_id,) = (row.file_id for row in due(flow.dispatcher, Lasting(3600)).items)
    with flow.dispatcher.transaction(tenant=tenant.tenant_id) as conn:
        assert lock_due(conn, tenant.tenant_id, file_id, Lasting(3600)) is not None
    writer.finish(10)
    with flow.dispatcher.transaction(tenant=tenant.tenant_id) as conn:
        assert lock_due(conn, tenant.tenant_id, file_id, Lasting(3600)) is None
    FilePurge(flow.dispatcher, Lasting(3600)).run()
    assert flow.file_counts(tenant) == (1, 1, 1)
    assert get_file(flow.api, tenant, file_id).state == "processed"


def test_expired_files_are_purged_once_no_job_reads_them(flow: Flow, tenant: Actor) -> None:
    alone, used = flow.upload(tenant, 2), flow.upload(tenant, 2)
    job = flow.submit(tenant, used)
    flow.execute(tenant, "UPDATE files SET expires_at = now()")
    assert FilePurge(flow.dispatcher, Lasting(3600)).run().gone == 1
    cancel_job(flow.api, tenant, job.job_id)
    finalize_jobs(flow.dispatcher)
    assert FilePurge(flow.dispatcher, Lasting(3600)).run().gone == 1
    assert flow.execute(tenant, "SELECT file_id, state, name_sealed FROM files") == [(used.file_id, "deleted", b"")]
    assert alone.file_id != used.file_id


def expired(flow: Flow, actor: Actor, rows: int) -> FileRecord:
    file = flow.upload(actor, rows)
    flow.execute(actor, "UPDATE files SET expires_at = now() WHERE file_id = :file", file=file.file_id)
    return file


def rows_left(flow: Flow, actor: Actor) -> object:
    return flow.file_counts(actor)[1]


def test_a_pass_erases_so_many_pages_and_the_next_goes_on_even_in_another_process(flow: Flow, tenant: Actor) -> None:
    file = expired(flow, tenant, 25)
    first = FilePurge(flow.dispatcher, Lasting(3600), page_rows=10, pages=1)
    assert first.run() == Purged(0, more=True)
    assert rows_left(flow, tenant) == 15
    assert first.run() == Purged(0, more=True)
    assert rows_left(flow, tenant) == 5
    assert flow.execute(tenant, "SELECT state, name_sealed FROM files") == [("error", b"")]
    with pytest.raises(NotFound):
        get_file(flow.api, tenant, file.file_id)
    assert FilePurge(flow.dispatcher, Lasting(3600), page_rows=10).run() == Purged(1, more=False)
    assert flow.file_counts(tenant) == (0, 0, 0)
    actions = flow.execute(
        tenant, "SELECT action FROM audit_events WHERE object_id = :file AND component = 'dispatcher'", file=file.file_id
    )
    assert actions == [("file.expire",)]


def test_an_upload_that_is_being_erased_takes_no_more_rows_and_is_not_finished(flow: Flow, tenant: Actor) -> None:
    writer = RowWriter(flow.api, tenant, create_file(flow.api, tenant, name="stale", purpose="batch"))
    writer.append([plain(at) for at in range(25)])
    flow.execute(tenant, "UPDATE files SET created_at = now() - interval '2 hours'")
    purge = FilePurge(flow.dispatcher, Lasting(3600), page_rows=10, pages=1)
    purge.run()
    for act in (lambda: writer.append([plain(25)]), lambda: writer.finish(10)):
        with pytest.raises(Conflict):
            act()
    writer.abort()
    assert rows_left(flow, tenant) == 15
    while purge.run().more:
        pass
    assert flow.file_counts(tenant) == (0, 0, 0)


def test_custom_ids_that_outputs_need_stay_until_these_go_though_the_bodies_are_erased_by_then(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 25, shard_chars=250)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    flow.execute(tenant, "UPDATE files SET expires_at = now()")
    purge = FilePurge(flow.dispatcher, Lasting(3600), page_rows=10, pages=1)
    purge.run()
    assert flow.execute(tenant, "SELECT count(body_sealed), count(*) FROM rows") == [(15, 25)]
    while purge.run().more:
        pass
    assert flow.execute(tenant, "SELECT count(body_sealed), count(*) FROM rows") == [(0, 25)]
    assert flow.execute(tenant, "SELECT state FROM files") == [("deleted",)]
    assert len([line.custom_id for line in iter_results(flow.api, tenant, job.job_id, which="output")]) == 25
    for which in ("output", "errors"):
        delete_outputs(flow.api, tenant, job.job_id, which)
    assert flow.file_counts(tenant) == (1, 0, 0)


def test_outputs_that_go_while_the_bodies_are_erased_take_every_custom_id_along(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 25, shard_chars=250)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    flow.execute(tenant, "UPDATE files SET expires_at = now()")
    purge = FilePurge(flow.dispatcher, Lasting(3600), page_rows=10, pages=1)
    for _ in range(2):
        purge.run()
    for which in ("output", "errors"):
        delete_outputs(flow.api, tenant, job.job_id, which)
    while purge.run().more:
        pass
    assert flow.file_counts(tenant) == (1, 0, 0)


def test_a_page_that_was_not_committed_is_erased_again(flow: Flow, tenant: Actor) -> None:
    expired(flow, tenant, 25)
    purge = FilePurge(flow.dispatcher, Lasting(3600), page_rows=10, pages=1)
    purge.run()
    with on_record(flow.api, tenant.tenant_id) as frozen:
        frozen.execute(text("SELECT FROM rows WHERE idx = 15 FOR UPDATE"))
        with pytest.raises(Unfinished):
            purge.run()
    assert rows_left(flow, tenant) == 15
    while purge.run().more:
        pass
    assert flow.file_counts(tenant) == (0, 0, 0)


def test_a_purge_that_may_not_go_on_stops_between_two_pages(flow: Flow, tenant: Actor) -> None:
    expired(flow, tenant, 25)
    answers = iter([True, False])
    assert FilePurge(flow.dispatcher, Lasting(3600), go_on=lambda: next(answers), page_rows=10).run() == Purged(0, more=False)
    assert rows_left(flow, tenant) == 15
