"""T6, T8, T15, T16: every table × command × component, as the real login roles, against real rows of two tenants. Nothing is opened of
which there is no record."""

import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Delete, Insert, Select, Table, Update, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

import db
from db.actors import Actor, Lease
from db.catalogue.definitions import (
    definition_versions,
    find_definition,
    get_definition_for_worker,
    list_definitions,
    put_definition,
)
from db.catalogue.heads import find_head, head_versions, list_heads, load_head_for_worker, store_head
from db.catalogue.label_sets import find_label_set, get_label_set_for_worker, label_set_versions, list_label_sets, put_label_set
from db.connect import Store
from db.errors import AuditUnavailable
from db.files.columns import table_of_file
from db.files.files import get_file
from db.files.rows import iter_rows
from db.files.stored_names import names_of_file
from db.jobs.creating import create_job
from db.jobs.file_lists import list_files
from db.jobs.jobs import JobRecord, get_job, list_jobs, read_spec
from db.jobs.results import iter_results
from db.jobs.versions import PROMPTS, Version
from db.operators.api_keys import create_api_key, list_api_keys
from db.queue.results import write_results
from db.queue.row import WorkRow
from db.queue.shards import open_shard
from db.schema import metadata
from db.sealing.cells import Sealer
from db.settings import Role
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, answers, new_job
from tests.looking import on_record

Stores = Callable[[Role], Store]

