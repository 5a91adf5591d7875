"""Who watches a job is on record once an hour, with what the looks show; whatever else they show is recorded too."""

import uuid
from dataclasses import replace

import pytest
from sqlalchemy import text

from db.actors import Actor
from db.errors import AuditUnavailable, NotFound
from db.files.files import delete_file
from db.jobs.creating import create_job
from db.jobs.jobs import JobRecord, get_job, watch_job
from db.jobs.looks import _LAST, KEPT_LOOKS
from db.jobs.results import iter_results
from db.jobs.timeline import job_story
from db.recent import Recent
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores, new_job


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


@pytest.fixture
def watcher(tenant: Actor) -> Actor:
    """Somebody else than who made the job, which is a look too."""
    return replace(tenant, principal_id=uuid.uuid4(), key_id=uuid.uuid4(), origin="192.0.2.7")


@pytest.fixture
def job(flow: Flow, tenant: Actor) -> JobRecord:
    job = create_job(flow.api, tenant, new_job(flow.upload(tenant, 20).file_id, metadata={"k": "v"}))
    flow.cut()
    return job


def looks(flow: Flow, actor: Actor) -> int:
    (found,) = flow.execute(
        actor, "SELECT count(*) FROM audit_events WHERE action = 'job.read' AND principal_id = :who", who=actor.principal_id
    )
    return int(str(found[0]))


def test_the_looks_of_an_hour_are_one_event(flow: Flow, watcher: Actor, job: JobRecord) -> None:
    seen = [watch_job(flow.api, watcher, job.job_id) for _ in range(20)]
    assert looks(flow, watcher) == 1
    assert {str(one.metadata) for one in seen} == {"{'k': 'v'}"}


def test_a_look_of_another_hour_is_another_event(flow: Flow, watcher: Actor, job: JobRecord, as_superuser: AsSuperuser) -> None:
    watch_job(flow.api, watcher, job.job_id)
    as_superuser("UPDATE audit_events SET at = at - interval '1 hour'")
    watch_job(flow.api, watcher, job.job_id)
    assert looks(flow, watcher) == 2


@pytest.mark.parametrize(
    "other", [{"principal_id": uuid.uuid4()}, {"key_id": uuid.uuid4()}, {"key_id": None}, {"origin": "192.0.2.8"}, {"origin": None}]
)
def test_whoever_else_looks_is_on_record(flow: Flow, watcher: Actor, job: JobRecord, other: dict[str, object]) -> None:
    another = replace(watcher, **other)  # type: ignore[arg-type]
    watch_job(flow.api, watcher, job.job_id)
    before = looks(flow, another)
    watch_job(flow.api, another, job.job_id)
    assert looks(flow, another) == before + 1


def test_what_a_look_shows_beyond_the_record_is_recorded(flow: Flow, watcher: Actor, job: JobRecord, as_superuser: AsSuperuser) -> None:
    watch_job(flow.api, watcher, job.job_id)
    as_superuser("UPDATE jobs SET state = 'cancelled'")
    delete_file(flow.api, watcher, job.file_id)
    watch_job(flow.api, watcher, job.job_id)
    assert looks(flow, watcher) == 2
    watch_job(flow.api, watcher, job.job_id)
    assert looks(flow, watcher) == 2


def test_looks_at_another_job_are_on_record(flow: Flow, watcher: Actor, job: JobRecord) -> None:
    watch_job(flow.api, watcher, job.job_id)
    watch_job(flow.api, watcher, flow.job(watcher, 10).job_id)
    assert looks(flow, watcher) >= 2


def test_a_timeline_stands_for_no_look(flow: Flow, watcher: Actor, job: JobRecord) -> None:
    job_story(flow.api, watcher, job.job_id)
    watch_job(flow.api, watcher, job.job_id)
    assert looks(flow, watcher) == 2


def test_every_other_read_is_on_record_each_time(flow: Flow, watcher: Actor, job: JobRecord) -> None:
    watch_job(flow.api, watcher, job.job_id)
    for _ in range(3):
        get_job(flow.api, watcher, job.job_id)
        list(iter_results(flow.api, watcher, job.job_id, which="output"))
    read = flow.execute(watcher, "SELECT count(*) FROM audit_events WHERE action = 'results.read'")
    assert (looks(flow, watcher), read) == (1 + 3 + 3, [(3,)])


