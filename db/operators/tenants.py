"""Tenants, and the keys by which their principals are known.

An API key is ``tm_`` and 256 random bits in URL-safe base64. Only its SHA-256 is stored: with that much randomness nothing needs slowing.
"""

import base64
import hashlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update

from db.actors import Actor
from db.audit.acts import not_found, record_act, record_denied
from db.audit.events import record, record_digest
from db.connect import Store
from db.errors import Denied, StoreError
from db.schema import api_keys, tenants

SCOPES: Final = frozenset({"submit", "read", "manage", "audit", "admin"})
_PREFIX: Final = "tm_"
_SECRET_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """What is shown of an API key; the secret is never stored."""

    key_id: UUID
    principal_id: UUID
    name: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def create_tenant(store: Store, name: str) -> UUID:
    """Makes a tenant with its first key epoch and its own data key."""
    tenant_id = uuid4()
    with store.transaction(tenant=tenant_id) as conn:
        conn.execute(insert(tenants).values(tenant_id=tenant_id))
        store.keyring.new_tenant_key(conn, tenant_id)
        sealer = store.keyring.new_data_key(conn, tenant_id, "tenant", tenant_id)
        conn.execute(
            update(tenants)
            .where(tenants.c.tenant_id == tenant_id)
            .values(name_sealed=sealer.seal("tenants.name", tenant_id, name.encode("utf-8", "replace")))
        )
        record(conn, tenant_id=tenant_id, component=store.role.value, action="tenant.create", object_kind="tenant", object_id=tenant_id)
    return tenant_id


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
    with store.transaction(tenant=tenant_id) as conn:
        sealer = store.keyring.sealer(conn, tenant_id, "tenant", tenant_id)
        conn.execute(
            insert(api_keys).values(
                tenant_id=tenant_id,
                key_id=key_id,
                principal_id=principal_id,
                name_sealed=sealer.seal("api_keys.name", key_id, name.encode("utf-8", "replace")),
                key_hash=hashlib.sha256(secret).digest(),
                scopes=sorted(scopes),
                expires_at=expires_at,
            )
        )
        maker = by or Actor(tenant_id, principal_id, None, frozenset())
        record_act(conn, store, maker, "key.create", object_kind="api_key", object_id=key_id)
    return key_id, presented


def authenticate(store: Store, presented: str, *, request_id: str | None = None, origin: str | None = None) -> Actor:
    """Who holds this key; Denied (401) for a wrong, expired or revoked one. The key itself never leaves this function.

    The use of an expired or revoked key is on record. A wrong key belongs to no tenant, so there is no record to put it in.
    """
    key_hash = _hash_of(presented)
    with store.transaction(key_hash=key_hash) as conn:
        found = conn.execute(
            select(
                api_keys.c.tenant_id,
                api_keys.c.key_id,
                api_keys.c.principal_id,
                api_keys.c.scopes,
                (api_keys.c.revoked_at.is_not(None)).label("revoked"),
                (func.coalesce(api_keys.c.expires_at <= func.now(), False)).label("expired"),
            ).where(api_keys.c.key_hash == key_hash)
        ).one_or_none()
    if found is None:
        raise Denied("This API key is not valid.", code="invalid_api_key", status=401)
    actor = Actor(found.tenant_id, found.principal_id, found.key_id, frozenset(found.scopes))
    if found.revoked or found.expired:
        record_denied(store, replace(actor, request_id=request_id, origin=origin), "key.use", object_kind="api_key", object_id=found.key_id)
    if found.revoked:
        raise Denied("This API key was revoked.", code="revoked_api_key", status=401)
    if found.expired:
        raise Denied("This API key has expired.", code="expired_api_key", status=401)
    return actor


def list_api_keys(store: Store, actor: Actor) -> list[ApiKeyRecord]:
    """The tenant's keys, newest first."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "key.list")
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        found = conn.execute(select(api_keys).where(api_keys.c.tenant_id == actor.tenant_id).order_by(api_keys.c.created_at.desc())).all()
        record_digest(conn, actor.tenant_id, event_id, [row.name_sealed for row in found])
    return [
        ApiKeyRecord(
            key_id=row.key_id,
            principal_id=row.principal_id,
            name=sealer.open("api_keys.name", row.key_id, row.name_sealed).decode(),
            scopes=frozenset(row.scopes),
            created_at=row.created_at.astimezone(UTC),
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
        )
        for row in found
    ]


def revoke_api_key(store: Store, actor: Actor, key_id: UUID) -> None:
    """Ends a key; NotFound where the tenant has none of that id. A second revocation changes nothing."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        moved = conn.execute(
            update(api_keys)
            .where(api_keys.c.tenant_id == actor.tenant_id, api_keys.c.key_id == key_id)
            .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
        )
        if moved.rowcount == 1:
            record_act(conn, store, actor, "key.revoke", object_kind="api_key", object_id=key_id)
    if moved.rowcount == 0:
        raise not_found(store, actor, "key.revoke", "api_key", key_id, "There is no API key with this id.")


def _hash_of(presented: str) -> bytes:
    """SHA-256 of the secret in a presented key; of something no key has where the form is wrong, so that both take the same path.

    A key has one spelling: base64 would take several (spare bits in the last letter, padding, letters it skips).
    """
    try:
        secret = base64.urlsafe_b64decode(presented.removeprefix(_PREFIX).encode("ascii") + b"=")
    except ValueError:
        secret = b""
    well_formed = len(secret) == _SECRET_SIZE and _presented(secret) == presented
    return hashlib.sha256(secret if well_formed else b"textmill: no key").digest()


def _presented(secret: bytes) -> str:
    return _PREFIX + base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