# What each component can do with its own tenant's rows (the worker: under a live lease), on record. Select, Insert, Update, Delete.
# A small letter: some columns only, listed below. -: refused, or it finds nothing.
MATRIX = """
                    api    worker  dispatcher  auditor  owner
tenants             SIu-   ----    ----        ----     ----
api_keys            SIu-   ----    ----        ----     ----
store_keys          SI--   S---    ----        ----     ----
tenant_keys         SIu-   S---    ----        ----     ----
data_keys           SI-D   S---    s--D        ----     ----
files               SIUD   s---    s-uD        ----     ----
rows                SIuD   S---    s-uD        ----     ----
jobs                SIuD   S---    S-uD        ----     ----
job_specs           SI--   S---    ----        ----     ----
shards              S-uD   S-u-    SIuD        ----     ----
results             S-uD   sI--    siuD        ----     ----
label_sets          SIuD   S---    s--D        ----     ----
definitions         SIuD   S---    s--D        ----     ----
models              S-uD   SI--    s--D        ----     ----
deleted_versions    SIu-   S---    ----        ----     ----
job_pins            SI--   ----    S---        ----     ----
job_sources         SI--   S---    S---        ----     ----
schedules           SIUD   ----    ----        ----     ----
audit_events        SI--   sI--    -I--        S---     ----
audit_digests       SI--   -I--    -I--        S---     ----
audit_unsealed      SI--   -I--    -I--        S---     ----
audit_leaves        S---   ----    ----        S---     ----
audit_checkpoints   S---   ----    ----        S---     ----
workers             s---   SIuD    S-uD        ----     ----
leads               ----   ----    S-U-        ----     ----
"""
SOME_COLUMNS = {
    ("api", "tenants", "u"): "name_sealed",
    ("api", "api_keys", "u"): "revoked_at mac",
    ("api", "tenant_keys", "u"): "state",
    ("api", "rows", "u"): "defect body_sealed columns_sealed",
    ("api", "results", "u"): "payload_sealed",
    ("api", "jobs", "u"): " ".join(
        sorted(set(metadata.tables["jobs"].c.keys()) - {"tenant_id", "job_id", "file_id", "chain_id", "step", "reads_columns"})
    ),
    (
        "api",
        "shards",
        "u",
    ): "state epoch priority deadline not_before dispatched_at crash_attempts error_attempts last_error failed_count completed_count"
    " input_tokens output_tokens",
    ("worker", "files", "s"): "tenant_id file_id columns_sealed",
    ("worker", "shards", "u"): "state epoch not_before dispatched_at lease_expires_at worker crash_attempts error_attempts last_error"
    " completed_count failed_count input_tokens output_tokens metrics last_worker progressed_at in_company",
    ("worker", "workers", "u"): "state seen_at progressed_at leases rows_done memory_bytes models loaded loading loading_since calibrating",
    ("api", "workers", "s"): "state seen_at models loaded loading loading_since calibrating",
    ("dispatcher", "workers", "u"): "asked",
    ("worker", "results", "s"): "tenant_id job_id idx outcome payload_sealed epoch",
    ("worker", "audit_events", "s"): "tenant_id at outcome object_kind object_id job_id xact",  # of its own transaction: test_on_record.py
    ("api", "label_sets", "u"): "deleted_at",
    ("api", "definitions", "u"): "deleted_at",
    ("api", "models", "u"): "deleted_at",
    ("api", "deleted_versions", "u"): "number",
    ("dispatcher", "label_sets", "s"): "tenant_id label_set_id number first_id created_at deleted_at",
    ("dispatcher", "definitions", "s"): "tenant_id definition_id kind number first_id created_at deleted_at",
    ("dispatcher", "models", "s"): "tenant_id model_id number first_id created_at deleted_at",
    ("dispatcher", "data_keys", "s"): "tenant_id key_id owner_kind owner_id",
    (
        "dispatcher",
        "files",
        "s",
    ): "tenant_id file_id purpose state error_code size_bytes size_chars row_count defect_count created_at expires_at",
    ("dispatcher", "files", "u"): "state name_sealed stored_names_sealed columns_sealed expires_at",
    ("dispatcher", "rows", "s"): "tenant_id file_id idx line endpoint defect size",
    ("dispatcher", "rows", "u"): "body_sealed columns_sealed",
    (
        "dispatcher",
        "jobs",
        "u",
    ): "state completed_count failed_count input_tokens output_tokens errors metrics in_progress_at turn_at finalizing_at"
    " completed_at failed_at expired_at cancelled_at output_deleted_at errors_deleted_at deleted_at erase_from_idx results_expire_at"
    " run_ends_at end_code",
    (
        "dispatcher",
        "shards",
        "u",
    ): "end_idx cost state epoch priority deadline not_before dispatched_at lease_expires_at worker crash_attempts"
    " error_attempts last_error completed_count failed_count input_tokens output_tokens metrics",
    ("dispatcher", "results", "s"): "tenant_id job_id idx outcome code epoch",
    ("dispatcher", "results", "u"): "payload_sealed",
    ("dispatcher", "results", "i"): "tenant_id job_id idx outcome code epoch",
}
# Coordination, without ciphertext: these look across tenants. Everybody else, everywhere else, sees no row of another tenant.
ACROSS_TENANTS = {("worker", "jobs"), ("worker", "shards")} | {
    ("dispatcher", name)
    for name in (
        *("files", "rows", "jobs", "shards", "results", "data_keys", "label_sets", "definitions", "models", "job_pins", "job_sources"),
        *("audit_events", "audit_digests", "audit_unsealed"),
    )
}
HEADS = [line.split() for line in MATRIX.strip().splitlines()]
CELLS = {(role, table): rights for table, *cells in HEADS[1:] for role, rights in zip(HEADS[0], cells, strict=True)}
TABLES = [metadata.tables[name] for name, *_ in HEADS[1:]]
REFUSED = re.compile("permission denied|row-level security|invalid input syntax for type uuid")


@dataclass(frozen=True)
class Scene:
    """Two tenants with something in every table; a shard of the first one's training job is held by a worker, two of its six rows done."""

    flow: Flow
    own: Actor
    foreign: Actor
    job: JobRecord
    lease: Lease
    samples: dict[tuple[str, uuid.UUID], dict[str, Any]]  # by table and tenant: a row that is there

    @contextmanager
    def as_role(self, role: Role, *, tenant: uuid.UUID | None = None) -> Iterator[Connection]:
        """A transaction for the first tenant (or another), under the lease where it is the worker's, on record where it can be; nothing of
        it stays."""
        held = {"shard": self.lease.shard_id, "epoch": self.lease.epoch} if role is Role.WORKER else {}
        store, of = self.flow.stores(role), tenant or self.own.tenant_id
        acts = role in (Role.API, Role.WORKER, Role.DISPATCHER)
        with on_record(store, of, job_id=self.lease.job_id, **held) if acts else store.transaction(tenant=of) as conn:
            yield conn
            conn.rollback()


