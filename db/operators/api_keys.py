"""The keys by which a tenant's principals are known.

An API key is ``tm_`` and 256 random bits in URL-safe base64. It is looked up by a keyed hash, and what it allows is under a MAC
(:mod:`db.sealing.authority`): a row that somebody wrote past this file is no key. With that much randomness nothing needs slowing.
"""

import base64
import hashlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Row, exists, func, insert, select, update

from db.actors import Actor
from db.audit.acts import act, denied, record_act
from db.audit.damage import Opening
from db.audit.events import record_digest
from db.connect import Store
from db.errors import Denied, NotFound, StoreError
from db.moments import is_known
from db.schema import api_keys, audit_events
from db.sealing.authority import Authority

SCOPES: Final = frozenset({"submit", "read", "unmask", "manage", "audit", "admin"})
_PREFIX: Final = "tm_"
_SECRET_SIZE: Final = 32
_MAC_VERSION: Final = b"textmill api key 1"
_NO_KEY: Final = b"textmill: no key"


@dataclass(frozen=True, slots=True)
class Grant:
    """All that the MAC of an API key is over: whose it is, what it allows, and until when."""

    tenant_id: UUID
    key_id: UUID
    principal_id: UUID
    key_hash: bytes
    scopes: frozenset[str]
    expires_at: datetime | None
    revoked_at: datetime | None

    def parts(self) -> list[bytes]:
        """For :class:`Authority`: the form of version 1, with the scopes, of which there may be several, at the end."""
        moments = (_spelled(moment) for moment in (self.expires_at, self.revoked_at))
        whose = (self.tenant_id.bytes, self.key_id.bytes, self.principal_id.bytes, self.key_hash)
        return [_MAC_VERSION, *whose, *moments, *(scope.encode() for scope in sorted(self.scopes))]


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """What is shown of an API key; the secret is never stored. ``name``: None where it does not open. ``damaged``: the row is not as it was
    written here, and the key is refused."""

    key_id: UUID
    principal_id: UUID
    name: str | None
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    damaged: bool


def create_api_key(
    store: Store,
    tenant_id: UUID,
    principal_id: UUID,
    name: str,
    scopes: frozenset[str] | set[str] | list[str],
    expires_at: datetime | None = None,
    *,
    by: Actor | None = None,
) -> tuple[UUID, str]:
    """Makes a key and returns its id and the secret, which is shown this once only. ``by``: who asked; None: the key's own principal."""
    if unknown := set(scopes) - SCOPES:
        raise StoreError(
            f"{len(unknown)} of the scopes do not exist; the scopes are {', '.join(sorted(SCOPES))}.", code="unknown_scope", status=400
        )
    if not scopes:
        raise StoreError("A key without a scope can do nothing: give at least one.", code="unknown_scope", status=400)
    key_id, secret = uuid4(), os.urandom(_SECRET_SIZE)
    presented = _presented(secret)
    authority = store.authority()
    key_hash = authority.hash_of(hashlib.sha256(secret).digest())
    grant = Grant(tenant_id, key_id, principal_id, key_hash, frozenset(scopes), expires_at, None)
    maker = by or Actor(tenant_id, principal_id, None, frozenset())
    with act(store, maker, "key.create", object_kind="api_key", object_id=key_id) as (conn, _):
        sealer = store.keyring.sealer(conn, tenant_id, "tenant", tenant_id)
        conn.execute(
            insert(api_keys).values(
                tenant_id=tenant_id,
                key_id=key_id,
                principal_id=principal_id,
                name_sealed=sealer.seal("api_keys.name", key_id, name.encode("utf-8", "replace")),
                key_hash=grant.key_hash,
                scopes=sorted(scopes),
                expires_at=expires_at,
                mac=authority.mac_of(grant.parts()),
            )
        )
    return key_id, presented


def authenticate(store: Store, presented: str, *, request_id: str | None = None, origin: str | None = None, tried: str = "") -> Actor:
    """Who holds this key; Denied (401) for a wrong, expired, revoked or damaged one. The key itself never leaves this function.

    The use of a key that is refused is on record, with the route that was ``tried``. A wrong key belongs to no tenant, so there is
    no record to put it in.
    """
    authority = store.authority()
    key_hash = authority.hash_of(_digest_of(presented))
    with store.transaction(key_hash=key_hash) as conn:
        found = conn.execute(select(api_keys, func.now().label("now")).where(api_keys.c.key_hash == key_hash)).one_or_none()
    if found is None:
        raise Denied("This API key is not valid.", code="invalid_api_key", status=401)
    actor = Actor(found.tenant_id, found.principal_id, found.key_id, _scopes_of(found))
    if (refusal := _refusal(store, authority, found)) is not None:
        presenter = replace(actor, request_id=request_id, origin=origin)
        raise denied(refusal, store, presenter, "key.use", object_kind="api_key", object_id=found.key_id, tried=tried)
    return actor


