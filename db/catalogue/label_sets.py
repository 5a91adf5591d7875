"""Named sets of labels, so that a job can say ``label_set`` instead of listing them in every row. Sealed under the tenant's own key, and
never changed: the same name again makes the next version."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Row, Select, insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from db.actors import Actor, Lease
from db.audit.acts import record_act, record_work
from db.audit.events import record_digest
from db.catalogue.deleting import Deleted, delete_versions
from db.connect import Store
from db.errors import NotFound, SealError
from db.jobs.versions import LABEL_SETS, Version, find_versions, next_version
from db.schema import label_sets
from db.sealing.cells import Sealer

_COLUMN: Final = "label_sets.body"


@dataclass(frozen=True, slots=True)
class LabelSetRecord:
    """A version of a label set, as its owner sees it."""

    label_set_id: UUID
    name: str
    version: int
    labels: list[str]
    templates: list[str] | None
    created_at: datetime


def put_label_set(store: Store, actor: Actor, name: str, labels: Sequence[str], templates: Sequence[str] | None = None) -> LabelSetRecord:
    """Makes the next version of the set; none where the newest is the same already."""
    newest = find_label_set(store, actor, name)
    if newest is not None and newest.name == name and (newest.labels, newest.templates) == (list(labels), _listed(templates)):
        return newest
    label_set_id = uuid4()
    with store.transaction(tenant=actor.tenant_id) as conn:
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        name_hmac = LABEL_SETS.hmac(sealer, name)
        following = next_version(conn, LABEL_SETS, actor.tenant_id, name_hmac)
        body = {"name": name, "version": following.number, "labels": list(labels), "templates": _listed(templates)}
        created_at = conn.execute(
            insert(label_sets)
            .values(
                tenant_id=actor.tenant_id,
                label_set_id=label_set_id,
                name_hmac=name_hmac,
                **following._asdict(),
                body_sealed=sealer.seal(_COLUMN, label_set_id, json.dumps(body).encode()),
            )
            .returning(label_sets.c.created_at)
        ).scalar_one()
        record_act(conn, store, actor, "label_set.put", object_kind="label_set", object_id=label_set_id)
    return LabelSetRecord(label_set_id, name, following.number, list(labels), _listed(templates), created_at)


def list_label_sets(store: Store, actor: Actor) -> list[LabelSetRecord]:
    """The newest version of each of the tenant's sets, the last made first."""
    newest = _seen(actor).ext(distinct_on(label_sets.c.name_hmac)).order_by(label_sets.c.name_hmac, label_sets.c.number.desc())
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "label_set.list")
        found = conn.execute(newest).all()
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        record_digest(conn, actor.tenant_id, event_id, [row.body_sealed for row in found])
    return sorted((_record(sealer, row) for row in found), key=lambda one: (one.created_at, one.label_set_id), reverse=True)


def find_label_set(store: Store, actor: Actor, address: str) -> LabelSetRecord | None:
    """What the address means: the newest of a name, or ``NAME@2``; no other is opened."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "label_set.read", object_kind="label_set")
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        meant = find_versions(conn, LABEL_SETS, actor.tenant_id, sealer, [address]).get(address)
        found = None if meant is None else conn.execute(_seen(actor).where(label_sets.c.label_set_id == meant.id)).one_or_none()
        record_digest(conn, actor.tenant_id, event_id, [] if found is None else [found.body_sealed])
    return None if found is None else _record(sealer, found)


def label_set_versions(store: Store, actor: Actor, name: str) -> list[LabelSetRecord]:
    """All versions of the set that are there, the newest first."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "label_set.read", object_kind="label_set")
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        of_name = _seen(actor).where(label_sets.c.name_hmac == LABEL_SETS.hmac(sealer, name))
        found = conn.execute(of_name.order_by(label_sets.c.number.desc())).all()
        record_digest(conn, actor.tenant_id, event_id, [row.body_sealed for row in found])
    return [_record(sealer, row) for row in found]


def delete_label_set(store: Store, actor: Actor, address: str) -> Deleted:
    """All versions of a name, or one of ``NAME@2``. Raises NotFound. Jobs that began with one go on with it."""
    return delete_versions(store, actor, LABEL_SETS, address)


def get_label_set_for_worker(store: Store, lease: Lease, name: str, pinned: Version | None) -> dict[str, Any] | None:
    """{"name", "version", "labels", "templates"} of the tenant whose shard is held: the version that its job pins, or, of a job that was
    made before there were versions, the first of this name. None where there is none or the lease is lost."""
    which = LABEL_SETS.id == pinned.id if pinned is not None else label_sets.c.number == 1
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        try:
            sealer = store.keyring.sealer(conn, lease.tenant_id, "tenant", lease.tenant_id)
        except NotFound:
            return None
        event_id = record_work(conn, store, lease, "label_set.read", object_kind="label_set", object_id=pinned and pinned.id)
        of_name = () if pinned is not None else (label_sets.c.name_hmac == LABEL_SETS.hmac(sealer, name),)
        found = conn.execute(
            select(label_sets.c.label_set_id, label_sets.c.number, label_sets.c.body_sealed).where(
                label_sets.c.tenant_id == lease.tenant_id, which, *of_name
            )
        ).one_or_none()
        if found is None:
            return None
        record_digest(conn, lease.tenant_id, event_id, [found.body_sealed])
    return _open(sealer, found)


def _seen(actor: Actor) -> Select[Any]:
    return select(label_sets).where(label_sets.c.tenant_id == actor.tenant_id, label_sets.c.deleted_at.is_(None))


def _listed(templates: Sequence[str] | None) -> list[str] | None:
    return None if templates is None else list(templates)


def _record(sealer: Sealer, row: Row[Any]) -> LabelSetRecord:
    body = _open(sealer, row)
    return LabelSetRecord(row.label_set_id, body["name"], body["version"], body["labels"], body["templates"], row.created_at)


def _open(sealer: Sealer, row: Any) -> dict[str, Any]:
    """Raises SealError where it is not the version that the table says."""
    body: dict[str, Any] = {"version": 1, **json.loads(sealer.open(_COLUMN, row.label_set_id, row.body_sealed))}
    if body["version"] != row.number:
        raise SealError
    return body
