"""An actor's acts on record: the fields that every event of a request shares, filled in once."""

from uuid import UUID

from sqlalchemy import Connection

from db.audit.events import record, record_denied
from db.connect import Store
from db.errors import NotFound
from db.tenants import Actor


def record_act(
    conn: Connection,
    store: Store,
    actor: Actor,
    action: str,
    *,
    object_kind: str | None = None,
    object_id: UUID | None = None,
    first_idx: int | None = None,
    end_idx: int | None = None,
    job_id: UUID | None = None,
) -> UUID:
    """Records what ``actor`` does, in the transaction that does it. Returns the event's id, for the digest of a read."""
    return record(
        conn,
        tenant_id=actor.tenant_id,
        component=store.role.value,
        action=action,
        principal_id=actor.principal_id,
        key_id=actor.key_id,
        object_kind=object_kind,
        object_id=object_id,
        first_idx=first_idx,
        end_idx=end_idx,
        job_id=job_id,
        request_id=actor.request_id,
        origin=actor.origin,
    )


def not_found(store: Store, actor: Actor, action: str, object_kind: str, object_id: UUID | None, message: str) -> NotFound:
    """The error to raise for an object that is missing or another tenant's, after the attempt was recorded. Not within a transaction."""
    record_denied(
        store,
        actor.tenant_id,
        action=action,
        principal_id=actor.principal_id,
        key_id=actor.key_id,
        object_kind=object_kind,
        object_id=object_id,
        request_id=actor.request_id,
        origin=actor.origin,
    )
    return NotFound(message=message)