@pytest.fixture
def scene(stores: Stores, tenant: Actor, as_superuser: AsSuperuser) -> Scene:
    flow = Flow(stores)
    foreign = flow.new_tenant()
    others = flow.job(foreign, 6)
    flow.answer(flow.claim("host:2"), range(2), finish=False)
    job = create_job(flow.api, tenant, new_job(flow.upload(tenant, 6).file_id, task="train", metadata={"k": "v"}))
    flow.cut()
    lease = flow.claim()
    assert lease.tenant_id == tenant.tenant_id
    flow.answer(lease, range(2), finish=False)
    assert others.file_id != lease.file_id
    for actor, reading in ((tenant, job), (foreign, others)):
        read = create_job(flow.api, actor, new_job(reading.file_id))
        as_superuser("UPDATE jobs SET state = 'cancelled' WHERE job_id = %s", [read.job_id])
        as_superuser(
            "INSERT INTO job_sources (tenant_id, job_id, number, source_job_id) VALUES (%s, %s, 1, %s)",
            [actor.tenant_id, reading.job_id, read.job_id],
        )
        put_label_set(flow.api, actor, "a set", ["a", "b"])
        put_definition(flow.api, actor, PROMPTS, "a prompt", "x")
        create_api_key(flow.api, actor.tenant_id, actor.principal_id, "a key", ["read"])
        own = [actor.tenant_id]
        as_superuser(
            "INSERT INTO models (tenant_id, model_id, kind, base, version, name_hmac, card_sealed, weights_sealed)"
            " VALUES (%s, gen_random_uuid(), 'head', 'b', 'v', 'n', 'c', 'w')",
            own,
        )
        as_superuser("INSERT INTO deleted_versions (tenant_id, name_hmac, number) VALUES (%s, 'n', 2)", own)
        as_superuser(
            "INSERT INTO job_pins (tenant_id, job_id, version_id)"
            " SELECT tenant_id, job_id, gen_random_uuid() FROM jobs WHERE tenant_id = %s",
            own,
        )
        as_superuser(
            "INSERT INTO schedules (tenant_id, schedule_id, principal_id, cron, timezone, spec_sealed, state)"
            " VALUES (%s, gen_random_uuid(), gen_random_uuid(), 'c', 'UTC', 's', 'active')",
            own,
        )
        as_superuser(
            "INSERT INTO audit_leaves (leaf_index, tenant_id, event_id, leaf_hash)"
            " SELECT (SELECT count(*) FROM audit_leaves), %s, gen_random_uuid(), 'h'",
            own,
        )
    as_superuser("INSERT INTO audit_checkpoints (tree_size, root_hash, note) VALUES (2, 'h', 'n')")
    as_superuser("INSERT INTO workers (worker, device, threads, version, asked) VALUES ('host:1', 'cpu', 4, '1', 'drain')")
    samples = {
        (table.name, actor.tenant_id): sample(as_superuser, table, actor.tenant_id) for table in TABLES for actor in (tenant, foreign)
    }
    return Scene(flow, tenant, foreign, job, lease, samples)


# The matrix


def test_the_matrix_speaks_of_every_table_and_component() -> None:
    assert {table for table, *_ in HEADS[1:]} == set(metadata.tables)
    assert set(HEADS[0]) == {role.value for role in Role}
    small = {(role, table, letter) for (role, table), cell in CELLS.items() for letter in cell if letter.islower()}
    assert small == set(SOME_COLUMNS)


def test_each_component_can_do_what_the_matrix_says_and_no_more(scene: Scene, as_superuser: AsSuperuser) -> None:
    as_superuser("UPDATE files SET expires_at = now() - interval '1 hour'")  # the dispatcher removes no others: test_dispatcher_reach.py
    as_superuser("UPDATE jobs SET state = 'failed', deleted_at = now(), erase_from_idx = 0")
    for name in ("files", "jobs"):
        scene.samples[name, scene.own.tenant_id] = sample(as_superuser, metadata.tables[name], scene.own.tenant_id)
    found: dict[tuple[str, str], str] = {}
    for role in Role:
        with scene.as_role(role) as conn:
            for table in TABLES:
                probes = (can_select, can_insert, can_update, can_delete)
                found[role.value, table.name] = "".join(probe(conn, scene, role, table) for probe in probes)
    assert found == CELLS


