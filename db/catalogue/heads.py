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
from db.audit.damage import Opening
from db.catalogue.deleting import Deleted, delete_versions
from db.catalogue.reading import Found, Reading, open_version, read_for_worker
from db.connect import Store
from db.errors import LeaseLost, NotFound, SealError
from db.jobs.versions import HEADS, Version, name_of, next_version
from db.queue import shards
from db.schema import models
from db.sealing.cells import Opener

DIGEST_DIGITS: Final = 16  # of the weights' keyed digest: to tell versions apart, by whoever reads their answers
_READING: Final = Reading(
    HEADS,
    (models.c.model_id, models.c.number, models.c.base, models.c.version, models.c.card_sealed, models.c.created_at),
    models.c.card_sealed,
)


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """A version of a head, as its owner sees it. ``digest``: of the weights, keyed: of equal ones of two tenants it differs. ``card``:
    name, labels, number of examples, metrics. ``damaged``: the card does not open and is empty; in a list the name is None."""

    model_id: UUID
    name: str | None
    version: int
    base: str
    digest: str
    card: dict[str, Any]
    created_at: datetime
    damaged: bool = False


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
        record_work(conn, store, lease, "head.write", object_kind="head", object_id=head_id)
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
    return _records(store, actor, _READING.newest(store, actor))


def find_head(store: Store, actor: Actor, address: str) -> HeadRecord | None:
    """What the address means: the newest of a name, or ``NAME@2``; no other is opened."""
    return next(iter(_records(store, actor, _READING.meant(store, actor, address), name_of(address))), None)


def head_versions(store: Store, actor: Actor, name: str) -> list[HeadRecord]:
    """All versions of the head that are there, the newest first."""
    return _records(store, actor, _READING.versions(store, actor, name), name)


def delete_head(store: Store, actor: Actor, address: str) -> Deleted:
    """All versions of a name, or one of ``NAME@2``. Raises NotFound. Jobs that began with one go on with it."""
    return delete_versions(store, actor, HEADS, address)


def load_head_for_worker(store: Store, lease: Lease, name: str, pinned: Version | None) -> Head | None:
    """See :func:`db.catalogue.reading.read_for_worker`. Raises SealError where card or weights do not open, which is on record."""
    columns = (models.c.model_id, models.c.number, models.c.base, models.c.version)
    found = read_for_worker(store, lease, HEADS, name, pinned, columns, (models.c.card_sealed, models.c.weights_sealed))
    if found is None:
        return None
    opener, row = found
    with Opening(store, lease) as opening:
        card = _open_card(opening, opener, row)
        weights = opening.open(opener, "models.weights", row.model_id, row.weights_sealed)
    if card is None or weights is None:
        raise SealError
    return Head(row.model_id, row.number, row.base, row.version, card, weights)


def _records(store: Store, actor: Actor, found: Found, name: str | None = None) -> list[HeadRecord]:
    """``name``: what they were asked for by, which is all that is known of one that is damaged."""
    opener, rows = found
    with Opening(store, actor) as opening:
        return [_record(row, _open_card(opening, opener, row), name) for row in rows]


def _record(row: Any, card: dict[str, Any] | None, name: str | None) -> HeadRecord:
    name = name if card is None else card["name"]
    return HeadRecord(row.model_id, name, row.number, row.base, row.version, card or {}, row.created_at, damaged=card is None)


def _open_card(opening: Opening, opener: Opener, row: Any) -> dict[str, Any] | None:
    """None where it does not open, or is not the version that the table says."""
    return open_version(opening, opener, "models.card", row.model_id, row.card_sealed, row.number)
