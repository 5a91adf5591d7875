"""T15, T16: whoever logs in as the API or as a worker, and writes statements of their own, reads nothing without an event in that very
transaction; each beside the same read with one, and beside what is read where the policies are gone."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from db.actors import Actor, Lease
from db.catalogue.definitions import put_definition
from db.catalogue.heads import store_head
from db.catalogue.label_sets import put_label_set
from db.connect import Store
from db.errors import NotFound
from db.jobs.creating import create_job
from db.jobs.versions import PROMPTS
from db.operators.api_keys import create_api_key
from db.settings import Role
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores, new_job
from tests.looking import LOOK, on_record

API_TABLES = ("tenants", "tenant_keys", "data_keys", "files", "rows", "job_specs", "results", "label_sets", "definitions", "models")
WORKER_TABLES = ("tenant_keys", "data_keys", "files", "rows", "job_specs", "results", "label_sets", "definitions", "models")


@dataclass(frozen=True)
class Scene:
    """A tenant with something in each table, whose job a worker holds, and another one like it."""

    flow: Flow
    own: Actor
    foreign: Actor
    lease: Lease
    job_ids: dict[uuid.UUID, uuid.UUID]  # by tenant

    def worker_context(self) -> dict[str, Any]:
        return {"shard": self.lease.shard_id, "epoch": self.lease.epoch}


@pytest.fixture
def scene(stores: Stores, tenant: Actor) -> Scene:
    flow = Flow(stores)
    foreign = flow.new_tenant()
    job_ids: dict[uuid.UUID, uuid.UUID] = {}
    for actor in (foreign, tenant):
        put_label_set(flow.api, actor, "a set", ["a", "b"])
        put_definition(flow.api, actor, PROMPTS, "a prompt", "x")
        job = create_job(flow.api, actor, new_job(flow.upload(actor, 6).file_id, task="train", metadata={"k": "v"}))
        flow.cut()
        lease = flow.claim()
        assert lease.job_id == job.job_id
        assert job.head_id is not None
        store_head(flow.worker, lease, head_id=job.head_id, name="a head", base="b", card={"labels": []}, weights=b"w")
        flow.answer(lease, range(2), finish=False)
        job_ids[actor.tenant_id] = job.job_id
    return Scene(flow, tenant, foreign, lease, job_ids)


def seen(conn: Connection, tables: tuple[str, ...]) -> dict[str, int]:
    """How many rows of each the transaction sees."""
    return {name: conn.execute(text(f"SELECT count(tenant_id) FROM {name}")).scalar_one() for name in tables}


def sees_all(conn: Connection, tables: tuple[str, ...]) -> bool:
    counts = seen(conn, tables)
    assert not any(counts.values()) or all(counts.values()), counts
    return any(counts.values())


def event(conn: Connection, tenant_id: uuid.UUID, component: str, **columns: object) -> None:
    """As whoever has the login would write it."""
    values = {
        "tenant_id": tenant_id,
        "event_id": uuid.uuid4(),
        "component": component,
        "action": LOOK,
        "outcome": "allowed",
        **columns,
    }
    names = ", ".join(values)
    conn.execute(text(f"INSERT INTO audit_events ({names}) VALUES ({', '.join(':' + name for name in values)})"), values)


def act(conn: Connection, scene: Scene, actor: Actor, **columns: object) -> None:
    """As the API, on the tenant's job."""
    event(conn, actor.tenant_id, "api", job_id=scene.job_ids[actor.tenant_id], **columns)


@contextmanager
def as_api(scene: Scene) -> Iterator[Connection]:
    with scene.flow.api.transaction(tenant=scene.own.tenant_id) as conn:
        yield conn


@contextmanager
def as_worker(scene: Scene) -> Iterator[Connection]:
    with scene.flow.worker.transaction(tenant=scene.own.tenant_id, **scene.worker_context()) as conn:
        yield conn


