"""Large jobs and results are gone for everybody at once, and for the database page by page; what was kept for long enough goes too."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, text

from db.actors import Actor
from db.errors import Conflict, LeaseLost, NotFound
from db.files.files import delete_file
from db.files.purge import FilePurge
from db.jobs import erasing
from db.jobs.creating import create_job
from db.jobs.file_lists import list_files
from db.jobs.jobs import JobRecord, delete_outputs, get_job, list_jobs
from db.jobs.purge import JobPurge
from db.jobs.results import has_results, iter_results
from db.jobs.steering import cancel_job, delete_job, pause_job, resume_job, retry_job, set_priority
from db.jobs.timeline import job_story
from db.operators.health import left_over_shards
from db.purging import Lasting, Purged
from db.queue.dispatch import cut_validating_jobs
from db.queue.endings import cancel_shards, finalize_jobs
from db.queue.shards import claim_any, renew
from db.sweeps import Unfinished
from tests.db.flow import Flow, Stores, new_job
from tests.db.queue.test_sources import chain, run
from tests.looking import on_record

FOR_EVER = Lasting(3600)
DAY = 86_400.0


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


@pytest.fixture
def in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than ten rows are many."""
    for erase in (erasing.erase_job, erasing.erase_results):
        monkeypatch.setitem(erase.__kwdefaults__, "at_once", 10)


def ended(flow: Flow, actor: Actor, rows: int = 25, *, failing: int = 0) -> JobRecord:
    """A job of one shard, of which the last rows failed."""
    job = flow.job(actor, rows, shard_chars=10_000)
    lease = flow.claim()
    flow.answer(lease, range(rows - failing), finish=not failing)
    if failing:
        flow.answer(lease, range(rows - failing, rows), fail=True)
    finalize_jobs(flow.dispatcher)
    return get_job(flow.api, actor, job.job_id)


def purge(flow: Flow, lasting: Lasting = FOR_EVER, *, pages: int = 1) -> JobPurge:
    return JobPurge(flow.dispatcher, lasting, page_rows=10, pages=pages)


def purge_all(flow: Flow, lasting: Lasting = FOR_EVER) -> int:
    passes = purge(flow, lasting)
    gone = 0
    while (pass_ := passes.run()).more:
        gone += pass_.gone
    return gone + pass_.gone


def left(flow: Flow, actor: Actor, *tables: str) -> list[int]:
    return [flow.count(actor, table) for table in tables]


_LATE_SHARD = text(
    "INSERT INTO shards (tenant_id, shard_id, job_id, file_id, first_idx, end_idx, state)"
    " VALUES (:tenant, gen_random_uuid(), :job, :file, 5, 10, 'ready')"
)
_LATE_RESULT = text("INSERT INTO results (tenant_id, job_id, idx, outcome, code, epoch) VALUES (:tenant, :job, 7, 2, 'engine_error', 1)")
EVERYTHING = ("jobs", "shards", "job_specs", "results", "data_keys WHERE owner_kind = 'job'")


@pytest.mark.usefixtures("in_pages")
def test_a_large_job_is_gone_for_its_owner_at_once_and_its_key_too(flow: Flow, tenant: Actor) -> None:
    job = ended(flow, tenant)
    assert not delete_job(flow.api, tenant, job.job_id)
    assert left(flow, tenant, "data_keys WHERE owner_kind = 'job'", "results") == [0, 25]
    asked: list[Callable[[], object]] = [
        lambda: get_job(flow.api, tenant, job.job_id),
        lambda: cancel_job(flow.api, tenant, job.job_id),
        lambda: delete_outputs(flow.api, tenant, job.job_id, "output"),
        lambda: iter_results(flow.api, tenant, job.job_id, which="output"),
        lambda: has_results(flow.api, tenant, job.job_id),
        lambda: job_story(flow.api, tenant, job.job_id),
        lambda: set_priority(flow.api, tenant, job.job_id, 1),
        *(lambda act=act: act(flow.api, tenant, job.job_id) for act in (delete_job, retry_job, pause_job, resume_job)),  # type: ignore[misc]
    ]
    for ask in asked:
        with pytest.raises(NotFound):
            ask()
    assert list_jobs(flow.api, tenant, limit=10) == ([], False)
    assert [file.row_count for file in list_files(flow.api, tenant, limit=10)[0]] == [25], "the input alone"


