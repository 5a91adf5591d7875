"""Trained heads: what a tenant taught a registry encoder to tell apart. Card and weights are sealed under the tenant's own
key, and never changed: training under the same name makes the next version."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import insert, select

from db.actors import Actor, Lease
from db.audit.acts import record_work
from db.catalogue.deleting import Deleted, delete_versions
from db.catalogue.reading import Found, Reading, read_for_worker
from db.connect import Store
from db.errors import LeaseLost, NotFound, SealError
from db.jobs.versions import HEADS, Version, next_version
from db.queue import shards
from db.schema import models
from db.sealing.cells import Sealer

DIGEST_DIGITS: Final = 16  # of the weights' keyed digest: to tell versions apart, by whoever reads their answers
_READING: Final = Reading(
    HEADS,
    (models.c.model_id, models.c.number, models.c.base, models.c.version, models.c.card_sealed, models.c.created_at),
    models.c.card_sealed,
)


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """A version of a head, as its owner sees it. ``digest``: of the weights, keyed: of equal ones of two tenants it differs. ``card``: name, labels, number of examples, metrics."""

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


def store_head(store: Store, lease: Lease, *, head_id: UUID, name: str, base: str, card: dict[str, Any], weights: bytes) -> StoredHead:
    """Stores what a training job made, under its lease, as the next version of the name. Stored once: of a training that runs again after
    a commit in doubt the first one stays, for a job may have begun with it. Raises LeaseLost."""
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        shards.lock_lease(conn, lease)
        record_work(conn, store, lease, "head.write", object_kind="head", object_id=head_id, model_version=digest)
        own = (models.c.tenant_id == lease.tenant_id, models.c.model_id == head_id)
        stored = conn.execute(select(models.c.number, models.c.version).where(*own)).one_or_none()
        if stored is not None:
            conn.rollback()  # of the event, too: an earlier training stored it, on record
            return StoredHead(stored.number, stored.version)
        try:
            sealer = store.keyring.sealer(conn, lease.tenant_id, "tenant", lease.tenant_id)
        except NotFound:
            raise LeaseLost from None
        name_hmac = HEADS.hmac(sealer, name)
        following = next_version(conn, HEADS, lease.tenant_id, name_hmac)
        digest = sealer.hmac("models.version", weights).hex()[:DIGEST_DIGITS]
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
    return StoredHead(following.number, digest)


def list_heads(store: Store, actor: Actor) -> list[HeadRecord]:
    """The newest version of each of the tenant's heads, the last made first."""
    return _records(_READING.newest(store, actor))


def find_head(store: Store, actor: Actor, address: str) -> HeadRecord | None:
    """What the address means: the newest of a name, or ``NAME@2``; no other is opened."""
    return next(iter(_records(_READING.meant(store, actor, address))), None)


def head_versions(store: Store, actor: Actor, name: str) -> list[HeadRecord]:
    """All versions of the head that are there, the newest first."""
    return _records(_READING.versions(store, actor, name))


def delete_head(store: Store, actor: Actor, address: str) -> Deleted:
    """All versions of a name, or one of ``NAME@2``. Raises NotFound. Jobs that began with one go on with it."""
    return delete_versions(store, actor, HEADS, address)


def load_head_for_worker(store: Store, lease: Lease, name: str, pinned: Version | None) -> Head | None:
    """See :func:`db.catalogue.reading.read_for_worker`."""
    columns = (models.c.model_id, models.c.number, models.c.base, models.c.version)
    found = read_for_worker(store, lease, HEADS, name, pinned, columns, (models.c.card_sealed, models.c.weights_sealed))
    if found is None:
        return None
    sealer, row = found
    card = _open_card(sealer, row)
    weights = sealer.open("models.weights", row.model_id, row.weights_sealed)
    return Head(row.model_id, row.number, row.base, row.version, card, weights)


def _records(found: Found) -> list[HeadRecord]:
    sealer, rows = found
    cards = ((row, _open_card(sealer, row)) for row in rows)
    return [HeadRecord(row.model_id, card["name"], row.number, row.base, row.version, card, row.created_at) for row, card in cards]


def _open_card(sealer: Sealer, row: Any) -> dict[str, Any]:
    """Raises SealError where it is not the version that the table says."""
    card: dict[str, Any] = {"version": 1, **json.loads(sealer.open("models.card", row.model_id, row.card_sealed))}
    if card["version"] != row.number:
        raise SealError
    return card