def without_policies(as_superuser: AsSuperuser) -> None:
    for table, policy in as_superuser("SELECT tablename, policyname FROM pg_policies WHERE policyname LIKE '%\\_on\\_record'"):
        as_superuser(f"DROP POLICY {policy} ON {table}")


# As the API


def test_the_api_sees_nothing_sealed_without_an_event_and_all_of_its_tenant_with_one(scene: Scene) -> None:
    with as_api(scene) as conn:
        assert seen(conn, API_TABLES) == dict.fromkeys(API_TABLES, 0)
        act(conn, scene, scene.own)
        assert sees_all(conn, API_TABLES)


def test_where_the_policies_are_gone_the_same_statements_read_texts_unrecorded(scene: Scene, as_superuser: AsSuperuser) -> None:
    """The control of what is below."""
    assert plaintexts(scene) == []
    before = as_superuser("SELECT count(*) FROM audit_events")
    without_policies(as_superuser)
    assert plaintexts(scene) == [b'{"input":"text %d"}' % at for at in range(6)]
    assert as_superuser("SELECT count(*) FROM audit_events") == before


def plaintexts(scene: Scene) -> list[bytes]:
    """What somebody reads who has the API's login and its key file, in a process of their own that puts nothing on record."""
    ring, tenant_id = type(scene.flow.api.keyring)(scene.flow.api.keyring._provider), scene.own.tenant_id
    with as_api(scene) as conn:
        rows = conn.execute(text("SELECT file_id, idx, body_sealed FROM rows ORDER BY idx")).all()
        try:
            return [ring.sealer(conn, tenant_id, "file", row.file_id).open("rows.body", row.idx, row.body_sealed) for row in rows]
        except NotFound:
            return []


def test_the_keys_of_what_was_copied_out_before_are_not_seen_either(scene: Scene) -> None:
    ring = type(scene.flow.api.keyring)(scene.flow.api.keyring._provider)
    with as_api(scene) as conn, pytest.raises(NotFound):
        ring.sealer(conn, scene.own.tenant_id, "file", scene.lease.file_id)
    with on_record(scene.flow.api, scene.own.tenant_id) as conn:
        ring.sealer(conn, scene.own.tenant_id, "file", scene.lease.file_id)


def test_a_key_name_that_is_seen_without_an_event_does_not_open(scene: Scene) -> None:
    """A caller's row is looked up before it is known who calls, so no policy asks for an event there; what opens its name is under one."""
    tenant_id = scene.own.tenant_id
    key_id, _ = create_api_key(scene.flow.api, tenant_id, scene.own.principal_id, "whose key", {"read"})
    ring = type(scene.flow.api.keyring)(scene.flow.api.keyring._provider)
    name = text("SELECT name_sealed FROM api_keys WHERE key_id = :key")
    with as_api(scene) as conn:
        sealed = conn.execute(name, {"key": key_id}).scalar_one()
        with pytest.raises(NotFound):
            ring.sealer(conn, tenant_id, "tenant", tenant_id)
    assert ring.cached(tenant_id, "tenant", tenant_id) is None
    with on_record(scene.flow.api, tenant_id) as conn:
        assert ring.sealer(conn, tenant_id, "tenant", tenant_id).open("api_keys.name", key_id, sealed) == b"whose key", "the control"


def test_an_event_of_one_tenant_opens_nothing_of_another(scene: Scene) -> None:
    with as_api(scene) as conn:
        act(conn, scene, scene.own)
        conn.execute(text("SELECT set_config('textmill.tenant', :other, true)"), {"other": str(scene.foreign.tenant_id)})
        assert not sees_all(conn, API_TABLES)
        act(conn, scene, scene.foreign)
        assert sees_all(conn, API_TABLES)