def test_no_component_reaches_another_tenants_rows(scene: Scene) -> None:
    """Asked for them by name, and by leaving the condition out; an INSERT in the other's name is refused."""
    reached: set[tuple[str, str]] = set()
    for role in Role:
        with scene.as_role(role) as conn:
            for table in TABLES:
                if "tenant_id" in table.c and any(reaching(conn, scene, role, table)):
                    reached.add((role.value, table.name))
    assert reached == ACROSS_TENANTS


def reaching(conn: Connection, scene: Scene, role: Role, table: Table) -> Iterator[int]:
    """How many rows of the other tenant each kind of statement touches."""
    theirs = table.c.tenant_id == scene.foreign.tenant_id
    row = another_row(scene, role, table, scene.foreign)
    yield attempt(conn, select(func.count(table.c.tenant_id)).where(theirs))
    yield attempt(conn, select(func.count(table.c.tenant_id)).where(table.c.tenant_id != scene.own.tenant_id))
    yield attempt(conn, delete(table).where(theirs))
    yield attempt(conn, insert(table).values(row))
    yield attempt(conn, insert(table).values({name: row[name] for name in some(role, table, "i") or row}))
    for name, value in row.items():
        yield attempt(conn, update(table).where(theirs).values({name: value}))


def test_without_a_context_nothing_is_seen(scene: Scene) -> None:
    seen: set[tuple[str, str]] = set()
    for role in Role:
        with scene.flow.stores(role).engine.begin() as conn:  # past Store.transaction, as a bug would
            seen |= {(role.value, table.name) for table in TABLES if attempt(conn, select(func.count(next(iter(table.c)))))}
    everybodys = {("api", "audit_checkpoints"), ("auditor", "audit_checkpoints"), ("worker", "workers"), ("dispatcher", "workers")}
    everybodys |= {("api", "store_keys"), ("worker", "store_keys"), ("dispatcher", "leads")}
    assert seen == everybodys | {cell for cell in ACROSS_TENANTS if CELLS[cell][0] in "Ss"}


def test_a_context_that_is_no_id_is_an_error_or_shows_nothing(scene: Scene) -> None:
    for role in (Role.API, Role.WORKER, Role.AUDITOR):
        with scene.flow.stores(role).engine.begin() as conn:
            for wrong in ("", "*", "' OR true --", str(uuid.UUID(int=0))):
                conn.execute(text("SELECT set_config('textmill.tenant', :wrong, true)"), {"wrong": wrong})
                for table in TABLES:
                    if "tenant_id" in table.c and (role.value, table.name) not in ACROSS_TENANTS:
                        assert not attempt(conn, select(func.count(table.c.tenant_id)))


def attempt(conn: Connection, statement: Select[Any] | Insert | Update | Delete) -> int:
    """How many rows it touched, or counted; 0 where it was refused. Undone."""
    savepoint = conn.begin_nested()
    try:
        done = conn.execute(statement)
        if isinstance(statement, Select):
            return int(done.scalar_one())
        return 1 if isinstance(statement, Insert) else done.rowcount
    except IntegrityError:  # past rights and policies: a foreign key or a unique one speaks
        return 1
    except DBAPIError as error:
        if REFUSED.search(str(error.orig)):
            return 0
        raise
    finally:
        savepoint.rollback()


def letter(allowed: set[str], columns: set[str], name: str) -> str:
    return name if allowed == columns else name.lower() if allowed else "-"


def some(role: Role, table: Table, name: str) -> list[str]:
    return SOME_COLUMNS.get((role.value, table.name, name), "").split()


def listed(role: Role, table: Table, name: str, allowed: set[str]) -> str:
    """The letter; where it is a small one, the columns must be those listed."""
    found = letter(allowed, set(table.c.keys()), name)
    assert not found.islower() or allowed == set(some(role, table, found)), (table.name, allowed)
    return found


def can_select(conn: Connection, _scene: Scene, role: Role, table: Table) -> str:
    return listed(
        role,
        table,
        "S",
        {column.name for column in table.c if attempt(conn, select(func.count()).select_from(select(column).subquery()))},
    )


def can_update(conn: Connection, scene: Scene, role: Role, table: Table) -> str:
    """To a value given, without a condition: naming a column in either would need the right to read it."""
    row = scene.samples[table.name, scene.own.tenant_id]
    allowed = {column.name for column in table.c if attempt(conn, update(table).values({column.name: row[column.name]}))}
    return listed(role, table, "U", allowed)