@pytest.mark.usefixtures("in_pages")
def test_the_purge_erases_a_large_job_page_by_page_even_in_another_process(flow: Flow, tenant: Actor) -> None:
    job = ended(flow, tenant)
    delete_job(flow.api, tenant, job.job_id)
    assert purge(flow).run() == Purged(0, more=True)
    assert left(flow, tenant, "results", "shards") == [15, 0]
    assert purge(flow).run() == Purged(0, more=True)
    assert left(flow, tenant, "results", "jobs") == [5, 1]
    assert purge(flow, pages=50).run() == Purged(1, more=False)
    assert left(flow, tenant, *EVERYTHING) == [0] * 5
    assert left(flow, tenant, "files", "rows") == [1, 25]


@pytest.mark.usefixtures("in_pages")
def test_nothing_of_a_large_job_that_is_deleted_while_it_runs_is_claimed_stored_or_ended(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    (lease,) = claim_any(flow.worker, "host:1", 1)
    flow.answer(lease, range(5), finish=False)
    assert not delete_job(flow.api, tenant, job.job_id)
    with pytest.raises(LeaseLost):
        flow.answer(lease, range(5, 10))
    assert renew(flow.worker, [lease]) == {lease.shard_id: "lost"}
    assert claim_any(flow.worker, "host:2", 5) == []
    assert cancel_shards(flow.dispatcher) == finalize_jobs(flow.dispatcher) == left_over_shards(flow.dispatcher) == 0
    assert purge_all(flow) == 1
    assert left(flow, tenant, *EVERYTHING) == [0] * 5


@pytest.mark.usefixtures("in_pages")
def test_what_is_written_under_a_shard_that_came_behind_the_pages_is_erased_too(flow: Flow, tenant: Actor) -> None:
    """A shard that was claimed as the job was deleted, and halved after the page of its new half was through."""
    job = flow.job(tenant, 20, shard_chars=10_000)
    delete_job(flow.api, tenant, job.job_id)
    passes = purge(flow)
    for _ in range(2):
        passes.run()
    with flow.dispatcher.transaction(tenant=tenant.tenant_id) as conn:
        for late in (_LATE_SHARD, _LATE_RESULT):
            conn.execute(late, {"tenant": tenant.tenant_id, "job": job.job_id, "file": job.file_id})
    assert left(flow, tenant, "results", "shards") == [1, 1]
    assert purge_all(flow) == 1
    assert left(flow, tenant, *EVERYTHING) == [0] * 5


@pytest.mark.usefixtures("in_pages")
def test_a_job_that_is_not_cut_yet_is_never_cut_once_it_is_deleted(flow: Flow, tenant: Actor) -> None:
    job = flow.submit(tenant, flow.upload(tenant, 25))
    assert not delete_job(flow.api, tenant, job.job_id)
    assert cut_validating_jobs(flow.dispatcher, lambda _model, _task: 100) == 0
    assert purge_all(flow) == 1


@pytest.mark.usefixtures("in_pages")
def test_the_file_of_a_large_job_that_was_deleted_can_be_deleted_at_once(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 25)
    delete_job(flow.api, tenant, job.job_id)
    delete_file(flow.api, tenant, job.file_id)
    assert left(flow, tenant, "rows", "data_keys WHERE owner_kind <> 'tenant'") == [0, 0]
    assert purge_all(flow) == 1
    assert left(flow, tenant, "files", "jobs") == [0, 0]


@pytest.mark.usefixtures("in_pages")
def test_a_file_that_was_deleted_before_goes_with_its_last_large_job(flow: Flow, tenant: Actor) -> None:
    job = ended(flow, tenant)
    delete_file(flow.api, tenant, job.file_id)
    delete_job(flow.api, tenant, job.job_id)
    assert left(flow, tenant, "rows", "data_keys WHERE owner_kind <> 'tenant'") == [0, 0], "nothing needs their ids"
    purge_all(flow)
    assert left(flow, tenant, "files", *EVERYTHING) == [0] * 6


@pytest.mark.usefixtures("in_pages")
def test_answers_of_a_large_job_go_page_by_page_and_its_failures_stay(flow: Flow, tenant: Actor) -> None:
    job = ended(flow, tenant, failing=5)
    assert not delete_outputs(flow.api, tenant, job.job_id, "output")
    assert has_results(flow.api, tenant, job.job_id) == (False, True)
    with pytest.raises(NotFound):
        iter_results(flow.api, tenant, job.job_id, which="output")
    with pytest.raises(Conflict, match="deleted"):
        retry_job(flow.api, tenant, job.job_id)
    assert purge(flow).run() == Purged(0, more=True)
    assert left(flow, tenant, "results") == [15]
    assert purge_all(flow) == 1
    assert [line.idx for line in iter_results(flow.api, tenant, job.job_id, which="errors")] == [20, 21, 22, 23, 24]
    assert purge_all(flow) == 0
    assert get_job(flow.api, tenant, job.job_id).completed_count == 20


@pytest.mark.usefixtures("in_pages")
def test_failures_that_are_deleted_while_the_answers_are_erased_take_all_along(flow: Flow, tenant: Actor) -> None:
    job = ended(flow, tenant, failing=15)
    delete_outputs(flow.api, tenant, job.job_id, "output")
    passes = purge(flow)
    for _ in range(2):
        passes.run()
    delete_outputs(flow.api, tenant, job.job_id, "errors")
    while passes.run().more:
        pass
    assert left(flow, tenant, "results", "shards", "jobs") == [0, 0, 1]


@pytest.mark.usefixtures("in_pages")
def test_answers_of_a_large_cancelled_job_do_not_turn_into_rows_that_never_ran(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 30)
    flow.answer(flow.claim())
    flow.cancel(tenant, job.job_id)
    assert not delete_outputs(flow.api, tenant, job.job_id, "output")
    purge_all(flow)
    assert flow.execute(tenant, "SELECT count(*), count(payload_sealed) FROM results") == [(10, 0)]
    assert [line.idx for line in iter_results(flow.api, tenant, job.job_id, which="errors")] == list(range(10, 30))


@pytest.mark.usefixtures("in_pages")
def test_a_page_whose_rows_somebody_holds_is_erased_again(flow: Flow, tenant: Actor) -> None:
    job = ended(flow, tenant)
    delete_job(flow.api, tenant, job.job_id)
    passes = purge(flow)
    with on_record(flow.api, tenant.tenant_id) as frozen:
        frozen.execute(text("SELECT FROM results WHERE idx = 5 FOR UPDATE"))
        with pytest.raises(Unfinished):
            passes.run()
    assert left(flow, tenant, "results") == [25]
    while passes.run().more:
        pass
    assert left(flow, tenant, *EVERYTHING) == [0] * 5


# What is kept for so long.


def age(flow: Flow, actor: Actor, days: int) -> None:
    """Every job ended so long ago, and was made before."""
    flow.execute(
        actor,
        "UPDATE jobs SET created_at = created_at - make_interval(days => :days),"
        " completed_at = completed_at - make_interval(days => :days)",
        days=days,
    )


def recorded(flow: Flow, actor: Actor, action: str) -> list[tuple[object, ...]]:
    return flow.execute(actor, "SELECT component, object_id FROM audit_events WHERE action = :action", action=action)


@pytest.mark.parametrize("rows", [5, 25])
def test_a_job_that_was_kept_for_long_enough_goes_with_all_that_is_left_of_it(flow: Flow, tenant: Actor, rows: int) -> None:
    old = ended(flow, tenant, rows)
    age(flow, tenant, 8)
    fresh = ended(flow, tenant, rows)
    lasting = Lasting(3600, jobs=7 * DAY)
    assert purge_all(flow, FOR_EVER) == 0
    assert purge_all(flow, lasting) == 1
    assert [job.job_id for job in list_jobs(flow.api, tenant, limit=10)[0]] == [fresh.job_id]
    assert left(flow, tenant, "results", "shards", "data_keys WHERE owner_kind = 'job'") == [rows, 1, 1]
    assert recorded(flow, tenant, "job.expire") == [("dispatcher", old.job_id)]
    assert purge_all(flow, lasting) == 0


@pytest.mark.parametrize("rows", [5, 25])
def test_results_that_were_kept_for_long_enough_go_with_their_shards_and_the_job_stays(flow: Flow, tenant: Actor, rows: int) -> None:
    job = ended(flow, tenant, rows, failing=2)
    age(flow, tenant, 8)
    lasting = Lasting(3600, results=7 * DAY)
    assert purge_all(flow, lasting) == 1
    assert left(flow, tenant, "results", "shards", "jobs") == [0, 0, 1]
    assert get_job(flow.api, tenant, job.job_id).completed_count == rows - 2
    with pytest.raises(Conflict, match="deleted"):
        retry_job(flow.api, tenant, job.job_id)
    assert recorded(flow, tenant, "results.expire") == [("dispatcher", job.job_id)]
    assert purge_all(flow, lasting) == 0


def test_a_job_that_has_not_ended_is_kept_however_old_it_is(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 5)
    age(flow, tenant, 400)
    assert purge_all(flow, Lasting(3600, results=DAY, jobs=DAY)) == 0
    assert get_job(flow.api, tenant, job.job_id).state == "in_progress"


def test_a_job_that_ran_again_is_kept_from_its_new_end_on(flow: Flow, tenant: Actor) -> None:
    job = ended(flow, tenant, 5, failing=2)
    age(flow, tenant, 8)
    retry_job(flow.api, tenant, job.job_id)
    assert purge_all(flow, Lasting(3600, jobs=7 * DAY)) == 0
    flow.answer(flow.claim(), [3, 4])
    finalize_jobs(flow.dispatcher)
    assert purge_all(flow, Lasting(3600, jobs=7 * DAY)) == 0


@pytest.mark.parametrize("rows", [5, 25])
def test_files_that_were_kept_for_long_enough_go_once_no_job_reads_them(flow: Flow, tenant: Actor, rows: int) -> None:
    old, used, fresh = (flow.upload(tenant, rows) for _ in range(3))
    flow.submit(tenant, used)
    flow.execute(tenant, "UPDATE files SET created_at = now() - interval '8 days' WHERE file_id <> :file", file=fresh.file_id)
    passes = FilePurge(flow.dispatcher, Lasting(3600, files=7 * DAY), page_rows=10)
    assert passes.run() == Purged(1, more=False)
    assert set(flow.execute(tenant, "SELECT file_id FROM files")) == {(used.file_id,), (fresh.file_id,)}
    assert recorded(flow, tenant, "file.expire") == [("dispatcher", old.file_id)]


# What was asked to go so long after the end.


def expiring(flow: Flow, actor: Actor, seconds: int | None = 3600) -> JobRecord:
    job = create_job(flow.api, actor, replace(new_job(flow.upload(actor, 5).file_id), results_expire_seconds=seconds))
    flow.cut(10_000)
    lease = flow.claim()
    flow.answer(lease, range(3), finish=False)
    flow.answer(lease, range(3, 5), fail=True)
    finalize_jobs(flow.dispatcher)
    return get_job(flow.api, actor, job.job_id)


def test_results_expire_so_long_after_the_end(flow: Flow, tenant: Actor) -> None:
    job = expiring(flow, tenant)
    assert job.completed_at is not None
    assert job.results_expire_at is not None
    assert (job.results_expire_at - job.completed_at).total_seconds() == 3600
    listed = list_files(flow.api, tenant, limit=10, purpose="batch_output")[0]
    assert [file.expires_at for file in listed] == [job.results_expire_at] * 2
    assert purge_all(flow) == 0


def test_expired_results_are_gone_at_once_and_erased_by_the_purge(flow: Flow, tenant: Actor) -> None:
    job = expiring(flow, tenant)
    flow.execute(tenant, "UPDATE jobs SET results_expire_at = now()")
    assert list_files(flow.api, tenant, limit=10, purpose="batch_output")[0] == []
    assert has_results(flow.api, tenant, job.job_id) == (False, False)
    for which in ("output", "errors"):
        with pytest.raises(NotFound):
            iter_results(flow.api, tenant, job.job_id, which=which)
        with pytest.raises(NotFound):
            delete_outputs(flow.api, tenant, job.job_id, which)
        assert not get_job(flow.api, tenant, job.job_id).has(which)
    with pytest.raises(Conflict, match="deleted"):
        retry_job(flow.api, tenant, job.job_id)
    assert purge_all(flow) == 1
    assert left(flow, tenant, "results", "shards", "jobs") == [0, 0, 1]
    assert recorded(flow, tenant, "results.expire") == [("dispatcher", job.job_id)]


def test_results_of_a_job_that_runs_again_expire_so_long_after_its_new_end(flow: Flow, tenant: Actor) -> None:
    job = expiring(flow, tenant)
    retry_job(flow.api, tenant, job.job_id)
    assert get_job(flow.api, tenant, job.job_id).results_expire_at is None
    flow.answer(flow.claim(), [3, 4])
    finalize_jobs(flow.dispatcher)
    again = get_job(flow.api, tenant, job.job_id)
    assert again.results_expire_at is not None
    assert job.results_expire_at is not None
    assert again.results_expire_at > job.results_expire_at


def test_results_stay_where_nobody_asked_for_their_end(flow: Flow, tenant: Actor) -> None:
    assert expiring(flow, tenant, None).results_expire_at is None
    age(flow, tenant, 400)
    assert purge_all(flow) == 0


# Of chains, and of what others read.


def chained(flow: Flow, actor: Actor) -> list[UUID]:
    """The steps of a chain that has run."""
    steps = chain(flow, actor, 5)
    run(flow, actor)
    run(flow, actor)
    return steps


@pytest.mark.parametrize("lasting", [Lasting(3600, jobs=7 * DAY), Lasting(3600, results=7 * DAY)])
def test_the_steps_of_a_chain_are_kept_as_long_as_its_last(flow: Flow, tenant: Actor, lasting: Lasting) -> None:
    _, last = chained(flow, tenant)
    age(flow, tenant, 8)
    flow.execute(tenant, "UPDATE jobs SET completed_at = now() WHERE job_id = :last", last=last)
    assert purge_all(flow, lasting) == 0
    age(flow, tenant, 8)
    assert purge_all(flow, lasting) == 2
    assert flow.count(tenant, "results") == 0


def test_the_steps_of_a_chain_whose_last_is_run_again_are_kept(flow: Flow, tenant: Actor) -> None:
    _, last = chain(flow, tenant, 5)
    run(flow, tenant)
    run(flow, tenant, fail=True)
    retry_job(flow.api, tenant, last)
    age(flow, tenant, 8)
    assert purge_all(flow, Lasting(3600, results=DAY, jobs=DAY)) == 0


@pytest.mark.parametrize("lasting", [Lasting(3600, jobs=7 * DAY), Lasting(3600, results=7 * DAY)])
def test_what_a_job_came_to_read_while_it_was_locked_is_kept(flow: Flow, tenant: Actor, lasting: Lasting) -> None:
    job = ended(flow, tenant, 5)
    age(flow, tenant, 8)
    reader = create_job(flow.api, tenant, new_job(job.file_id))
    put = "INSERT INTO job_sources (tenant_id, job_id, number, source_job_id) VALUES (:tenant, :reader, 1, :source)"
    locked = False

    def read_it(*told: Any) -> None:
        nonlocal locked
        if "NO KEY UPDATE" in told[2] and "outlived" in told[2] and not locked:
            locked = True
            flow.execute(tenant, put, tenant=tenant.tenant_id, reader=reader.job_id, source=job.job_id)

    event.listen(Engine, "after_cursor_execute", read_it)
    try:
        assert purge_all(flow, lasting) == 0
    finally:
        event.remove(Engine, "after_cursor_execute", read_it)
    assert locked
    assert flow.count(tenant, "results") == 5
