"""Trained heads: what a tenant taught a registry encoder to tell apart. Card and weights are sealed under the tenant's own
key, and never changed: training under the same name makes the next version."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, Select, insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from db.actors import Actor, Lease
from db.audit.acts import record_act, record_work
from db.audit.events import record_digest
from db.catalogue.deleting import Deleted, delete_versions
from db.connect import Store
from db.errors import LeaseLost, NotFound, SealError
from db.jobs.versions import HEADS, Version, find_versions, next_version
from db.queue import shards
from db.schema import models
from db.sealing.cells import Sealer


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """A version of a head, as its owner sees it. ``digest``: of the weights. ``card``: name, labels, number of examples, metrics."""

    model_id: UUID
    name: str
    version: int
    base: str
    digest: str
    card: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Head:
    """A head as a worker runs it: ``weights`` is a safetensors blob over embeddings of the encoder ``base``."""

    model_id: UUID
    version: int
    base: str
    digest: str
    card: dict[str, Any]
    weights: bytes


class StoredHead(NamedTuple):
    """Which version a training made. ``digest``: of the weights that are stored."""

    version: int
    digest: str


def store_head(
    store: Store, lease: Lease, *, head_id: UUID, name: str, base: str, digest: str, card: dict[str, Any], weights: bytes
) -> StoredHead:
    """Stores what a training job made, under its lease, as the next version of the name. Stored once: of a training that runs again after
    a commit in doubt the first one stays, for a job may have begun with it. Raises LeaseLost."""
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        shards.lock_lease(conn, lease)
        own = (models.c.tenant_id == lease.tenant_id, models.c.model_id == head_id)
        stored = conn.execute(select(models.c.number, models.c.version).where(*own)).one_or_none()
        if stored is not None:
            return StoredHead(stored.number, stored.version)
        try:
            sealer = store.keyring.sealer(conn, lease.tenant_id, "tenant", lease.tenant_id)
        except NotFound:
            raise LeaseLost from None
        name_hmac = HEADS.hmac(sealer, name)
        following = next_version(conn, HEADS, lease.tenant_id, name_hmac)
        told = {**card, "name": name, "version": following.number}
        conn.execute(
            insert(models).values(
                tenant_id=lease.tenant_id,
                model_id=head_id,
                kind="head",
                base=base,
                version=digest,
                **following._asdict(),
                name_hmac=name_hmac,
                card_sealed=sealer.seal("models.card", head_id, json.dumps(told).encode()),
                weights_sealed=sealer.seal("models.weights", head_id, weights),
            )
        )
        record_work(conn, store, lease, "head.write", object_kind="head", object_id=head_id, model_version=digest)
    return StoredHead(following.number, digest)


def list_heads(store: Store, actor: Actor) -> list[HeadRecord]:
    """The newest version of each of the tenant's heads, the last made first."""
    newest = _seen(actor).ext(distinct_on(models.c.name_hmac)).order_by(models.c.name_hmac, models.c.number.desc())
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "head.list")
        found = conn.execute(newest).all()
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        record_digest(conn, actor.tenant_id, event_id, [row.card_sealed for row in found])
    return sorted((_record(sealer, row) for row in found), key=lambda one: (one.created_at, one.model_id), reverse=True)


def find_head(store: Store, actor: Actor, address: str) -> HeadRecord | None:
    """What the address means: the newest of a name, or ``NAME@2``; no other is opened."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "head.read", object_kind="head")
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        meant = find_versions(conn, HEADS, actor.tenant_id, sealer, [address]).get(address)
        found = None if meant is None else conn.execute(_seen(actor).where(models.c.model_id == meant.id)).one_or_none()
        record_digest(conn, actor.tenant_id, event_id, [] if found is None else [found.card_sealed])
    return None if found is None else _record(sealer, found)


def head_versions(store: Store, actor: Actor, name: str) -> list[HeadRecord]:
    """All versions of the head that are there, the newest first."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "head.read", object_kind="head")
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        of_name = _seen(actor).where(models.c.name_hmac == HEADS.hmac(sealer, name))
        found = conn.execute(of_name.order_by(models.c.number.desc())).all()
        record_digest(conn, actor.tenant_id, event_id, [row.card_sealed for row in found])
    return [_record(sealer, row) for row in found]


def delete_head(store: Store, actor: Actor, address: str) -> Deleted:
    """All versions of a name, or one of ``NAME@2``. Raises NotFound. Jobs that began with one go on with it."""
    return delete_versions(store, actor, HEADS, address)


def load_head_for_worker(store: Store, lease: Lease, name: str, pinned: Version | None) -> Head | None:
    """Of the tenant whose shard is held: the version that its job pins, or, of a job that was made before there were versions, the first of
    this name. None where there is none or the lease is lost."""
    columns = models.c
    which = columns.model_id == pinned.id if pinned is not None else columns.number == 1
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        try:
            sealer = store.keyring.sealer(conn, lease.tenant_id, "tenant", lease.tenant_id)
        except NotFound:
            return None
        event_id = record_work(conn, store, lease, "head.read", object_kind="head", object_id=pinned and pinned.id)
        of_name = () if pinned is not None else (columns.name_hmac == HEADS.hmac(sealer, name),)
        row = conn.execute(
            select(columns.model_id, columns.number, columns.base, columns.version, columns.card_sealed, columns.weights_sealed).where(
                columns.tenant_id == lease.tenant_id, which, *of_name
            )
        ).one_or_none()
        if row is None:
            return None
        record_digest(conn, lease.tenant_id, event_id, [row.card_sealed, row.weights_sealed])
    card = _open_card(sealer, row)
    weights = sealer.open("models.weights", row.model_id, row.weights_sealed)
    return Head(row.model_id, row.number, row.base, row.version, card, weights)


def _seen(actor: Actor) -> Select[Any]:
    columns = models.c
    return select(columns.model_id, columns.number, columns.base, columns.version, columns.card_sealed, columns.created_at).where(
        columns.tenant_id == actor.tenant_id, columns.kind == "head", columns.deleted_at.is_(None)
    )


def _record(sealer: Sealer, row: Row[Any]) -> HeadRecord:
    card = _open_card(sealer, row)
    return HeadRecord(row.model_id, card["name"], row.number, row.base, row.version, card, row.created_at)


def _open_card(sealer: Sealer, row: Any) -> dict[str, Any]:
    """Raises SealError where it is not the version that the table says."""
    card: dict[str, Any] = {"version": 1, **json.loads(sealer.open("models.card", row.model_id, row.card_sealed))}
    if card["version"] != row.number:
        raise SealError
    return card