def can_delete(conn: Connection, _scene: Scene, _role: Role, table: Table) -> str:
    return "D" if attempt(conn, delete(table)) else "-"


def can_insert(conn: Connection, scene: Scene, role: Role, table: Table) -> str:
    row = another_row(scene, role, table, scene.own)
    if table.name == "tenants":  # the one thing that is made before its tenant is there
        conn.execute(text("SELECT set_config('textmill.tenant', :new, true)"), {"new": str(row["tenant_id"])})
    made = attempt(conn, insert(table).values(row))
    conn.execute(text("SELECT set_config('textmill.tenant', :own, true)"), {"own": str(scene.own.tenant_id)})
    if made:
        return "I"
    columns = some(role, table, "i")
    return "i" if columns and attempt(conn, insert(table).values({name: row[name] for name in columns})) else "-"


def sample(superuser: AsSuperuser, table: Table, tenant_id: uuid.UUID) -> dict[str, Any]:
    names = list(table.c.keys())
    where, values = ("WHERE tenant_id = %s", [tenant_id]) if "tenant_id" in table.c else ("", [])
    found = superuser(f"SELECT {', '.join(names)} FROM {table.name} {where} LIMIT 1", values)
    assert found, f"{table.name} holds nothing to try it with"
    return dict(zip(names, found[0], strict=True))


def another_row(scene: Scene, role: Role, table: Table, actor: Actor) -> dict[str, Any]:
    """A row like the actor's, under a key of its own; of the record: in the role's own name and at this moment, as it may be written."""
    row = {**scene.samples[table.name, actor.tenant_id], **fresh_key(table, scene)}
    if table.name == "audit_events":
        row["component"] = role.value
        del row["at"], row["xact"]
    return row


def fresh_key(table: Table, scene: Scene) -> dict[str, Any]:
    """So that it is another row, and one that the worker's lease covers where that counts."""
    keys: dict[str, dict[str, Any]] = {
        "tenants": {"tenant_id": uuid.uuid4()},
        "store_keys": {},
        "api_keys": {"key_id": uuid.uuid4(), "key_hash": os.urandom(32)},
        "tenant_keys": {"key_epoch": 99},
        "data_keys": {"key_id": uuid.uuid4(), "owner_kind": "job", "owner_id": uuid.uuid4()},
        "files": {"file_id": uuid.uuid4()},
        "rows": {"idx": 99},
        "jobs": {"job_id": uuid.uuid4()},
        "job_specs": {"job_id": uuid.uuid4()},
        "shards": {"shard_id": uuid.uuid4()},
        "results": {"idx": 5, "job_id": scene.job.job_id, "outcome": 2},
        "label_sets": {"label_set_id": uuid.uuid4(), "name_hmac": os.urandom(16)},
        "definitions": {"definition_id": uuid.uuid4(), "name_hmac": os.urandom(16)},
        "models": {"model_id": scene.job.head_id, "name_hmac": os.urandom(16)},
        "deleted_versions": {"name_hmac": os.urandom(16)},
        "job_sources": {"number": 99},
        "job_pins": {"version_id": uuid.uuid4()},
        "schedules": {"schedule_id": uuid.uuid4()},
        "audit_events": {"event_id": uuid.uuid4()},
        "audit_digests": {"event_id": uuid.uuid4()},
        "audit_unsealed": {"event_id": uuid.uuid4()},
        "audit_leaves": {"leaf_index": 99},
        "audit_checkpoints": {"tree_size": 99},
        "workers": {"worker": "host:99"},
        "leads": {"role": "another"},
    }
    return keys[table.name]


# The worker's lease

SEALED_TABLES = ("files", "rows", "job_specs", "results", "data_keys", "tenant_keys", "label_sets", "definitions", "models")


def seen_by_worker(scene: Scene, *, job_id: uuid.UUID | None = None, **context: Any) -> dict[str, int]:
    """On record, wherever a tenant is named."""
    counts: dict[str, int] = {}
    worker, tenant_id = scene.flow.worker, context.pop("tenant", None)
    seeing = on_record(worker, tenant_id, job_id=job_id or scene.lease.job_id, **context) if tenant_id else worker.transaction(**context)
    with seeing as conn:
        for name in SEALED_TABLES:
            counts[name] = conn.execute(select(func.count(metadata.tables[name].c.tenant_id))).scalar_one()
    return counts


