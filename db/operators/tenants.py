"""Tenants: each with a key epoch and a data key of its own from its first moment."""

from uuid import UUID, uuid4

from sqlalchemy import URL, insert, update

from db.audit.acts import record_duty
from db.connect import Store
from db.schema import tenants
from db.server.session import session


def create_tenant(store: Store, name: str) -> UUID:
    """Makes a tenant with its first key epoch and its own data key."""
    tenant_id = uuid4()
    with store.transaction(tenant=tenant_id) as conn:
        record_duty(conn, store, tenant_id, "tenant.create", object_kind="tenant", object_id=tenant_id)
        conn.execute(insert(tenants).values(tenant_id=tenant_id))
        store.keyring.new_tenant_key(conn, tenant_id)
        sealer = store.keyring.new_data_key(conn, tenant_id, "tenant", tenant_id)
        conn.execute(
            update(tenants)
            .where(tenants.c.tenant_id == tenant_id)
            .values(name_sealed=sealer.seal("tenants.name", tenant_id, name.encode("utf-8", "replace")))
        )
    return tenant_id


def first_tenant(superuser_url: URL) -> UUID | None:
    """The tenant that was made first in this database: of a home's own server, the home's. For a superuser: nobody else sees more than one.
    None where there is none yet."""
    with session(superuser_url) as conn:
        found = conn.execute("SELECT tenant_id FROM tenants ORDER BY created_at, tenant_id LIMIT 1").fetchone()
    return None if found is None else UUID(str(found[0]))
