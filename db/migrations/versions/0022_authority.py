"""API keys that were made before are vouched for once, here, by whoever migrates with the key file at hand."""

from alembic import context, op
from sqlalchemy import text

from db.migrations.from_sql import execute
from db.operators.api_keys import Grant
from db.sealing.keys import KeyRing

revision = "0022"
down_revision = "0021"

_KEYS = "SELECT tenant_id, key_id, principal_id, key_hash, scopes, expires_at, revoked_at FROM api_keys"
_VOUCH = "UPDATE api_keys SET key_hash = :key_hash, mac = :mac WHERE tenant_id = :tenant AND key_id = :key"
_TABLES = ("api_keys", "store_keys")


def upgrade() -> None:
    execute("0022_authority.sql")
    conn = op.get_bind()
    for table in _TABLES:  # the owner, too, sees nothing of them otherwise
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    if found := conn.execute(text(_KEYS)).all():
        authority = KeyRing(context.config.attributes["kek"]()).load_authority(conn)
        for row in found:
            key_hash = authority.hash_of(row.key_hash)  # what is there is the SHA-256 of the secret
            whose = row.tenant_id, row.key_id, row.principal_id
            mac = authority.mac_of(Grant(*whose, key_hash, frozenset(row.scopes), row.expires_at, row.revoked_at).parts())
            conn.execute(text(_VOUCH), {"key_hash": key_hash, "mac": mac, "tenant": row.tenant_id, "key": row.key_id})
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
