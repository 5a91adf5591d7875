"""Audit events. The order of every read is: record → SELECT → record_digest → COMMIT → only then open.

An event says who, what, which rows, why, when and from where, never content. ``record`` also enters the event in ``audit_unsealed``, from
where the Merkle sealer takes it.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypedDict, Unpack
from uuid import UUID, uuid4

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError

from db.errors import AuditUnavailable, KeyEnded
from db.sealing.cells import digest_of
from db.server.outages import passes

if TYPE_CHECKING:
    pass


# Put together once, here: it is part of everything that anybody does, and the statement's making took longer than its run.
_EVENT: Final = """
    INSERT INTO audit_events (tenant_id, event_id, component, action, outcome, principal_id, key_id, object_kind, object_id,
                              first_idx, end_idx, job_id, request_id, origin, model_version, code)
    SELECT :tenant_id, :event_id, :component, :action, :outcome, CAST(:principal_id AS uuid), CAST(:key_id AS uuid), :object_kind,
           CAST(:object_id AS uuid), CAST(:first_idx AS integer), CAST(:end_idx AS integer), CAST(:job_id AS uuid), :request_id,
           CAST(:origin AS inet), :model_version, :code
"""
_UNSEALED: Final = "INSERT INTO audit_unsealed (tenant_id, event_id)"
_RECORD: Final = text(f"WITH event AS ({_EVENT}) {_UNSEALED} VALUES (:tenant_id, :event_id)")
# What a key is used for, only where it is still good: its end reaches what is under way. Only the API may look at keys, and at events.
KEY_IS_GOOD: Final = """
    NOT EXISTS (SELECT FROM api_keys k WHERE k.tenant_id = :tenant_id AND k.key_id = :key_id
                AND (k.revoked_at IS NOT NULL OR k.expires_at <= clock_timestamp()))
"""
_RECORD_OF_KEY: Final = text(
    f"WITH event AS ({_EVENT} WHERE {KEY_IS_GOOD} RETURNING event_id) {_UNSEALED} SELECT :tenant_id, event_id FROM event"  # noqa: S608 -- constants
)
_DIGEST: Final = text(
    """
    INSERT INTO audit_digests (tenant_id, event_id, row_count, came_to_idx, object_ids, value_count, digest)
    VALUES (:tenant, :event, :rows, :end, CAST(:objects AS uuid[]), :values, :digest)
    """
)


class About(TypedDict, total=False):
    """What an event may tell beside who did what. ``outcome`` is allowed where it is not said; ``code``: why it was denied,
    and behind a colon the route that was tried, where the action does not say it."""

    outcome: Literal["allowed", "denied"]
    object_kind: str | None
    object_id: UUID | None
    first_idx: int | None
    end_idx: int | None
    job_id: UUID | None
    model_version: str | None
    code: str | None


def about_job(job_id: UUID) -> About:
    """Of a job: as what was acted on, and as what it was for."""
    return About(object_kind="job", object_id=job_id, job_id=job_id)


_NOTHING: Final = {**dict.fromkeys(About.__annotations__), "outcome": "allowed"}


def record(
    conn: Connection,
    *,
    tenant_id: UUID,
    component: str,
    action: str,
    principal_id: UUID | None = None,
    key_id: UUID | None = None,
    request_id: str | None = None,
    origin: str | None = None,
    **about: Unpack[About],
) -> UUID:
    """Appends an event in the caller's transaction and returns its id.

    Raises AuditUnavailable where the record cannot be written (no event, no data), or the driver's error where no statement could be; and
    KeyEnded where what is allowed to ``key_id`` is so no longer.

    ``origin``: the address the request came from; what is no address (a socket's peer has none) is left out.
    """
    event_id = uuid4()
    who = {"tenant_id": tenant_id, "component": component, "principal_id": principal_id, "key_id": key_id}
    whence = {"request_id": request_id, "origin": address_of(origin)}
    values = {"event_id": event_id, **who, "action": action, **whence, **_NOTHING, **about}
    uses_key = key_id is not None and values["outcome"] == "allowed"
    if _append(conn, _RECORD_OF_KEY if uses_key else _RECORD, values) == 0:
        raise KeyEnded
    return event_id


def record_digest(
    conn: Connection,
    tenant_id: UUID,
    event_id: UUID,
    ciphertexts: Iterable[bytes],
    *,
    rows: Sequence[int] | None = None,
    objects: Sequence[UUID] | None = None,
) -> None:
    """Appends what the read of ``event_id`` brought out: how many ciphertexts, and SHA-256 over them in order; of which ``rows``, in order,
    or of which ``objects``, where the event itself could not name them yet."""
    values = list(ciphertexts)
    what = {
        "rows": len(rows or objects or ()),
        "end": rows[-1] + 1 if rows else None,
        "objects": None if objects is None else list(objects),
        "values": len(values),
        "digest": digest_of(values),
    }
    _append(conn, _DIGEST, {"tenant": tenant_id, "event": event_id, **what})


def _append(conn: Connection, statement: TextClause, values: dict[str, object]) -> int:
    try:
        return conn.execute(statement, values).rowcount
    except DBAPIError as error:
        if passes(error):
            raise
        raise AuditUnavailable from error


def address_of(origin: str | None) -> str | None:
    """As Postgres takes it. A link-local address names its interface (``fe80::1%eth0``), which Postgres does not take."""
    if origin is None:
        return None
    try:
        return str(ipaddress.ip_address(origin.partition("%")[0]))
    except ValueError:
        return None