NOTHING = dict.fromkeys(SEALED_TABLES, 0)


def test_under_a_live_lease_a_worker_sees_its_range_and_no_more(scene: Scene) -> None:
    flow, lease = scene.flow, scene.lease
    flow.answer(lease, range(2, 6))  # the training job ends
    job = flow.job(scene.own, 30)
    held = flow.claim()
    assert (held.job_id, held.end_idx - held.first_idx) == (job.job_id, 10)
    context: dict[str, Any] = {"tenant": held.tenant_id, "job_id": held.job_id, "shard": held.shard_id, "epoch": held.epoch}
    with on_record(flow.worker, held.tenant_id, job_id=held.job_id, shard=held.shard_id, epoch=held.epoch) as conn:
        rows = metadata.tables["rows"].c
        assert list(conn.execute(select(rows.idx).order_by(rows.idx)).scalars()) == list(range(held.first_idx, held.end_idx))
        assert set(conn.execute(select(rows.file_id)).scalars()) == {held.file_id}
        keys = metadata.tables["data_keys"].c
        assert set(conn.execute(select(keys.owner_id)).scalars()) == {held.tenant_id, held.job_id, held.file_id}
    assert seen_by_worker(scene, **context) == {
        "files": 1, "rows": 10, "job_specs": 1, "results": 0, "data_keys": 3, "tenant_keys": 1, "label_sets": 1, "definitions": 1,
        "models": 1,
    }  # fmt: skip
    write_results(flow.worker, held, answers([held.first_idx]), finish=False, model_version="m", metrics=None)
    assert seen_by_worker(scene, **context)["results"] == 1


def test_without_the_whole_of_a_live_lease_a_worker_sees_nothing(scene: Scene) -> None:
    whole: dict[str, Any] = {"tenant": scene.lease.tenant_id, "shard": scene.lease.shard_id, "epoch": scene.lease.epoch}
    assert min(seen_by_worker(scene, **whole).values()) > 0
    for part in whole:
        assert seen_by_worker(scene, **{**whole, part: None}) == NOTHING, part
    assert seen_by_worker(scene) == NOTHING
    for wrong in ({"epoch": 0}, {"epoch": 2}, {"shard": uuid.uuid4()}, {"tenant": uuid.uuid4()}, {"tenant": scene.foreign.tenant_id}):
        assert seen_by_worker(scene, **{**whole, **wrong}) == NOTHING, wrong


def test_when_the_lease_is_over_a_worker_sees_nothing(scene: Scene, as_superuser: AsSuperuser) -> None:
    context: dict[str, Any] = {"tenant": scene.lease.tenant_id, "shard": scene.lease.shard_id, "epoch": scene.lease.epoch}
    whole = seen_by_worker(scene, **context)
    kept = as_superuser("SELECT state, epoch, lease_expires_at FROM shards WHERE shard_id = %s", [scene.lease.shard_id])[0]
    for end in ("lease_expires_at = now()", "lease_expires_at = NULL", "state = 'done'", "state = 'ready'", "epoch = epoch + 1"):
        as_superuser(f"UPDATE shards SET {end} WHERE shard_id = %s", [scene.lease.shard_id])
        assert seen_by_worker(scene, **context) == NOTHING, end
        as_superuser("UPDATE shards SET state = %s, epoch = %s, lease_expires_at = %s WHERE shard_id = %s", [*kept, scene.lease.shard_id])
    assert seen_by_worker(scene, **context) == whole


def test_a_worker_writes_no_result_outside_its_range(scene: Scene) -> None:
    results = metadata.tables["results"]
    row = {"tenant_id": scene.own.tenant_id, "job_id": scene.job.job_id, "outcome": 1, "epoch": scene.lease.epoch}
    with scene.as_role(Role.WORKER) as conn:
        written = {idx: attempt(conn, insert(results).values({**row, "idx": idx})) for idx in (-1, 5, 6, 99)}
        assert written == {-1: 0, 5: 1, 6: 0, 99: 0}
        assert attempt(conn, insert(results).values({**row, "idx": 5, "job_id": uuid.uuid4()})) == 0


