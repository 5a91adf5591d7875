from datetime import UTC, datetime, timedelta

import pytest

from db.actors import Actor
from db.errors import Conflict, NotFound
from db.files.files import create_file, delete_file, get_file
from db.files.purge import FilePurge
from db.files.rows import RowWriter
from db.jobs.file_lists import list_files
from db.jobs.jobs import delete_outputs
from db.jobs.results import iter_results
from db.jobs.steering import cancel_job
from db.purging import Lasting, Purged
from db.queue.endings import finalize_jobs
from db.queue.shards import claim_any
from tests.db.flow import Flow, Stores, plain


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_a_file_shows_what_it_was_made_with(flow: Flow, tenant: Actor) -> None:
    expires_at = datetime.now(UTC) + timedelta(days=1)
    created = create_file(flow.api, tenant, name="ünï cödé.jsonl", purpose="batch", expires_at=expires_at)
    assert created.state == "uploading"
    assert get_file(flow.api, tenant, created.file_id) == created
    assert (created.name, created.expires_at) == ("ünï cödé.jsonl", expires_at)


def test_another_tenants_file_is_not_found_and_the_attempt_is_on_record(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(flow.new_tenant(), 1)
    for act in (get_file, delete_file):
        with pytest.raises(NotFound):
            act(flow.api, tenant, file.file_id)
    denied = flow.execute(tenant, "SELECT action, object_id FROM audit_events WHERE outcome = 'denied' ORDER BY at")
    assert denied == [("file.read", file.file_id), ("file.delete", file.file_id)]


def test_an_expired_file_is_gone_for_its_owner(flow: Flow, tenant: Actor) -> None:
    file = create_file(flow.api, tenant, name="n", purpose="batch", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(NotFound):
        get_file(flow.api, tenant, file.file_id)
    assert list_files(flow.api, tenant, limit=5) == ([], False)


def test_a_deleted_file_leaves_nothing_where_no_job_used_it(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 5)
    delete_file(flow.api, tenant, file.file_id)
    assert flow.file_counts(tenant) == (0, 0, 0)
    with pytest.raises(NotFound):
        delete_file(flow.api, tenant, file.file_id)


def test_a_large_file_is_gone_at_once_for_its_owner_and_its_rows_page_by_page(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.files.files.ERASED_AT_ONCE", 10)
    file = flow.upload(tenant, 25)
    delete_file(flow.api, tenant, file.file_id)
    assert flow.file_counts(tenant) == (1, 25, 0), "its key is gone before its rows"
    assert flow.execute(tenant, "SELECT state, name_sealed FROM files") == [("error", b"")]
    for act in (get_file, delete_file):
        with pytest.raises(NotFound):
            act(flow.api, tenant, file.file_id)
    assert list_files(flow.api, tenant, limit=5)[0] == []
    purge = FilePurge(flow.dispatcher, Lasting(3600), page_rows=10, pages=1)
    assert purge.run() == Purged(0, more=True)
    assert flow.file_counts(tenant)[1] == 15
    purge.run()
    purge.run()
    assert FilePurge(flow.dispatcher, Lasting(3600), page_rows=10).run().gone <= 1
    assert flow.file_counts(tenant) == (0, 0, 0)


def test_a_large_file_whose_outputs_are_needed_keeps_its_ids_and_loses_its_bodies(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.files.files.ERASED_AT_ONCE", 10)
    file = flow.upload(tenant, 25)
    job = flow.submit(tenant, file)
    flow.cut()
    for lease in claim_any(flow.worker, "host:1", 3):
        flow.answer(lease)
    finalize_jobs(flow.dispatcher)
    delete_file(flow.api, tenant, file.file_id)
    FilePurge(flow.dispatcher, Lasting(3600), page_rows=10).run()
    assert flow.execute(tenant, "SELECT count(*), count(body_sealed) FROM rows") == [(25, 0)]
    read = [line.custom_id for line in iter_results(flow.api, tenant, job.job_id, which="output")]
    assert read == [f"id-{at}" for at in range(25)]
    delete_outputs(flow.api, tenant, job.job_id, "output")
    delete_outputs(flow.api, tenant, job.job_id, "errors")
    FilePurge(flow.dispatcher, Lasting(3600), page_rows=10).run()
    assert flow.file_counts(tenant)[1:] == (0, 0)


def test_a_large_upload_that_is_broken_off_is_left_to_the_purge(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.files.files.ERASED_AT_ONCE", 10)
    writer = RowWriter(flow.api, tenant, create_file(flow.api, tenant, name="n", purpose="batch"))
    writer.append([plain(at) for at in range(25)])
    writer.abort()
    assert flow.file_counts(tenant) == (1, 25, 0)
    assert FilePurge(flow.dispatcher, Lasting(3600), page_rows=10).run().gone == 1
    assert flow.file_counts(tenant) == (0, 0, 0)


def test_a_file_cannot_be_deleted_while_a_job_that_lives_reads_it(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 5)
    job = flow.submit(tenant, file)
    for _ in range(2):
        with pytest.raises(Conflict) as refused:
            delete_file(flow.api, tenant, file.file_id)
        assert refused.value.code == "file_in_use"
        cancel_job(flow.api, tenant, job.job_id)
    finalize_jobs(flow.dispatcher)
    delete_file(flow.api, tenant, file.file_id)
    with pytest.raises(NotFound):
        get_file(flow.api, tenant, file.file_id)


def test_outputs_keep_their_custom_ids_when_the_input_is_deleted_and_take_them_along_at_their_end(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 5)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    delete_file(flow.api, tenant, job.file_id)

    assert flow.execute(tenant, "SELECT count(body_sealed) FROM rows") == [(0,)]
    assert [line.custom_id for line in iter_results(flow.api, tenant, job.job_id, which="output")] == [f"id-{at}" for at in range(5)]
    assert list_files(flow.api, tenant, limit=5, purpose="batch") == ([], False)
    delete_outputs(flow.api, tenant, job.job_id, "output")
    assert flow.file_counts(tenant) == (1, 5, 1)
    delete_outputs(flow.api, tenant, job.job_id, "errors")
    assert flow.file_counts(tenant) == (1, 0, 0)


def test_what_is_done_to_a_file_is_on_record(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 3)
    delete_file(flow.api, tenant, file.file_id)
    recorded = flow.execute(
        tenant, "SELECT action, first_idx, end_idx FROM audit_events WHERE object_id = :file ORDER BY at", file=file.file_id
    )
    assert recorded == [("file.create", None, None), ("rows.write", 0, 3), ("file.write", 0, 3), ("file.delete", None, None)]
