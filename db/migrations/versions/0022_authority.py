"""API keys that were made before are vouched for once, here, by whoever migrates with the key file at hand.

How that was done in the version that this belongs to is written out: what the program does may change, and this does not.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from datetime import UTC, datetime

from alembic import context, op
from sqlalchemy import text

from db.migrations.from_sql import execute

revision = "0022"
down_revision = "0021"

_KEYS = "SELECT tenant_id, key_id, principal_id, key_hash, scopes, expires_at, revoked_at FROM api_keys"
_VOUCH = "UPDATE api_keys SET key_hash = :key_hash, mac = :mac WHERE tenant_id = :tenant AND key_id = :key"
_KEEP = "INSERT INTO store_keys (purpose, kek_id, wrapped) VALUES ('authority', :kek, :wrapped)"
_TABLES = ("api_keys", "store_keys")


def upgrade() -> None:
    execute("0022_authority.sql")
    conn = op.get_bind()
    for table in _TABLES:  # the owner, too, sees nothing of them otherwise
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    if found := conn.execute(text(_KEYS)).all():
        kek, authority = context.config.attributes["kek"](), os.urandom(32)
        conn.execute(text(_KEEP), {"kek": kek.kek_id, "wrapped": kek.wrap(authority, b"textmill authority key 1")})
        hash_key, mac_key = (_keyed(authority, b"textmill authority " + use + b" 1\x01") for use in (b"hash", b"mac"))
        for row in found:
            key_hash = _keyed(hash_key, row.key_hash)  # what is there is the SHA-256 of the secret
            ids = [each.bytes for each in (row.tenant_id, row.key_id, row.principal_id)]
            moments = [_spelled(moment) for moment in (row.expires_at, row.revoked_at)]
            parts = [b"textmill api key 1", *ids, key_hash, *moments, *(scope.encode() for scope in sorted(set(row.scopes)))]
            mac = _keyed(mac_key, _counted(parts))
            conn.execute(text(_VOUCH), {"key_hash": key_hash, "mac": mac, "tenant": row.tenant_id, "key": row.key_id})
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def _keyed(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)


def _counted(parts: Sequence[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _spelled(moment: datetime | None) -> bytes:
    return b"" if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds").encode()
