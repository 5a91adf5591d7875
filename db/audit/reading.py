"""The record as its tenant reads it, which is itself on record."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, or_, select, tuple_

from db.actors import Actor
from db.audit.acts import record_act
from db.connect import Store
from db.errors import NotFound
from db.schema import audit_digests, audit_events


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One entry of the record; ``row_count`` and ``digest`` are there where ciphertext was read."""

    event_id: UUID
    at: datetime
    component: str
    action: str
    outcome: str
    principal_id: UUID | None
    key_id: UUID | None
    object_kind: str | None
    object_id: UUID | None
    first_idx: int | None
    end_idx: int | None
    job_id: UUID | None
    request_id: str | None
    origin: str | None
    model_version: str | None
    row_count: int | None
    digest: bytes | None


def list_events(
    store: Store, actor: Actor, *, limit: int = 100, after: UUID | None = None, action: str | None = None, object_id: UUID | None = None
) -> list[AuditEvent]:
    """The tenant's events, newest first; ``after`` is the id of the last one seen. The look itself is recorded."""
    events, digests = audit_events.c, audit_digests.c
    query = (
        select(audit_events, digests.row_count, digests.digest)
        .outerjoin(audit_digests, and_(digests.tenant_id == events.tenant_id, digests.event_id == events.event_id))
        .where(events.tenant_id == actor.tenant_id)
        .order_by(events.at.desc(), events.event_id.desc())
        .limit(limit)
    )
    if action is not None:
        query = query.where(events.action == action)
    if object_id is not None:
        query = query.where(or_(events.object_id == object_id, events.job_id == object_id))
    with store.transaction(tenant=actor.tenant_id) as conn:
        if after is not None:
            last = conn.execute(select(events.at).where(events.tenant_id == actor.tenant_id, events.event_id == after)).scalar_one_or_none()
            if last is None:
                raise NotFound("There is no audit event with the id given as `after`.")
            query = query.where(tuple_(events.at, events.event_id) < (last, after))
        found = conn.execute(query).all()
        record_act(conn, store, actor, "audit.list")
    return [
        AuditEvent(
            event_id=row.event_id,
            at=row.at,
            component=row.component,
            action=row.action,
            outcome=row.outcome,
            principal_id=row.principal_id,
            key_id=row.key_id,
            object_kind=row.object_kind,
            object_id=row.object_id,
            first_idx=row.first_idx,
            end_idx=row.end_idx,
            job_id=row.job_id,
            request_id=row.request_id,
            origin=str(row.origin) if row.origin is not None else None,
            model_version=row.model_version,
            row_count=row.row_count,
            digest=row.digest,
        )
        for row in found
    ]
