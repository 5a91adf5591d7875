"""Acts on record: the fields that every event of a request, of a shard's lease, or of a duty shares, filled in once."""

from typing import TYPE_CHECKING, Unpack
from uuid import UUID

from sqlalchemy import Connection

from db.actors import Actor
from db.audit.events import About, record
from db.connect import Store
from db.errors import KeyEnded, NotFound
from db.sealing.cells import Sealer
from db.sealing.keys import OwnerKind

if TYPE_CHECKING:
    from db.actors import Lease


def record_act(conn: Connection, store: Store, actor: Actor, action: str, **about: Unpack[About]) -> UUID:
    """Records what ``actor`` does, in the transaction that does it. Returns the event's id, for the digest of a read."""
    try:
        return record(
            conn,
            tenant_id=actor.tenant_id,
            component=store.role.value,
            action=action,
            principal_id=actor.principal_id,
            key_id=actor.key_id,
            request_id=actor.request_id,
            origin=actor.origin,
            **about,
        )
    except KeyEnded as ended:
        kind, object_id = about.get("object_kind"), about.get("object_id")
        ended.put_on_record = lambda: record_denied(store, actor, action, object_kind=kind, object_id=object_id)
        raise


def record_work(conn: Connection, store: Store, lease: "Lease", action: str, **about: Unpack[About]) -> UUID:
    """Records what the holder of ``lease`` does for its job, in the transaction that does it. Returns the event's id."""
    about["job_id"] = lease.job_id
    return record(conn, tenant_id=lease.tenant_id, component=store.role.value, action=action, **about)


def record_duty(conn: Connection, store: Store, tenant_id: UUID, action: str, **about: Unpack[About]) -> UUID:
    """Records what a part does by itself, in nobody's name, in the transaction that does it. Returns the event's id."""
    return record(conn, tenant_id=tenant_id, component=store.role.value, action=action, **about)


def find_sealer(store: Store, actor: Actor, owner_kind: OwnerKind, owner_id: UUID) -> Sealer:
    """The sealer of an owner, for an act that has nothing on record yet. Where its key must be read, in a transaction of its own: what is
    kept in memory stays on record, whatever becomes of the act."""
    if (known := store.keyring.cached(actor.tenant_id, owner_kind, owner_id)) is not None:
        return known
    with store.transaction(tenant=actor.tenant_id) as conn:
        record_act(conn, store, actor, "key.read", object_kind=owner_kind, object_id=owner_id)
        return store.keyring.sealer(conn, actor.tenant_id, owner_kind, owner_id)


def record_denied(store: Store, actor: Actor, action: str, *, object_kind: str | None = None, object_id: UUID | None = None) -> None:
    """Records a refused access in a transaction of its own, so that the refusal's rollback does not take the record with it."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        record_act(conn, store, actor, action, outcome="denied", object_kind=object_kind, object_id=object_id)


def not_found(store: Store, actor: Actor, action: str, object_kind: str, object_id: UUID | None, message: str) -> NotFound:
    """The error to raise for an object that is missing or another tenant's, after the attempt was recorded. Not within a transaction."""
    record_denied(store, actor, action, object_kind=object_kind, object_id=object_id)
    return NotFound(message=message)
