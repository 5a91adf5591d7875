"""The record: in the transaction of the access or, where it was refused, past its rollback; paged without gaps; and of one tenant."""

from dataclasses import replace
from hashlib import sha256
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from db.actors import Actor
from db.audit.acts import attempt, not_found, record_act, record_denied
from db.audit.events import record, record_digest
from db.audit.reading import AuditEvent, list_events
from db.errors import NotFound
from db.files.rows import iter_rows
from db.settings import Role
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def note(flow: Flow, actor: Actor, action: str = "test.act", *, object_id: UUID | None = None, job_id: UUID | None = None) -> UUID:
    with flow.api.transaction(tenant=actor.tenant_id) as conn:
        return record_act(conn, flow.api, actor, action, object_kind="file", object_id=object_id, job_id=job_id)


def one(flow: Flow, actor: Actor, action: str = "test.act") -> AuditEvent:
    (event,) = list_events(flow.api, actor, action=action)
    return event


def test_an_event_says_who_what_which_rows_why_and_from_where(flow: Flow, tenant: Actor) -> None:
    principal, key, thing, job = (uuid4() for _ in range(4))
    with flow.api.transaction(tenant=tenant.tenant_id) as conn:
        now = conn.execute(text("SELECT now()")).scalar_one()
        event_id = record(
            conn,
            tenant_id=tenant.tenant_id,
            component="api",
            action="test.act",
            principal_id=principal,
            key_id=key,
            object_kind="job",
            object_id=thing,
            first_idx=3,
            end_idx=9,
            job_id=job,
            request_id="req_1",
            origin="192.0.2.7",
            model_version="model-1",
        )
        record_digest(conn, tenant.tenant_id, event_id, iter([b"one", b"two"]))
    assert one(flow, tenant) == AuditEvent(
        event_id, now, "api", "test.act", "allowed", principal, key, "job", thing, 3, 9, job, "req_1", "192.0.2.7", "model-1", None, 0, 2,
        sha256(b"\0\0\0\3one\0\0\0\3two").digest(), None,
    )  # fmt: skip