def test_texts_and_results_are_opened_by_an_event_that_names_their_file_or_job(scene: Scene) -> None:
    file_id, job_id = scene.lease.file_id, scene.lease.job_id
    named: list[tuple[dict[str, object], tuple[int, int]]] = [
        ({}, (0, 0)),
        ({"object_kind": "file", "object_id": file_id}, (6, 0)),
        ({"object_kind": "file", "object_id": uuid.uuid4()}, (0, 0)),
        ({"object_kind": "job", "object_id": file_id}, (0, 0)),
        ({"job_id": job_id}, (6, 2)),
        ({"job_id": scene.job_ids[scene.foreign.tenant_id]}, (0, 0)),
        ({"job_id": uuid.uuid4()}, (0, 0)),
    ]
    for columns, expected in named:
        with as_api(scene) as conn:
            event(conn, scene.own.tenant_id, "api", **columns)
            assert tuple(seen(conn, ("rows", "results")).values()) == expected, columns
            assert seen(conn, ("data_keys",)) != {"data_keys": 0}


def test_to_say_that_files_are_deleted_opens_none_of_their_texts(scene: Scene) -> None:
    """Who writes an event that names nothing, marks all files as deleted, reads, and marks them as they were."""
    with as_api(scene) as conn:
        event(conn, scene.own.tenant_id, "api")
        assert conn.execute(text("UPDATE files SET state = 'deleted'")).rowcount == 1
        assert seen(conn, ("rows",)) == {"rows": 0}
        assert conn.execute(text("UPDATE rows SET body_sealed = NULL RETURNING OLD.body_sealed")).all() == []
        conn.execute(text("UPDATE rows SET body_sealed = NULL"))
        assert seen(conn, ("rows",)) == {"rows": 6}, "the control: of texts that are no more the ids are seen"
        conn.rollback()


def test_a_job_that_an_event_names_is_moved_to_no_other_file(scene: Scene) -> None:
    other = scene.flow.upload(scene.own, 3)
    with as_api(scene) as conn:
        act(conn, scene, scene.own)
        assert conn.execute(text("SELECT DISTINCT file_id FROM rows")).scalars().all() == [scene.lease.file_id]
        with pytest.raises(ProgrammingError, match="permission denied"):
            conn.execute(text("UPDATE jobs SET file_id = :other"), {"other": other.file_id})


def test_what_was_refused_opens_nothing(scene: Scene) -> None:
    with as_api(scene) as conn:
        act(conn, scene, scene.own, outcome="denied")
        assert not sees_all(conn, API_TABLES)


def test_an_event_opens_its_own_transaction_and_no_other(scene: Scene) -> None:
    with as_api(scene) as before:
        act(before, scene, scene.own)
        with as_api(scene) as beside:
            assert not sees_all(beside, API_TABLES)
        assert sees_all(before, API_TABLES)
    with as_api(scene) as after:
        assert not sees_all(after, API_TABLES)


def test_an_event_that_is_taken_back_opens_nothing_more(scene: Scene) -> None:
    with as_api(scene) as conn:
        savepoint = conn.begin_nested()
        act(conn, scene, scene.own)
        assert sees_all(conn, API_TABLES)
        savepoint.rollback()
        assert not sees_all(conn, API_TABLES)


@pytest.mark.parametrize("role", [Role.API, Role.WORKER, Role.DISPATCHER])
def test_nobody_writes_an_event_for_another_transaction(stores: Stores, tenant: Actor, role: Role) -> None:
    """Neither for one that is to come, whose number can be guessed, nor for none."""
    for xact in ("pg_current_xact_id()::text::bigint + 1", "pg_current_xact_id()::text::bigint - 1", "NULL", "0"):
        with pytest.raises(ProgrammingError, match="row-level security"), stores(role).transaction(tenant=tenant.tenant_id) as conn:
            conn.execute(
                text(
                    "INSERT INTO audit_events (tenant_id, event_id, component, action, outcome, xact)"
                    f" VALUES (:tenant, gen_random_uuid(), :component, 'a', 'allowed', {xact})"
                ),
                {"tenant": tenant.tenant_id, "component": role.value},
            )
    with stores(role).transaction(tenant=tenant.tenant_id) as conn:
        event(conn, tenant.tenant_id, role.value)