def test_the_dispatcher_stores_failures_and_no_answers(scene: Scene) -> None:
    results = metadata.tables["results"]
    row = {"tenant_id": scene.own.tenant_id, "job_id": scene.job.job_id, "idx": 5, "epoch": 1}
    with scene.as_role(Role.DISPATCHER) as conn:
        assert attempt(conn, insert(results).values({**row, "outcome": 2, "code": "crashed_worker"}))
        assert not attempt(conn, insert(results).values({**row, "outcome": 1}))
        assert not attempt(conn, insert(results).values({**row, "outcome": 2, "payload_sealed": b"\x01"}))


def test_the_lease_costs_a_look_up_a_statement_and_not_one_a_row(scene: Scene) -> None:
    """InitPlans run once. A correlated SubPlan would run for each of a million rows."""
    with scene.as_role(Role.WORKER) as conn:
        plan = conn.execute(
            text("EXPLAIN (FORMAT JSON) SELECT idx, body_sealed FROM rows WHERE tenant_id = :tenant AND file_id = :file"),
            {"tenant": scene.lease.tenant_id, "file": scene.lease.file_id},
        ).scalar_one()
    relations = [node.get("Parent Relationship") for node in nodes(plan[0]["Plan"])]
    assert relations.count("InitPlan") >= 3
    assert "SubPlan" not in relations


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


# Foreign keys under forced row-level security


def test_foreign_keys_work_for_the_component_that_may_see_nothing_of_the_owner(scene: Scene) -> None:
    """Their checks and cascades run as the tables' owner, whom forced row-level security shows nothing."""
    flow, own = scene.flow, scene.own
    job = create_job(flow.api, own, new_job(scene.lease.file_id))
    flow.cut()
    count = "SELECT (SELECT count(*) FROM job_specs WHERE job_id = :job), (SELECT count(*) FROM shards WHERE job_id = :job)"
    assert flow.execute(own, count, job=job.job_id) == [(1, 1)]
    with pytest.raises(IntegrityError):
        flow.execute(
            own,
            "INSERT INTO jobs (tenant_id, job_id, file_id, principal_id, task, endpoint, state, completion_window_seconds)"
            " SELECT tenant_id, gen_random_uuid(), gen_random_uuid(), principal_id, task, endpoint, state, 1 FROM jobs WHERE job_id = :job",
            job=job.job_id,
        )
    with pytest.raises(IntegrityError):
        flow.execute(own, "DELETE FROM files WHERE file_id = :file", file=job.file_id)
    flow.execute(own, "DELETE FROM jobs WHERE job_id = :job", job=job.job_id)
    assert flow.execute(own, count, job=job.job_id) == [(0, 0)]


# No record, no content

READERS: dict[str, Callable[[Scene], object]] = {
    "files/files.get_file": lambda on: get_file(on.flow.api, on.own, on.lease.file_id),
    "jobs/file_lists.list_files": lambda on: list_files(on.flow.api, on.own, limit=10),
    "catalogue/heads.find_head": lambda on: find_head(on.flow.api, on.own, "a head"),
    "catalogue/heads.head_versions": lambda on: head_versions(on.flow.api, on.own, "a head"),
    "catalogue/heads.list_heads": lambda on: list_heads(on.flow.api, on.own),
    "catalogue/heads.load_head_for_worker": lambda on: load_head_for_worker(on.flow.worker, on.lease, "a head", None),
    "jobs/jobs.get_job": lambda on: get_job(on.flow.api, on.own, on.job.job_id),
    "jobs/jobs.list_jobs": lambda on: list_jobs(on.flow.api, on.own, limit=10),
    "jobs/jobs.read_spec": lambda on: read_spec(on.flow.api, on.own, on.job.job_id),
    "catalogue/label_sets.find_label_set": lambda on: find_label_set(on.flow.api, on.own, "a set"),
    "catalogue/label_sets.get_label_set_for_worker": lambda on: get_label_set_for_worker(on.flow.worker, on.lease, "a set", None),
    "catalogue/label_sets.label_set_versions": lambda on: label_set_versions(on.flow.api, on.own, "a set"),
    "catalogue/label_sets.list_label_sets": lambda on: list_label_sets(on.flow.api, on.own),
    "catalogue/definitions.find_definition": lambda on: find_definition(on.flow.api, on.own, PROMPTS, "a prompt"),
    "catalogue/definitions.get_definition_for_worker": lambda on: get_definition_for_worker(
        on.flow.worker, on.lease, PROMPTS, "a prompt", Version(on.samples["definitions", on.own.tenant_id]["definition_id"], 1)
    ),
    "catalogue/definitions.definition_versions": lambda on: definition_versions(on.flow.api, on.own, PROMPTS, "a prompt"),
    "catalogue/definitions.list_definitions": lambda on: list_definitions(on.flow.api, on.own, PROMPTS),
    "jobs/results.iter_results": lambda on: list(iter_results(on.flow.api, on.own, on.job.job_id, which="output")),
    "jobs/results.iter_results of errors": lambda on: list(iter_results(on.flow.api, on.own, on.job.job_id, which="errors")),
    "files/described of columns": lambda on: table_of_file(on.flow.api, on.own, on.lease.file_id),
    "files/described of stored names": lambda on: names_of_file(on.flow.api, on.own, on.lease.file_id),
    "files/rows.iter_rows": lambda on: list(iter_rows(on.flow.api, on.own, on.lease.file_id)),
    "queue/shards.open_shard": lambda on: open_shard(on.flow.worker, on.lease),
    "operators/api_keys.list_api_keys": lambda on: list_api_keys(on.flow.api, on.own),
}


