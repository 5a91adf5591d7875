"""``/v1/keys``: API keys of the tenant. A key is shown once, when it is made; the store keeps its hash."""

import time
from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID, uuid4

import msgspec
from fastapi import APIRouter, Depends, Request
from msgspec import Meta

from api.errors import Refused
from api.objects import KEY_ID, Json, damage, deleted_object, list_object, seconds
from api.requests.auth import Administrator
from api.requests.front import front_of
from api.requests.json_body import json_of
from db.errors import NotFound
from db.operators.api_keys import SCOPES, ApiKeyRecord, create_api_key, list_api_keys, revoke_api_key

MAX_NAME_CHARS: Final = 256
MAX_LIFE_SECONDS: Final = 10 * 366 * 86_400

router = APIRouter(prefix="/v1/keys")


class KeyRequest(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(description="For whom or what it is, 1 to 256 characters; kept sealed.")]
    scopes: Annotated[list[str], Meta(description="One or more of `submit`, `read`, `unmask`, `manage`, `audit`, `admin`.")]
    expires_at: Annotated[int | None, Meta(description="Unix seconds, ten years from now at most; null: until it is revoked.")] = None


@router.get("")
def index(request: Request, actor: Administrator) -> Json:
    """All keys, never their secret. `damaged`: its record was altered in the database; it is refused, and can be revoked. `current`: the
    one that asks."""
    keys = list_api_keys(front_of(request).store, actor)
    return list_object([{**_object(key), "current": key.key_id == actor.key_id} for key in keys], has_more=False)


@router.post("")
def create(request: Request, actor: Administrator, body: Annotated[KeyRequest, Depends(json_of(KeyRequest))]) -> Json:
    """Make a key, for a new principal: whoever gets it. It is shown this once."""
    if not 0 < len(body.name) <= MAX_NAME_CHARS:
        raise Refused("invalid_name", f"A key's name has 1 to {MAX_NAME_CHARS} characters.", param="name")
    scopes = frozenset(body.scopes)
    if not scopes or not scopes <= frozenset(SCOPES):
        raise Refused("invalid_scopes", f"Scopes are one or more of {', '.join(SCOPES)}.", param="scopes")
    if body.expires_at is not None and not 0 < body.expires_at - time.time() <= MAX_LIFE_SECONDS:
        raise Refused("invalid_field", "A key expires in the future, ten years from now at most.", param="expires_at")
    expires_at = None if body.expires_at is None else datetime.fromtimestamp(body.expires_at, UTC)
    key_id, secret = create_api_key(front_of(request).store, actor.tenant_id, uuid4(), body.name, scopes, expires_at, by=actor)
    return {
        "id": f"key_{key_id.hex}",
        "object": "api_key",
        "name": body.name,
        "scopes": sorted(scopes),
        "expires_at": body.expires_at,
        "key": secret,
    }


@router.delete("/{key_id}")
def revoke(request: Request, actor: Administrator, key_id: str) -> Json:
    """Revoke a key. It stays in the list."""
    found = KEY_ID.fullmatch(key_id)
    if found is None:
        raise NotFound("There is no such key.", code="key_not_found")
    front = front_of(request)
    revoke_api_key(front.store, actor, UUID(found.group(1)))
    front.keys.clear()
    return deleted_object(key_id, "api_key")


def _object(key: ApiKeyRecord) -> Json:
    return {
        "id": f"key_{key.key_id.hex}",
        "object": "api_key",
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": seconds(key.created_at),
        "expires_at": seconds(key.expires_at),
        "revoked_at": seconds(key.revoked_at),
        "damaged": key.damaged,
        "error": msgspec.to_builtins(damage(key.damaged or key.name is None)),
    }
