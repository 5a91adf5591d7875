"""The record as its tenant reads it, which is itself on record."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CompoundSelect, Connection, Text, and_, cast, select, tuple_, union

from db.actors import Actor
from db.audit.acts import attempt, record_act
from db.connect import Store
from db.errors import NotFound
from db.id_ranges import IdRange
from db.moments import border_of
from db.schema import audit_digests, audit_events


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One entry of the record; ``row_count``, ``value_count`` and ``digest`` are there where ciphertext was read, and ``object_ids`` where
    that was a list, or was asked for by a name. ``end_idx``: of a page, where it came to its end. ``code``: why it was denied,
    and at which route."""

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
    code: str | None
    row_count: int | None
    value_count: int | None
    digest: bytes | None
    object_ids: list[UUID] | None


def list_events(
    store: Store, actor: Actor, *, limit: int = 100, after: UUID | None = None, action: str | None = None, object_id: UUID | None = None
) -> list[AuditEvent]:
    """The tenant's events, newest first; ``after`` is the id of the last one seen. The look itself is recorded."""
    events, digests = audit_events.c, audit_digests.c
    query = (
        select(audit_events, digests.row_count, digests.value_count, digests.digest, digests.object_ids, digests.came_to_idx)
        .outerjoin(audit_digests, and_(digests.tenant_id == events.tenant_id, digests.event_id == events.event_id))
        .where(events.tenant_id == actor.tenant_id)
        .order_by(events.at.desc(), events.event_id.desc())
        .limit(limit)
    )
    if action is not None:
        query = query.where(events.action == action)
    if object_id is not None:
        query = query.where(events.event_id.in_(_about(actor.tenant_id, object_id)))
    with attempt(store, actor, "audit.list") as conn:
        if after is not None:
            last = conn.execute(
                select(cast(events.at, Text)).where(events.tenant_id == actor.tenant_id, events.event_id == after)
            ).scalar_one_or_none()
            if last is None:
                raise NotFound("There is no audit event with the id given as `after`.")
            query = query.where(tuple_(events.at, events.event_id) < border_of(last, after))
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
            end_idx=row.came_to_idx if row.end_idx is None else row.end_idx,
            job_id=row.job_id,
            request_id=row.request_id,
            origin=str(row.origin) if row.origin is not None else None,
            model_version=row.model_version,
            code=row.code,
            row_count=row.row_count,
            value_count=row.value_count,
            digest=row.digest,
            object_ids=row.object_ids,
        )
        for row in found
    ]


def objects_on_record(store: Store, actor: Actor, within: Sequence[IdRange], *, limit: int) -> list[UUID]:
    """The ids of objects and jobs that lie there and of which the tenant has an event, at most ``limit``. The look itself is recorded."""
    found: list[UUID] = []
    with store.transaction(tenant=actor.tenant_id) as conn:
        record_act(conn, store, actor, "audit.list")
        for each in within:
            following = _next_on_record(conn, actor.tenant_id, each)
            while following is not None and len(found) < limit:
                found.append(following)
                rest = None if following == each.last else IdRange(UUID(int=following.int + 1), each.last)
                following = None if rest is None else _next_on_record(conn, actor.tenant_id, rest)
    return found


def _next_on_record(conn: Connection, tenant_id: UUID, within: IdRange) -> UUID | None:
    """One step in each of two indexes, however many events there are of one object."""
    firsts = (
        conn.execute(
            select(column).where(audit_events.c.tenant_id == tenant_id, column.between(within.first, within.last)).order_by(column).limit(1)
        ).scalar_one_or_none()
        for column in (audit_events.c.object_id, audit_events.c.job_id)
    )
    return min((id for id in firsts if id is not None), default=None)


def _about(tenant_id: UUID, object_id: UUID) -> CompoundSelect[Any]:
    """Events of an object, of a job, and those that showed it in a list: an index each."""
    events, digests = audit_events.c, audit_digests.c
    return union(
        select(events.event_id).where(events.tenant_id == tenant_id, events.object_id == object_id),
        select(events.event_id).where(events.tenant_id == tenant_id, events.job_id == object_id),
        select(digests.event_id).where(digests.tenant_id == tenant_id, digests.object_ids.contains([object_id])),
    )