@dataclass
class Counted:
    """How many values were opened."""

    opened: int = 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    count, real = Counted(), Sealer.open

    def counting(self: Sealer, column: str, row: int | uuid.UUID, sealed: bytes) -> bytes:
        count.opened += 1
        return real(self, column, row, sealed)

    monkeypatch.setattr(Sealer, "open", counting)
    return count


@pytest.fixture
def readable(scene: Scene, as_superuser: AsSuperuser) -> Scene:
    """With something to open for every reader."""
    as_superuser("DELETE FROM models")  # which hold no real ciphertext
    flow, lease = scene.flow, scene.lease
    assert scene.job.head_id is not None
    store_head(flow.worker, lease, head_id=scene.job.head_id, name="a head", base="b", card={"labels": []}, weights=b"w")
    write_results(flow.worker, lease, [WorkRow(2, code="engine_error")], finish=False, model_version="m", metrics=None)
    return scene


def test_every_module_that_opens_is_among_the_readers() -> None:
    opening = {
        path.relative_to(Path(db.__file__).parent).with_suffix("").as_posix()
        for path in Path(db.__file__).parent.rglob("*.py")
        if re.search(r"with Opening\(|[sS]ealers?(\[[^]]*\])?\.open(_all)?\(", path.read_text())
    }
    assert opening == {re.split(r"\.| of ", name)[0] for name in READERS}


@pytest.mark.parametrize("table", ["audit_events", "audit_unsealed", "audit_digests"])
def test_what_cannot_be_recorded_is_not_opened(readable: Scene, as_superuser: AsSuperuser, counted: Counted, table: str) -> None:
    as_superuser(f"REVOKE INSERT ON {table} FROM textmill_api, textmill_worker")
    for read in READERS.values():
        with pytest.raises(AuditUnavailable) as caught:
            read(readable)
        assert f"permission denied for table {table}" in str(caught.value.__cause__)
    assert counted.opened == 0
    as_superuser(f"GRANT INSERT ON {table} TO textmill_api, textmill_worker")
    for name, read in READERS.items():
        before = counted.opened
        read(readable)
        assert counted.opened > before, f"{name} had nothing to open: the refusal above shows nothing"


def test_nothing_is_opened_before_its_record_has_committed(
    readable: Scene, as_superuser: AsSuperuser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else sees the event by then: whoever is killed while opening has been recorded."""
    real, seen = Sealer.open, list[int]()

    def recorded() -> int:
        return int(as_superuser("SELECT count(*) FROM audit_events")[0][0])

    def looking(self: Sealer, column: str, row: int | uuid.UUID, sealed: bytes) -> bytes:
        seen.append(recorded())
        return real(self, column, row, sealed)

    monkeypatch.setattr(Sealer, "open", looking)
    for name, read in READERS.items():
        before = recorded()
        seen.clear()
        read(readable)
        assert seen, name
        assert min(seen) > before, f"{name} opened what was not on record"
