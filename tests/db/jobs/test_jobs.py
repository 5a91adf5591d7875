import threading
import uuid
from typing import Any

import pytest

from db.actors import Actor
from db.errors import Conflict, NotFound, StoreError
from db.files import files
from db.files.files import create_file, delete_file
from db.jobs.creating import NewJob, RequestRef, create_job
from db.jobs.jobs import delete_outputs, get_job, list_jobs, read_spec
from db.jobs.results import has_results, iter_results
from db.jobs.steering import cancel_job
from db.lifecycle import INTERACTIVE_PRIORITY, MAX_INTERACTIVE_ROWS
from db.queue.endings import finalize_jobs
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores, new_job, plain


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_a_job_shows_what_it_was_made_with(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 3)
    job = create_job(flow.api, tenant, new_job(file.file_id, priority=7, metadata={"a": "ü"}))
    assert (job.state, job.row_count, job.priority, job.metadata, job.file_id) == ("validating", 3, 7, {"a": "ü"}, file.file_id)
    assert (job.deadline - job.created_at).total_seconds() == 3600
    assert get_job(flow.api, tenant, job.job_id) == job
    assert read_spec(flow.api, tenant, job.job_id) == {"defaults": {"labels": ["a", "b"]}}


def test_a_job_whose_file_is_deleted_as_it_is_looked_at_is_shown_without_its_name(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = flow.job(tenant, 2)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    finalize_jobs(flow.dispatcher)
    delete_outputs(flow.api, tenant, job.job_id, "output")
    delete_outputs(flow.api, tenant, job.job_id, "errors")
    flow.api.keyring.forget(tenant.tenant_id, "file", job.file_id)
    sealed_names = files.sealed_names

    def deleted_before(*arguments: Any) -> Any:
        delete_file(flow.api, tenant, job.file_id)
        return sealed_names(*arguments)

    monkeypatch.setattr(files, "sealed_names", deleted_before)
    shown = get_job(flow.api, tenant, job.job_id)
    assert (shown.file_name, shown.damaged) == (None, False)


def test_a_job_needs_a_file_of_its_own_tenant_that_is_complete(flow: Flow, tenant: Actor) -> None:
    foreign = flow.upload(flow.new_tenant(), 1)
    for file_id in (foreign.file_id, uuid.uuid4()):
        with pytest.raises(NotFound):
            create_job(flow.api, tenant, new_job(file_id))
    unfinished = create_file(flow.api, tenant, name="n", purpose="batch")
    with pytest.raises(Conflict) as refused:
        create_job(flow.api, tenant, new_job(unfinished.file_id))
    assert (refused.value.code, refused.value.status) == ("file_not_processed", 409)
    assert flow.execute(tenant, "SELECT FROM jobs") == []


def test_an_interactive_job_must_be_small(flow: Flow, tenant: Actor) -> None:
    small, large = flow.upload(tenant, MAX_INTERACTIVE_ROWS), flow.upload(tenant, MAX_INTERACTIVE_ROWS + 1)
    assert create_job(flow.api, tenant, new_job(small.file_id, priority=INTERACTIVE_PRIORITY)).interactive
    assert not create_job(flow.api, tenant, new_job(large.file_id, priority=INTERACTIVE_PRIORITY - 1)).interactive
    with pytest.raises(StoreError) as refused:
        create_job(flow.api, tenant, new_job(large.file_id, priority=INTERACTIVE_PRIORITY))
    assert (refused.value.code, refused.value.status) == ("too_many_rows", 400)
    assert len(flow.execute(tenant, "SELECT FROM jobs")) == 2


def test_a_spec_that_is_no_json_is_refused_without_quoting_it(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 1)
    new = new_job(file.file_id)
    with pytest.raises(StoreError) as refused:
        create_job(flow.api, tenant, type(new)(**{**{name: getattr(new, name) for name in new.__slots__}, "spec": {"x": float("nan")}}))
    assert (refused.value.code, refused.value.status) == ("invalid_spec", 400)
    assert refused.value.__cause__ is None


def test_the_same_request_again_finds_its_job(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 1)
    request = new_job(file.file_id, request=RequestRef(b"one request", b"body"))
    first = create_job(flow.api, tenant, request, find_twin=True)
    assert create_job(flow.api, tenant, request, find_twin=True).job_id == first.job_id
    assert create_job(flow.api, tenant, request).job_id != first.job_id
    assert (
        create_job(flow.api, tenant, new_job(file.file_id, request=RequestRef(b"another", b"body")), find_twin=True).job_id != first.job_id
    )
    flow.execute(tenant, "UPDATE jobs SET created_at = now() - interval '11 minutes'")
    assert create_job(flow.api, tenant, request, find_twin=True).job_id != first.job_id


def test_a_key_that_a_refused_job_leaves_in_memory_was_read_on_record(flow: Flow, tenant: Actor) -> None:
    unfinished = create_file(flow.api, tenant, name="half", purpose="batch")
    for file_id, refusal in ((uuid.uuid4(), NotFound), (unfinished.file_id, Conflict)):
        flow.api.keyring.forget(tenant.tenant_id, "tenant", tenant.tenant_id)
        before = flow.execute(tenant, "SELECT count(*) FROM audit_events WHERE action = 'key.read'")
        with pytest.raises(refusal):
            create_job(flow.api, tenant, new_job(file_id, request=RequestRef(b"one request", b"body")), find_twin=True)
        assert flow.api.keyring.cached(tenant.tenant_id, "tenant", tenant.tenant_id) is not None
        after = flow.execute(tenant, "SELECT count(*) FROM audit_events WHERE action = 'key.read'")
        assert int(str(after[0][0])) == int(str(before[0][0])) + 1


def test_the_same_name_over_another_body_is_refused(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 1)
    create_job(flow.api, tenant, new_job(file.file_id, request=RequestRef(b"one name", b"body")), find_twin=True)
    with pytest.raises(Conflict) as refusal:
        create_job(flow.api, tenant, new_job(file.file_id, request=RequestRef(b"one name", b"another body")), find_twin=True)
    assert refusal.value.code == "idempotency_key_reused"


def test_one_request_sent_many_times_at_once_makes_one_job(flow: Flow, tenant: Actor) -> None:
    """Several times over, for of each time it is chance whether two look before one has written."""
    file_id, at_once = flow.upload(tenant, 1).file_id, threading.Barrier(6)

    def send(request: NewJob, made: list[uuid.UUID]) -> None:
        at_once.wait(30)
        made.append(create_job(flow.api, tenant, request, find_twin=True).job_id)

    for number in range(8):
        made: list[uuid.UUID] = []
        request = new_job(file_id, request=RequestRef(b"request %d" % number, b"body"))
        threads = [threading.Thread(target=send, args=(request, made)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(made), len(set(made))) == (6, 1)


def test_lists_page_newest_first_by_id(flow: Flow, tenant: Actor) -> None:
    file = flow.upload(tenant, 1)
    made = [flow.submit(tenant, file).job_id for _ in range(5)]
    seen: list[uuid.UUID] = []
    pages = 0
    has_more = True
    while has_more:
        page, has_more = list_jobs(flow.api, tenant, limit=2, after=seen[-1] if seen else None)
        seen += [job.job_id for job in page]
        pages += 1
    assert (seen, pages) == (made[::-1], 3)


def test_a_list_after_an_unknown_or_foreign_id_is_not_found(flow: Flow, tenant: Actor) -> None:
    foreign = flow.job(flow.new_tenant(), 1)
    for after in (uuid.uuid4(), foreign.job_id):
        with pytest.raises(NotFound):
            list_jobs(flow.api, tenant, limit=2, after=after)


def test_another_tenants_job_is_not_found_anywhere(flow: Flow, tenant: Actor) -> None:
    foreign = flow.job(flow.new_tenant(), 1).job_id
    for act in (
        lambda: get_job(flow.api, tenant, foreign),
        lambda: cancel_job(flow.api, tenant, foreign),
        lambda: read_spec(flow.api, tenant, foreign),
        lambda: delete_outputs(flow.api, tenant, foreign, "output"),
        lambda: has_results(flow.api, tenant, foreign),
        lambda: iter_results(flow.api, tenant, foreign, which="output"),
    ):
        with pytest.raises(NotFound):
            act()
    assert list_jobs(flow.api, tenant, limit=5) == ([], False)
    assert len(flow.execute(tenant, "SELECT FROM audit_events WHERE outcome = 'denied'")) == 6


def test_counts_are_live_while_a_job_runs_and_exact_at_its_end(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 25)
    assert job.state == "in_progress"
    assert job.shards == {"ready": 3}
    lease = flow.claim()
    flow.answer(lease, [0, 1, 2], finish=False)
    job = get_job(flow.api, tenant, job.job_id)
    assert (job.completed_count, job.input_tokens, job.shards) == (3, 9, {"ready": 2, "leased": 1})
    flow.answer(lease, range(3, 10))
    for _ in range(2):
        flow.answer(flow.claim())
    assert finalize_jobs(flow.dispatcher) == 2  # two moves
    assert finalize_jobs(flow.dispatcher) == 0
    job = get_job(flow.api, tenant, job.job_id)
    assert (job.state, job.completed_count, job.failed_count, job.input_tokens, job.shards) == ("completed", 25, 0, 75, {})
    assert job.metrics is not None
    assert job.metrics["tokens"] == 8.0
    assert job.in_progress_at is not None
    assert job.finalizing_at is not None
    assert job.completed_at is not None
    assert job.created_at <= job.in_progress_at <= job.finalizing_at <= job.completed_at
    assert job.ended
    assert list_jobs(flow.api, tenant, limit=1)[0] == [job]


def test_a_job_that_has_ended_cannot_be_cancelled(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 1)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    with pytest.raises(Conflict) as refused:
        cancel_job(flow.api, tenant, job.job_id)
    assert (refused.value.code, refused.value.status) == ("cannot_cancel", 400)


def test_outputs_can_be_deleted_after_the_end_and_once(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, [plain(0), plain(1)])
    with pytest.raises(Conflict) as refused:
        delete_outputs(flow.api, tenant, job.job_id, "output")
    assert refused.value.code == "job_not_ended"
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    assert has_results(flow.api, tenant, job.job_id) == (True, False)
    delete_outputs(flow.api, tenant, job.job_id, "output")
    assert flow.execute(tenant, "SELECT FROM results") == []
    assert has_results(flow.api, tenant, job.job_id) == (False, False)
    for act in (
        lambda: delete_outputs(flow.api, tenant, job.job_id, "output"),
        lambda: iter_results(flow.api, tenant, job.job_id, which="output"),
    ):
        with pytest.raises(NotFound):
            act()
    assert get_job(flow.api, tenant, job.job_id).completed_count == 2


def test_deleted_answers_of_a_cancelled_job_do_not_turn_into_rows_that_never_ran(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 20)
    flow.answer(flow.claim())
    flow.cancel(tenant, job.job_id)
    delete_outputs(flow.api, tenant, job.job_id, "output")
    assert flow.execute(tenant, "SELECT count(*), count(payload_sealed) FROM results") == [(10, 0)]
    assert [line.idx for line in iter_results(flow.api, tenant, job.job_id, which="errors")] == list(range(10, 20))
    delete_outputs(flow.api, tenant, job.job_id, "errors")
    assert flow.execute(tenant, "SELECT FROM results") == []


def test_what_is_done_to_a_job_is_on_record(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 1)
    flow.answer(flow.claim())
    finalize_jobs(flow.dispatcher)
    delete_outputs(flow.api, tenant, job.job_id, "output")
    recorded = flow.execute(
        tenant,
        "SELECT component, action FROM audit_events WHERE job_id = :job AND action <> 'job.read' ORDER BY at",
        job=job.job_id,
    )
    assert recorded == [
        ("api", "job.create"),
        ("dispatcher", "job.start"),
        ("worker", "key.read"),  # which it has not opened
        ("worker", "results.write"),
        ("dispatcher", "job.completed"),
        ("api", "results.delete.output"),
    ]


def test_the_pace_of_a_job_is_counted_from_its_first_stored_rows(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    """Its model loaded for ten minutes before."""
    job = flow.job(tenant, 400)
    assert get_job(flow.api, tenant, job.job_id).pace is None
    for _ in range(6):
        flow.answer(flow.claim())
        as_superuser("UPDATE audit_events SET at = at - interval '2 seconds' WHERE action = 'results.write'")
    as_superuser("UPDATE jobs SET in_progress_at = now() - interval '10 minutes'")
    pace = get_job(flow.api, tenant, job.job_id).pace
    assert pace is not None
    assert 3 < pace < 6  # a shard of ten rows every two seconds
