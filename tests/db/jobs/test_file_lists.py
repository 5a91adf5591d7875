"""Uploaded files and the result files of jobs in one list, page by page."""

import uuid
from typing import Any, Literal

import pytest
from sqlalchemy import event

from db.actors import Actor
from db.errors import NotFound
from db.files.files import FileRecord, create_file, delete_file
from db.jobs import file_lists
from db.jobs.file_lists import Named, ResultFile, list_files
from db.jobs.jobs import delete_outputs, list_jobs
from db.jobs.steering import cancel_job, delete_job
from db.queue.endings import cancel_shards, finalize_jobs
from tests.db.flow import Flow, Stores


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def named(file: FileRecord | ResultFile) -> Named:
    return Named(file.file_id) if isinstance(file, FileRecord) else Named(file.job_id, file.which)


def pages(
    flow: Flow, actor: Actor, limit: int, order: Literal["asc", "desc"] = "desc", purpose: str | None = None
) -> list[list[FileRecord | ResultFile]]:
    read: list[list[FileRecord | ResultFile]] = []
    has_more = True
    while has_more:
        after = named(read[-1][-1]) if read else None
        page, has_more = list_files(flow.api, actor, limit=limit, after=after, order=order, purpose=purpose)
        read.append(page)
    return read


def test_lists_page_newest_first_by_id_and_say_whether_more_follow(flow: Flow, tenant: Actor) -> None:
    made = [create_file(flow.api, tenant, name=str(at), purpose="train" if at == 3 else "batch") for at in range(5)]
    create_file(flow.api, flow.new_tenant(), name="foreign", purpose="batch")
    read = pages(flow, tenant, 2)
    assert [len(page) for page in read] == [2, 2, 1]
    assert [file for page in read for file in page] == made[::-1]
    assert list_files(flow.api, tenant, limit=2, order="asc", after=Named(made[1].file_id))[0] == made[2:4]
    assert list_files(flow.api, tenant, limit=9, purpose="train")[0] == [made[3]]
    assert list_files(flow.api, tenant, limit=5) == (made[::-1], False)


def test_a_list_after_an_unknown_or_foreign_id_is_not_found(flow: Flow, tenant: Actor) -> None:
    other = flow.new_tenant()
    foreign, job = create_file(flow.api, other, name="n", purpose="batch"), flow.job(other, 3)
    for after in (Named(uuid.uuid4()), Named(uuid.uuid4(), "errors"), Named(foreign.file_id), Named(job.job_id, "output")):
        with pytest.raises(NotFound):
            list_files(flow.api, tenant, limit=2, after=after)


def test_what_is_deleted_while_it_is_listed_is_left_out(flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, file, job = flow.upload(tenant, 2), flow.upload(tenant, 2), flow.job(tenant, 2)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    finalize_jobs(flow.dispatcher)
    select = file_lists._select

    def deleted_before(*arguments: Any) -> Any:
        monkeypatch.setattr(file_lists, "_select", select)
        delete_file(flow.api, tenant, file.file_id)
        delete_job(flow.api, tenant, job.job_id)
        return select(*arguments)

    monkeypatch.setattr(file_lists, "_select", deleted_before)
    listed, _ = list_files(flow.api, tenant, limit=9)
    assert [named(each).id for each in listed] == [job.file_id, kept.file_id]


def test_what_is_deleted_while_it_is_listed_makes_no_empty_page_with_more_behind_it(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, files = flow.upload(tenant, 2), [flow.upload(tenant, 2) for _ in range(2)]
    select = file_lists._select

    def deleted_before(*arguments: Any) -> Any:
        if files:
            delete_file(flow.api, tenant, files.pop().file_id)
        return select(*arguments)

    monkeypatch.setattr(file_lists, "_select", deleted_before)
    listed, has_more = list_files(flow.api, tenant, limit=1)
    assert ([named(each).id for each in listed], has_more) == ([kept.file_id], False)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
def test_uploads_and_the_files_of_jobs_stand_in_one_order_whatever_the_pages(flow: Flow, tenant: Actor, limit: int) -> None:
    for at in range(3):  # with answers and failures, with answers, cut short
        job = flow.job(tenant, 10)
        lease = flow.claim()
        flow.answer(lease, range(5), finish=False)
        if at < 2:
            flow.answer(lease, range(5, 10), fail=at == 0)
        else:
            cancel_job(flow.api, tenant, job.job_id)
            flow.change_shards("lease_expires_at = NULL, worker = NULL, state = 'ready' WHERE state = 'leased'")
            cancel_shards(flow.dispatcher)
        finalize_jobs(flow.dispatcher)
    running = flow.job(tenant, 10)
    flow.answer(flow.claim(), range(5), finish=False)
    flow.job(flow.new_tenant(), 3)
    whole = [file for page in pages(flow, tenant, 1000) for file in page]
    results = [(file.which, file.row_count) for file in whole if isinstance(file, ResultFile)]
    assert results == [("errors", 5), ("output", 5), ("output", 10), ("errors", 5), ("output", 5)], (
        "newest first; of a running job none yet"
    )
    assert running.job_id not in {named(file).id for file in whole}
    assert len(whole) == len(results) + 4
    for order in ("desc", "asc"):
        read = pages(flow, tenant, limit, order)  # type: ignore[arg-type]
        assert [file for page in read for file in page] == (whole if order == "desc" else whole[::-1])
        assert all(len(page) == limit for page in read[:-1])
    only = [file for page in pages(flow, tenant, limit, purpose="batch_output") for file in page]
    assert only == [file for file in whole if isinstance(file, ResultFile)]
    uploads = [file for page in pages(flow, tenant, limit, purpose="batch") for file in page]
    assert uploads == [file for file in whole if isinstance(file, FileRecord)]


def test_a_result_file_that_was_deleted_is_not_listed(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 3)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    assert len(list_files(flow.api, tenant, limit=5, purpose="batch_output")[0]) == 1
    delete_outputs(flow.api, tenant, job.job_id, "output")
    assert list_files(flow.api, tenant, limit=5, purpose="batch_output") == ([], False)


def test_the_keys_of_a_page_are_found_in_one_query(flow: Flow, tenant: Actor) -> None:
    for _ in range(5):
        flow.job(tenant, 5)
    asked: list[str] = []
    event.listen(flow.api.engine, "before_cursor_execute", lambda _conn, _cursor, statement, *_: asked.append(statement))
    for read in (lambda: list_jobs(flow.api, tenant, limit=9), lambda: list_files(flow.api, tenant, limit=9)):
        for file_id in flow.execute(tenant, "SELECT file_id FROM files"):
            flow.api.keyring.forget(tenant.tenant_id, "file", file_id[0])  # type: ignore[arg-type]
        asked.clear()
        assert len(read()[0]) == 5
        assert sum("FROM data_keys" in statement for statement in asked) == 1