def test_a_missing_job_is_refused_on_record_each_time(flow: Flow, watcher: Actor) -> None:
    nowhere = uuid.uuid4()
    for _ in range(3):
        with pytest.raises(NotFound):
            watch_job(flow.api, watcher, nowhere)
    denied = flow.execute(watcher, "SELECT count(*) FROM audit_events WHERE outcome = 'denied' AND object_id = :at", at=nowhere)
    assert denied == [(3,)]


def test_a_look_that_is_on_record_reads_nothing_sealed_again(flow: Flow, watcher: Actor, job: JobRecord, as_superuser: AsSuperuser) -> None:
    """A process shows what it has read; one that has not, or whose key for it is gone from memory, reads it, on record."""
    shown = watch_job(flow.api, watcher, job.job_id)
    as_superuser("REVOKE INSERT ON audit_events FROM textmill_api")
    again = watch_job(flow.api, watcher, job.job_id)
    assert (again.metadata, again.file_name) == (shown.metadata, shown.file_name) == ({"k": "v"}, "a file")
    flow.api.keyring.forget(watcher.tenant_id, "job", job.job_id)
    with pytest.raises(AuditUnavailable):
        watch_job(flow.api, watcher, job.job_id)


def test_each_process_puts_what_it_reads_on_record(flow: Flow, watcher: Actor, job: JobRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    watch_job(flow.api, watcher, job.job_id)
    monkeypatch.setattr("db.jobs.looks._KEPT", Recent(KEPT_LOOKS))
    for _ in range(3):
        assert watch_job(flow.api, watcher, job.job_id).metadata == {"k": "v"}
    assert looks(flow, watcher) == 2


def test_rows_that_are_done_are_told_in_order_without_an_event(flow: Flow, watcher: Actor, job: JobRecord) -> None:
    watch_job(flow.api, watcher, job.job_id)
    flow.answer(flow.claim(), range(4), finish=False)
    assert watch_job(flow.api, watcher, job.job_id).rows_in_order == 4
    assert looks(flow, watcher) == 1


def test_without_its_event_a_first_look_shows_nothing(flow: Flow, watcher: Actor, job: JobRecord, as_superuser: AsSuperuser) -> None:
    as_superuser("REVOKE INSERT ON audit_events FROM textmill_api")
    with pytest.raises(AuditUnavailable):
        watch_job(flow.api, watcher, job.job_id)


def test_a_look_does_not_go_through_all_that_is_on_record_of_the_file(
    flow: Flow, watcher: Actor, job: JobRecord, as_superuser: AsSuperuser
) -> None:
    as_superuser(
        "INSERT INTO audit_events (tenant_id, event_id, at, component, action, outcome, object_kind, object_id, job_id)"
        " SELECT %s, gen_random_uuid(), now() - make_interval(secs => n), 'worker', 'rows.read', 'allowed', 'file', %s, %s"
        " FROM generate_series(1, 5000) AS n",
        [watcher.tenant_id, job.file_id, job.job_id],
    )
    as_superuser(
        "INSERT INTO audit_events (tenant_id, event_id, at, component, action, outcome, object_kind, object_id)"
        " SELECT %s, gen_random_uuid(), now() - make_interval(secs => n), 'api', 'file.delete', 'allowed', 'file', gen_random_uuid()"
        " FROM generate_series(1, 500) AS n",
        [watcher.tenant_id],
    )
    as_superuser("VACUUM ANALYZE audit_events")
    who = {"tenant_id": watcher.tenant_id, "principal": watcher.principal_id, "key_id": watcher.key_id, "origin": watcher.origin}
    with flow.api.transaction(tenant=watcher.tenant_id) as conn:
        explain = text("EXPLAIN (FORMAT JSON) " + _LAST.text)
        plan = str(conn.execute(explain, {**who, "job": job.job_id, "files": [job.file_id]}).scalar_one())
    assert "audit_events_gone" in plan
    assert "audit_events_by_object" not in plan
    assert "Seq Scan" not in plan