@pytest.mark.parametrize("moment", ["now() - interval '1 microsecond'", "'2020-01-01'"])
def test_an_event_of_the_same_number_in_a_database_from_before_opens_nothing(scene: Scene, as_superuser: AsSuperuser, moment: str) -> None:
    """A dump that is restored brings events along, into a database that counts its transactions anew."""
    with as_api(scene) as conn:
        number, now = conn.execute(text("SELECT pg_current_xact_id()::text::bigint, now()")).one()
        as_superuser(
            "INSERT INTO audit_events (tenant_id, event_id, at, component, action, outcome, job_id, xact)"
            f" VALUES (%s, gen_random_uuid(), {moment}, 'api', 'a', 'allowed', %s, %s)",
            [scene.own.tenant_id, scene.lease.job_id, number],
        )
        assert not sees_all(conn, API_TABLES)
        as_superuser("UPDATE audit_events SET at = %s WHERE xact = %s", [now, number])
        assert sees_all(conn, API_TABLES), "the control: of this moment it would count"


def test_an_event_of_another_transaction_that_began_in_the_same_moment_opens_nothing(scene: Scene, as_superuser: AsSuperuser) -> None:
    with as_api(scene) as conn:
        number, now = conn.execute(text("SELECT pg_current_xact_id()::text::bigint, now()")).one()
        as_superuser(
            "INSERT INTO audit_events (tenant_id, event_id, at, component, action, outcome, job_id, xact)"
            " VALUES (%s, gen_random_uuid(), %s, 'api', 'a', 'allowed', %s, %s)",
            [scene.own.tenant_id, now, scene.lease.job_id, number - 1],
        )
        assert not sees_all(conn, API_TABLES)


def test_nothing_is_changed_either_that_is_not_seen(scene: Scene, as_superuser: AsSuperuser) -> None:
    """What an UPDATE or a DELETE names, or gives back, it reads."""
    kept = as_superuser("SELECT count(*) FROM rows"), as_superuser("SELECT count(*) FROM results")
    statements = (
        "DELETE FROM rows WHERE idx >= 0",
        "DELETE FROM rows RETURNING body_sealed",
        "UPDATE rows SET body_sealed = body_sealed WHERE true RETURNING body_sealed",
        "UPDATE results SET payload_sealed = payload_sealed RETURNING payload_sealed",
        "UPDATE tenant_keys SET state = state RETURNING wrapped",
        "DELETE FROM data_keys RETURNING wrapped",
        "SELECT body_sealed FROM rows FOR UPDATE",
    )
    with as_api(scene) as conn:
        assert [conn.execute(text(statement)).all() if "RETURNING" in statement or "SELECT" in statement
                else conn.execute(text(statement)).rowcount for statement in statements] == [0, *[[]] * 6]  # fmt: skip
    assert kept == (as_superuser("SELECT count(*) FROM rows"), as_superuser("SELECT count(*) FROM results"))


def test_a_read_without_an_event_is_given_no_number(scene: Scene) -> None:
    """Numbers are few, and each costs a commit."""
    with as_api(scene) as conn:
        seen(conn, API_TABLES)
        assert conn.execute(text("SELECT pg_current_xact_id_if_assigned()")).scalar_one() is None


# As a worker


def test_a_worker_sees_nothing_sealed_of_its_shard_without_an_event_and_its_range_with_one(scene: Scene) -> None:
    with as_worker(scene) as conn:
        assert seen(conn, WORKER_TABLES) == dict.fromkeys(WORKER_TABLES, 0)
        event(conn, scene.own.tenant_id, "worker", job_id=scene.lease.job_id)
        assert sees_all(conn, WORKER_TABLES)