def test_a_digest_can_be_made_again_from_the_ciphertexts(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    """Whoever has the rows can show later which version of them was read."""
    file = flow.upload(tenant, 3)
    list(iter_rows(flow.api, tenant, file.file_id))
    sealed = as_superuser("SELECT custom_id_sealed, body_sealed FROM rows WHERE file_id = %s ORDER BY idx", [file.file_id])
    total = sha256()
    for value in (value for row in sealed for value in row):
        total.update(len(value).to_bytes(4, "big") + bytes(value))
    event = one(flow, tenant, "rows.read")
    assert (event.row_count, event.value_count, event.digest) == (3, 6, total.digest())


@pytest.mark.parametrize(
    ("origin", "kept"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        (None, None),
        ("", None),
        ("testclient", None),
        ("192.0.2.7, 10.0.0.1", None),
        ("192.0.2.0/24", None),
        ("'; DROP TABLE audit_events; --", None),
        ("\x00", None),
    ],
)
def test_what_is_no_address_is_left_out_and_stops_nothing(flow: Flow, tenant: Actor, origin: str | None, kept: str | None) -> None:
    note(flow, replace(tenant, origin=origin))
    assert one(flow, tenant).origin == kept


def test_every_event_waits_to_be_sealed_once(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    note(flow, tenant)
    assert as_superuser("SELECT tenant_id, event_id FROM audit_events ORDER BY 2") == as_superuser(
        "SELECT tenant_id, event_id FROM audit_unsealed ORDER BY 2"
    )


def test_what_did_not_happen_is_not_on_record(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    before = as_superuser("SELECT count(*) FROM audit_unsealed")
    with flow.api.transaction(tenant=tenant.tenant_id) as conn:
        record_act(conn, flow.api, tenant, "test.act")
        conn.rollback()
    assert list_events(flow.api, tenant, action="test.act") == []
    assert before[0][0] + 1 == as_superuser("SELECT count(*) FROM audit_unsealed")[0][0]  # the look just taken


def test_a_refusal_stays_on_record_when_its_transaction_does_not(flow: Flow, tenant: Actor) -> None:
    thing = uuid4()
    with flow.api.transaction(tenant=tenant.tenant_id) as conn:
        record_act(conn, flow.api, tenant, "test.other")
        refusal = not_found(flow.api, tenant, "test.act", "file", thing, "There is no such thing.")
        conn.rollback()
    event = one(flow, tenant)
    assert (event.outcome, event.object_id, event.principal_id) == ("denied", thing, tenant.principal_id)
    assert event.code == refusal.code
    assert (refusal.status, refusal.code, refusal.message) == (404, "not_found", "There is no such thing.")
    assert list_events(flow.api, tenant, action="test.other") == []


def test_a_refusal_that_leaves_two_transactions_is_on_record_once(flow: Flow, tenant: Actor) -> None:
    """Of the inner one, which knows best."""
    with pytest.raises(NotFound), attempt(flow.api, tenant, "test.outer"), attempt(flow.api, tenant, "test.inner"):
        raise NotFound("There is no such thing.")
    assert [event.action for action in ("test.outer", "test.inner") for event in list_events(flow.api, tenant, action=action)] == [
        "test.inner"
    ]


@pytest.mark.parametrize("role", [Role.API, Role.WORKER, Role.DISPATCHER])
def test_every_component_that_acts_can_put_it_on_record(stores: Stores, tenant: Actor, role: Role) -> None:
    store = stores(role)
    with store.transaction(tenant=tenant.tenant_id) as conn:
        event_id = record(conn, tenant_id=tenant.tenant_id, component=store.role.value, action="test.act")
        record_digest(conn, tenant.tenant_id, event_id, [])
    record_denied(store, tenant, "test.refused")
    listed = {event.action: event for event in list_events(stores(Role.API), tenant)}
    assert (listed["test.act"].component, listed["test.act"].value_count, listed["test.act"].digest) == (role.value, 0, sha256().digest())
    assert listed["test.refused"].outcome == "denied"


# Reading it


def test_pages_show_each_event_once_newest_first(flow: Flow, tenant: Actor) -> None:
    with flow.api.transaction(tenant=tenant.tenant_id) as conn:  # of one transaction, so of one instant
        noted = [record_act(conn, flow.api, tenant, "test.act") for _ in range(5)]
    noted += [note(flow, tenant) for _ in range(4)]
    seen: list[AuditEvent] = []
    while page := list_events(flow.api, tenant, limit=2, after=seen[-1].event_id if seen else None, action="test.act"):
        assert len(page) <= 2
        seen += page
    assert sorted(event.event_id for event in seen) == sorted(noted)
    assert [event.event_id for event in seen[:4]] == noted[:4:-1]
    assert [event.at for event in seen] == sorted((event.at for event in seen), reverse=True)


def test_an_object_is_found_by_its_id_and_by_its_job(flow: Flow, tenant: Actor) -> None:
    thing = uuid4()
    wanted = {note(flow, tenant, object_id=thing), note(flow, tenant, "test.other", object_id=uuid4(), job_id=thing)}
    note(flow, tenant, object_id=uuid4())
    assert {event.event_id for event in list_events(flow.api, tenant, object_id=thing)} == wanted
    assert {event.action for event in list_events(flow.api, tenant, object_id=thing, action="test.other")} == {"test.other"}


def test_the_look_at_the_record_is_on_record(flow: Flow, tenant: Actor) -> None:
    list_events(flow.api, replace(tenant, request_id="req_look"))
    assert one(flow, tenant, "audit.list").request_id == "req_look"


def test_an_id_that_is_no_event_of_this_tenant_is_a_missing_one(flow: Flow, tenant: Actor) -> None:
    theirs = note(flow, flow.new_tenant())
    for wrong in (theirs, uuid4()):
        with pytest.raises(NotFound, match="`after`"):
            list_events(flow.api, tenant, after=wrong)
    assert theirs not in {event.event_id for event in list_events(flow.api, tenant)}


def test_the_auditor_reads_the_record_of_the_tenant_it_names(flow: Flow, tenant: Actor, stores: Stores) -> None:
    own, theirs = note(flow, tenant), note(flow, flow.new_tenant())
    with stores(Role.AUDITOR).transaction(tenant=tenant.tenant_id) as conn:
        seen = set(conn.execute(text("SELECT event_id FROM audit_events")).scalars())
    assert own in seen
    assert theirs not in seen