def list_api_keys(store: Store, actor: Actor) -> list[ApiKeyRecord]:
    """The tenant's keys, newest first; damaged ones among them."""
    authority = store.authority()
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "key.list")
        opener = store.keyring.opener(conn, actor.tenant_id, "tenant", actor.tenant_id)
        found = conn.execute(select(api_keys).where(api_keys.c.tenant_id == actor.tenant_id).order_by(api_keys.c.created_at.desc())).all()
        sealed = [row.name_sealed for row in found if row.name_sealed is not None]
        record_digest(conn, actor.tenant_id, event_id, sealed, objects=[row.key_id for row in found])
    with Opening(store, actor) as opening:
        names = {row.key_id: opening.open_text(opener, "api_keys.name", row.key_id, row.name_sealed or b"") for row in found}
    return [_record_of(row, names[row.key_id], authority) for row in found]


def revoke_api_key(store: Store, actor: Actor, key_id: UUID) -> None:
    """Ends a key, a damaged one too; NotFound where the tenant has none of that id. A second revocation changes nothing."""
    authority = store.authority()
    of_key = (api_keys.c.tenant_id == actor.tenant_id, api_keys.c.key_id == key_id)
    with act(store, actor, "key.revoke", object_kind="api_key", object_id=key_id) as (conn, _):  # first: a key may revoke itself
        found = conn.execute(select(api_keys, func.now().label("now")).where(*of_key).with_for_update()).one_or_none()
        if found is None:
            raise NotFound("There is no API key with this id.")
        if found.revoked_at is None:
            grant = _grant_of(found, authority)
            mac = authority.mac_of(replace(grant, revoked_at=found.now).parts()) if grant else found.mac
            conn.execute(update(api_keys).where(*of_key).values(revoked_at=found.now, mac=mac))


def _grant_of(row: Row[*tuple[Any, ...]], authority: Authority) -> Grant | None:
    """What a row grants; None where it is not as it was written here."""
    whose = row.tenant_id, row.key_id, row.principal_id, row.key_hash
    grant = Grant(*whose, _scopes_of(row), row.expires_at, row.revoked_at)
    return grant if authority.vouches_for(grant.parts(), row.mac) else None


def _scopes_of(row: Row[*tuple[Any, ...]]) -> frozenset[str]:
    """Without what is none: in an array that somebody else wrote may be a null, or another array."""
    return frozenset(scope for scope in row.scopes if isinstance(scope, str))


def _refusal(store: Store, authority: Authority, row: Row[*tuple[Any, ...]]) -> Denied | None:
    """Why the key of this row is not taken, if it is not."""
    grant = _grant_of(row, authority)
    if grant is None:
        return Denied("The record of this API key was altered, so it is refused: make a new key.", code="damaged_api_key", status=401)
    if grant.revoked_at is not None or _revocation_is_on_record(store, grant):
        return Denied("This API key was revoked.", code="revoked_api_key", status=401)
    if grant.expires_at is not None and grant.expires_at <= row.now:
        return Denied("This API key has expired.", code="expired_api_key", status=401)
    return None


def _revocation_is_on_record(store: Store, grant: Grant) -> bool:
    """The row as it was before its revocation fits too: the record, which is append only, does not forget it."""
    events = audit_events.c
    with store.transaction(tenant=grant.tenant_id) as conn:
        revoked = exists().where(
            events.tenant_id == grant.tenant_id,
            events.object_id == grant.key_id,
            events.action == "key.revoke",
            events.outcome == "allowed",
        )
        return bool(conn.execute(select(revoked)).scalar_one())


def _record_of(row: Row[*tuple[Any, ...]], name: str | None, authority: Authority) -> ApiKeyRecord:
    grant = _grant_of(row, authority)
    return ApiKeyRecord(
        key_id=row.key_id,
        principal_id=row.principal_id,
        name=name,
        scopes=_scopes_of(row),
        created_at=row.created_at,
        expires_at=None if grant is None else grant.expires_at,
        revoked_at=None if grant is None else grant.revoked_at,
        damaged=grant is None or not is_known(row.created_at),
    )


def _spelled(moment: datetime | None) -> bytes:
    return b"" if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds").encode()


def _digest_of(presented: str) -> bytes:
    """SHA-256 of the secret in a presented key; of something no key has where the form is wrong, so that both take the same path.

    A key has one spelling: base64 would take several (spare bits in the last letter, padding, letters it skips).
    """
    try:
        secret = base64.urlsafe_b64decode(presented.removeprefix(_PREFIX).encode("ascii") + b"=")
    except ValueError:
        secret = b""
    well_formed = len(secret) == _SECRET_SIZE and _presented(secret) == presented
    return hashlib.sha256(secret if well_formed else _NO_KEY).digest()


def _presented(secret: bytes) -> str:
    return _PREFIX + base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
