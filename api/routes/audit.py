"""``/v1/audit/events``: who read and wrote what, when, from where."""

import re
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request
from msgspec import to_builtins

from api.errors import Refused
from api.objects import Json, damage, list_object, object_ranges, public_id, seconds
from api.requests.auth import Auditor
from api.requests.front import front_of
from db.actors import Actor
from db.audit.reading import AuditEvent, list_events, objects_on_record
from db.connect import Store
from db.errors import NotFound

MAX_LISTED: Final = 1_000
MOST_TOLD: Final = 5  # ids that begin alike
_EVENT: Final = re.compile(r"(?:audit_)?([0-9a-f]{32})")

router = APIRouter(prefix="/v1/audit")


@router.get("/events")
def index(
    request: Request,
    actor: Auditor,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
    after: str | None = None,
    action: Annotated[str | None, Query(pattern=r"^[a-z_.]{1,64}$")] = None,
    object: str | None = None,
) -> Json:
    """Audit events, newest first. ``object`` is an id that events show, of a file, a batch, a key or anything else, or its first digits."""
    store = front_of(request).store
    events = list_events(
        store,
        actor,
        limit=limit + 1,
        after=None if after is None else _event_id(after),
        action=action,
        object_id=None if object is None else _meant(store, actor, object),
    )
    return list_object([_object(event) for event in events[:limit]], has_more=len(events) > limit)


def _event_id(text: str) -> UUID:
    found = _EVENT.fullmatch(text)
    if found is None:
        raise Refused("invalid_field", "The parameter after is not an id.", param="after")
    return UUID(found.group(1))


def _meant(store: Store, actor: Actor, text: str) -> UUID:
    """A whole id need not be on record. Raises NotFound where nothing on record begins so, Refused where more than one thing does."""
    ranges = object_ranges(text)
    whole = [each.first for each in ranges if each.first == each.last]
    found = whole or objects_on_record(store, actor, ranges, limit=MOST_TOLD + 1)
    if not found:
        raise NotFound("Nothing on record has an id that begins so.")
    if len(found) > 1:
        told = ", ".join([*(id.hex for id in found[:MOST_TOLD]), *(["…"] if len(found) > MOST_TOLD else [])])
        raise Refused("ambiguous_id", f"More than one id on record begins so: {told}. Give more of its digits.", param="object")
    return found[0]


def _object(event: AuditEvent) -> Json:
    """``object_id``: of what was asked for by its name, too, which the event did not know yet."""
    named = event.object_ids or []
    code, _, route = (event.code or "").partition(":")
    object_id = named[0] if event.object_id is None and event.object_kind is not None and len(named) == 1 else event.object_id
    return {
        "id": f"audit_{event.event_id.hex}",
        "object": "audit.event",
        "created_at": seconds(event.at),
        "at": event.at.isoformat(),
        "error": to_builtins(damage(False, event.at)),
        "component": event.component,
        "principal_id": _hex(event.principal_id),
        "key_id": None if event.key_id is None else f"key_{event.key_id.hex}",
        "action": event.action,
        "outcome": event.outcome,
        "object_kind": event.object_kind,
        "object_id": None if object_id is None else public_id(event.object_kind, object_id),
        "object_ids": None if event.object_ids is None else [id.hex for id in event.object_ids],
        "first_idx": event.first_idx,
        "end_idx": event.end_idx,
        "batch_id": None if event.job_id is None else f"batch_{event.job_id.hex}",
        "request_id": event.request_id,
        "origin": None if event.origin is None else str(event.origin),
        "model_version": event.model_version,
        "code": code or None,
        "route": route or None,
        "row_count": event.row_count,
        "value_count": event.value_count,
        "digest": None if event.digest is None else event.digest.hex(),
    }


def _hex(id: UUID | None) -> str | None:
    return None if id is None else id.hex
