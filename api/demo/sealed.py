"""A row as the database holds it: read as the API's login may, with an audit event like any other read, and not opened."""

from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select

from db.audit.events import record, record_digest
from db.connect import open_store
from db.operators.tenants import authenticate
from db.schema import rows
from db.settings import Role, StoreSettings

if TYPE_CHECKING:
    from redis import Redis


def read_sealed_body(settings: StoreSettings, key: str, file_id: str) -> bytes:
    """The ciphertext of the first row of a file (`file-<hex>`)."""
    file = UUID(file_id.removeprefix("file-"))
    store = open_store(settings, Role.API, pool_size=1)
    try:
        actor = authenticate(store, key)
        with store.transaction(tenant=actor.tenant_id) as connection:
            event = record(
                connection,
                tenant_id=actor.tenant_id,
                component="api",
                action="rows.read",
                principal_id=actor.principal_id,
                key_id=actor.key_id,
                object_kind="file",
                object_id=file,
                first_idx=0,
                end_idx=1,
            )
            query = select(rows.c.body_sealed).where(rows.c.tenant_id == actor.tenant_id, rows.c.file_id == file, rows.c.idx == 0)
            sealed: bytes = connection.execute(query).scalar_one()
            record_digest(connection, actor.tenant_id, event, [sealed])
        return sealed
    finally:
        store.close()


def open_broker(settings: StoreSettings) -> "Redis":
    from redis import Redis

    return Redis.from_url(settings.broker_url())
