"""Named sets of labels, so that a job can say ``label_set`` instead of listing them in every row. Sealed under the tenant's own key."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Row, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from db.actors import Actor, Lease
from db.audit.acts import not_found, record_act, record_work
from db.audit.events import record_digest
from db.connect import Store
from db.errors import NotFound
from db.schema import label_sets
from db.sealing.cells import Sealer

_PURPOSE: Final = "label_sets.name"
_COLUMN: Final = "label_sets.body"


@dataclass(frozen=True, slots=True)
class LabelSetRecord:
    """A label set as its owner sees it."""

    label_set_id: UUID
    name: str
    labels: list[str]
    templates: list[str] | None
    created_at: datetime


def put_label_set(store: Store, actor: Actor, name: str, labels: Sequence[str], templates: Sequence[str] | None = None) -> LabelSetRecord:
    """Makes the set, or replaces the one of this name."""
    label_set_id = uuid4()
    body = {"name": name, "labels": list(labels), "templates": None if templates is None else list(templates)}
    with store.transaction(tenant=actor.tenant_id) as conn:
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        # Replaced whole, the id too: a value is sealed for its row, and an old value must not open in the new one.
        values = {"label_set_id": label_set_id, "body_sealed": sealer.seal(_COLUMN, label_set_id, json.dumps(body).encode())}
        created_at = conn.execute(
            insert(label_sets)
            .values(tenant_id=actor.tenant_id, name_hmac=_hmac(sealer, name), **values)
            .on_conflict_do_update(index_elements=["tenant_id", "name_hmac"], set_={**values, "created_at": func.now()})
            .returning(label_sets.c.created_at)
        ).scalar_one()
        record_act(conn, store, actor, "label_set.put", object_kind="label_set", object_id=label_set_id)
    return LabelSetRecord(label_set_id, name, list(labels), None if templates is None else list(templates), created_at)


def list_label_sets(store: Store, actor: Actor) -> list[LabelSetRecord]:
    """All of the tenant's sets, newest first."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "label_set.list")
        found = conn.execute(
            select(label_sets)
            .where(label_sets.c.tenant_id == actor.tenant_id)
            .order_by(label_sets.c.created_at.desc(), label_sets.c.label_set_id.desc())
        ).all()
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        record_digest(conn, actor.tenant_id, event_id, [row.body_sealed for row in found])
    return [_record(sealer, row) for row in found]


def find_label_set(store: Store, actor: Actor, name: str) -> LabelSetRecord | None:
    """The tenant's set of this name; no other is opened."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "label_set.read", object_kind="label_set")
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        own = (label_sets.c.tenant_id == actor.tenant_id, label_sets.c.name_hmac == _hmac(sealer, name))
        found = conn.execute(select(label_sets).where(*own)).one_or_none()
        record_digest(conn, actor.tenant_id, event_id, [] if found is None else [found.body_sealed])
    return None if found is None else _record(sealer, found)


def delete_label_set(store: Store, actor: Actor, name: str) -> None:
    """Raises NotFound. Jobs that run go on with what their shards in work have read; the others' rows fail with ``unknown_label_set``."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        deleted = conn.execute(
            delete(label_sets)
            .where(label_sets.c.tenant_id == actor.tenant_id, label_sets.c.name_hmac == _hmac(sealer, name))
            .returning(label_sets.c.label_set_id)
        ).scalar_one_or_none()
        if deleted is not None:
            record_act(conn, store, actor, "label_set.delete", object_kind="label_set", object_id=deleted)
    if deleted is None:
        raise not_found(store, actor, "label_set.delete", "label_set", None, "There is no label set of this name.")


def get_label_set_for_worker(store: Store, lease: Lease, name: str) -> dict[str, Any] | None:
    """{"name", "labels", "templates"} of the tenant whose shard is held, or None where there is none of this name or the lease is lost."""
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        try:
            sealer = store.keyring.sealer(conn, lease.tenant_id, "tenant", lease.tenant_id)
        except NotFound:
            return None
        event_id = record_work(conn, store, lease, "label_set.read", object_kind="label_set")
        found = conn.execute(
            select(label_sets.c.label_set_id, label_sets.c.body_sealed).where(
                label_sets.c.tenant_id == lease.tenant_id, label_sets.c.name_hmac == _hmac(sealer, name)
            )
        ).one_or_none()
        if found is None:
            return None
        record_digest(conn, lease.tenant_id, event_id, [found.body_sealed])
    return _open(sealer, found.label_set_id, found.body_sealed)


def _record(sealer: Sealer, row: Row[Any]) -> LabelSetRecord:
    body = _open(sealer, row.label_set_id, row.body_sealed)
    return LabelSetRecord(row.label_set_id, body["name"], body["labels"], body["templates"], row.created_at)


def _hmac(sealer: Sealer, name: str) -> bytes:
    return sealer.hmac(_PURPOSE, name.encode("utf-8", "surrogatepass"))


def _open(sealer: Sealer, label_set_id: UUID, sealed: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(sealer.open(_COLUMN, label_set_id, sealed))
    return body
