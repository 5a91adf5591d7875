"""Trained heads: what a tenant taught a registry encoder to tell apart. Card and weights are sealed under the tenant's own key."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, Select, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from db.actors import Actor, Lease
from db.audit.acts import not_found, record_act, record_work
from db.audit.events import record_digest
from db.connect import Store
from db.errors import LeaseLost, NotFound
from db.queue import shards
from db.schema import models
from db.sealing.cells import Sealer

_PURPOSE: Final = "models.name"


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """A head as its owner sees it. ``version``: digest of the weights. ``card``: name, labels, number of examples, metrics."""

    model_id: UUID
    name: str
    base: str
    version: str
    card: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Head:
    """A head as a worker runs it: ``weights`` is a safetensors blob over embeddings of the encoder ``base``."""

    model_id: UUID
    base: str
    version: str
    card: dict[str, Any]
    weights: bytes


def store_head(
    store: Store, lease: Lease, *, head_id: UUID, name: str, base: str, version: str, card: dict[str, Any], weights: bytes
) -> None:
    """Stores what a training job made, under its lease; a head of the same name is replaced. Raises LeaseLost."""
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        shards.lock_lease(conn, lease)
        try:
            sealer = store.keyring.sealer(conn, lease.tenant_id, "tenant", lease.tenant_id)
        except NotFound:
            raise LeaseLost from None
        values = {
            "model_id": head_id,
            "base": base,
            "version": version,
            "card_sealed": sealer.seal("models.card", head_id, json.dumps({**card, "name": name}).encode()),
            "weights_sealed": sealer.seal("models.weights", head_id, weights),
        }
        conn.execute(
            insert(models)
            .values(tenant_id=lease.tenant_id, kind="head", name_hmac=_hmac(sealer, name), **values)
            .on_conflict_do_update(index_elements=["tenant_id", "name_hmac"], set_={**values, "created_at": func.now()})
        )
        record_work(conn, store, lease, "head.write", object_kind="head", object_id=head_id, model_version=version)


def list_heads(store: Store, actor: Actor) -> list[HeadRecord]:
    """All of the tenant's heads, newest first."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "head.list")
        found = conn.execute(_heads_of(actor).order_by(models.c.created_at.desc(), models.c.model_id.desc())).all()
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        record_digest(conn, actor.tenant_id, event_id, [row.card_sealed for row in found])
    return [_record(sealer, row) for row in found]


def find_head(store: Store, actor: Actor, name: str) -> HeadRecord | None:
    """The tenant's head of this name; no other is opened."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "head.read", object_kind="head")
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        found = conn.execute(_heads_of(actor).where(models.c.name_hmac == _hmac(sealer, name))).one_or_none()
        record_digest(conn, actor.tenant_id, event_id, [] if found is None else [found.card_sealed])
    return None if found is None else _record(sealer, found)


def delete_head(store: Store, actor: Actor, name: str) -> None:
    """Raises NotFound."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        deleted = conn.execute(
            delete(models)
            .where(models.c.tenant_id == actor.tenant_id, models.c.name_hmac == _hmac(sealer, name))
            .returning(models.c.model_id)
        ).scalar_one_or_none()
        if deleted is not None:
            record_act(conn, store, actor, "head.delete", object_kind="head", object_id=deleted)
    if deleted is None:
        raise not_found(store, actor, "head.delete", "head", None, "There is no head of this name.")


def load_head_for_worker(store: Store, lease: Lease, name: str) -> Head | None:
    """The head of this name of the tenant whose shard is held; None where there is none or the lease is lost."""
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        try:
            sealer = store.keyring.sealer(conn, lease.tenant_id, "tenant", lease.tenant_id)
        except NotFound:
            return None
        event_id = record_work(conn, store, lease, "head.read", object_kind="head")
        row = conn.execute(
            select(models.c.model_id, models.c.base, models.c.version, models.c.card_sealed, models.c.weights_sealed).where(
                models.c.tenant_id == lease.tenant_id, models.c.name_hmac == _hmac(sealer, name)
            )
        ).one_or_none()
        if row is None:
            return None
        record_digest(conn, lease.tenant_id, event_id, [row.card_sealed, row.weights_sealed])
    card = _open_card(sealer, row.model_id, row.card_sealed)
    return Head(row.model_id, row.base, row.version, card, sealer.open("models.weights", row.model_id, row.weights_sealed))


def _heads_of(actor: Actor) -> Select[Any]:
    columns = models.c
    return select(columns.model_id, columns.base, columns.version, columns.card_sealed, columns.created_at).where(
        columns.tenant_id == actor.tenant_id, columns.kind == "head"
    )


def _record(sealer: Sealer, row: Row[Any]) -> HeadRecord:
    card = _open_card(sealer, row.model_id, row.card_sealed)
    return HeadRecord(row.model_id, card["name"], row.base, row.version, card, row.created_at)


def _hmac(sealer: Sealer, name: str) -> bytes:
    return sealer.hmac(_PURPOSE, name.encode("utf-8", "surrogatepass"))


def _open_card(sealer: Sealer, model_id: UUID, sealed: bytes) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(sealer.open("models.card", model_id, sealed))
    return card