@pytest.mark.parametrize("job_id", [None, uuid.uuid4()])
def test_an_event_of_another_job_than_the_shards_opens_nothing(scene: Scene, job_id: uuid.UUID | None) -> None:
    with as_worker(scene) as conn:
        event(conn, scene.own.tenant_id, "worker", job_id=job_id)
        assert not sees_all(conn, WORKER_TABLES)


def test_an_event_makes_up_for_no_lease(scene: Scene) -> None:
    for context in ({}, {"shard": scene.lease.shard_id, "epoch": scene.lease.epoch - 1}, {"shard": uuid.uuid4(), "epoch": 1}):
        with on_record(scene.flow.worker, scene.own.tenant_id, job_id=scene.lease.job_id, **context) as conn:
            assert not sees_all(conn, WORKER_TABLES)


def test_where_the_policies_are_gone_a_worker_reads_its_shard_unrecorded(scene: Scene, as_superuser: AsSuperuser) -> None:
    without_policies(as_superuser)
    with as_worker(scene) as conn:
        assert sees_all(conn, WORKER_TABLES)


def test_of_the_record_a_worker_sees_its_own_transaction(scene: Scene) -> None:
    with as_worker(scene) as conn:
        assert conn.execute(text("SELECT count(tenant_id) FROM audit_events")).scalar_one() == 0
        event(conn, scene.own.tenant_id, "worker", job_id=scene.lease.job_id)
        assert conn.execute(text("SELECT count(tenant_id) FROM audit_events")).scalar_one() == 1


# What needs no event


def test_where_results_are_is_seen_without_an_event_and_of_ones_own_tenant_only(scene: Scene) -> None:
    with as_api(scene) as conn:
        found = conn.execute(text("SELECT * FROM result_places ORDER BY idx")).all()
        assert [tuple(row) for row in found] == [(scene.own.tenant_id, scene.lease.job_id, idx) for idx in range(2)]
    with scene.flow.api.transaction() as conn:
        assert conn.execute(text("SELECT count(*) FROM result_places")).scalar_one() == 0


def test_the_owner_sees_no_result_though_the_view_is_his(scene: Scene, stores: Callable[[Role], Store]) -> None:
    with stores(Role.OWNER).transaction(tenant=scene.own.tenant_id) as conn:
        assert conn.execute(text("SELECT count(*) FROM results")).scalar_one() == 0
        assert conn.execute(text("SELECT count(*) FROM result_places")).scalar_one() == 0


# What it costs


@pytest.mark.parametrize("role", [Role.API, Role.WORKER])
def test_the_event_is_looked_up_once_a_statement_and_by_an_index(scene: Scene, as_superuser: AsSuperuser, role: Role) -> None:
    as_superuser(
        "INSERT INTO audit_events (tenant_id, event_id, at, component, action, outcome)"
        " SELECT %s, gen_random_uuid(), now() - make_interval(secs => n), 'api', 'a', 'allowed' FROM generate_series(1, 5000) AS n",
        [scene.own.tenant_id],
    )
    as_superuser("ANALYZE audit_events")
    context = scene.worker_context() if role is Role.WORKER else {}
    with on_record(scene.flow.stores(role), scene.own.tenant_id, job_id=scene.lease.job_id, **context) as conn:
        explain = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT idx, body_sealed FROM rows WHERE tenant_id = :tenant AND file_id = :file"
        found = conn.execute(text(explain), {"tenant": scene.own.tenant_id, "file": scene.lease.file_id}).scalar_one()
    plan = list(nodes(found[0]["Plan"]))
    looks = [node for node in plan if node.get("Relation Name") == "audit_events"]
    index = "audit_events_by_time" if role is Role.API else "audit_events_by_job"  # both of which go by time
    assert {(node["Node Type"], node["Index Name"]) for node in looks} == {("Index Scan", index)}
    assert max(node["Actual Loops"] for node in plan) == 1


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)
