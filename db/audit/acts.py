"""Acts on record: the fields that every event of a request, of a shard's lease, or of a duty shares, filled in once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, Unpack
from uuid import UUID

from sqlalchemy import Connection

from db.actors import Actor
from db.audit.events import About, record
from db.connect import Store
from db.errors import AuditUnavailable, NotFound, StoreError, TextmillError
from db.sealing.cells import Sealer
from db.sealing.keys import OwnerKind

if TYPE_CHECKING:
    from db.actors import Lease

Refusal = TypeVar("Refusal", bound=TextmillError)


def record_act(conn: Connection, store: Store, actor: Actor, action: str, **about: Unpack[About]) -> UUID:
    """Records what ``actor`` does, in the transaction that does it. Returns the event's id, for the digest of a read."""
    with refusing(store, actor, action, **about):  # the key may be over
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


@contextmanager
def refusing(store: Store, actor: Actor, action: str, **about: Unpack[About]) -> Iterator[None]:
    """Within a transaction: a refusal that leaves it is on record, of what it is about. Of several of these the innermost knows best."""
    try:
        yield
    except StoreError as refusal:
        if refusal.put_on_record is None and not isinstance(refusal, AuditUnavailable):  # what cannot be recorded was not refused
            denied_about: About = {**about, "code": refusal.code}
            refusal.put_on_record = lambda: record_denied(store, actor, action, **denied_about)
        raise


@contextmanager
def attempt(store: Store, actor: Actor, action: str, **about: Unpack[About]) -> Iterator[Connection]:
    """A transaction in which ``actor`` tries something. Where the store refuses it, the refusal, which tells of a state, is on record."""
    with store.transaction(tenant=actor.tenant_id) as conn, refusing(store, actor, action, **about):
        yield conn


@contextmanager
def act(store: Store, actor: Actor, action: str, **about: Unpack[About]) -> Iterator[tuple[Connection, UUID]]:
    """As :func:`attempt`, of what is on record from its beginning: with the event's id."""
    with attempt(store, actor, action, **about) as conn:
        yield conn, record_act(conn, store, actor, action, **about)


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
    with act(store, actor, "key.read", object_kind=owner_kind, object_id=owner_id) as (conn, _):
        return store.keyring.sealer(conn, actor.tenant_id, owner_kind, owner_id)


def record_denied(store: Store, actor: Actor, action: str, **about: Unpack[About]) -> None:
    """Records a refused access in a transaction of its own, so that the refusal's rollback does not take the record with it. ``code``: its
    reason."""
    about["outcome"] = "denied"
    with store.transaction(tenant=actor.tenant_id) as conn:
        record_act(conn, store, actor, action, **about)


def denied(refusal: Refusal, store: Store, actor: Actor, action: str, *, tried: str = "", **about: Unpack[About]) -> Refusal:
    """The refusal, on record, to raise it. Not within a transaction: there, :func:`attempt` or :func:`act` see to it. ``tried``: the route,
    where the action does not say it; it stands behind the code."""
    about["code"] = f"{refusal.code}:{tried}" if tried else refusal.code
    record_denied(store, actor, action, **about)
    return refusal


def not_found(store: Store, actor: Actor, action: str, object_kind: str, object_id: UUID | None, message: str) -> NotFound:
    """The error to raise for an object that is missing or another tenant's, after the attempt was recorded. Not within a transaction."""
    return denied(NotFound(message), store, actor, action, object_kind=object_kind, object_id=object_id)
