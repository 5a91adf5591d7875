"""How a test looks at what is sealed, as a component: on record, for without an event that names it the database shows nothing of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, text

from db.audit.events import record
from db.connect import Store
from db.settings import Role

LOOK: Final = "test.look"


@contextmanager
def on_record(
    store: Store, tenant_id: UUID, *, job_id: UUID | None = None, source_id: UUID | None = None, **context: Any
) -> Iterator[Connection]:
    """A transaction that has an event of the tenant: of ``job_id``, as a worker's must be, and of all that is there, as the API.
    ``source_id``: of another job whose results that job reads."""
    with store.transaction(tenant=tenant_id, **context) as conn:
        component = store.role.value
        record(conn, tenant_id=tenant_id, component=component, action=LOOK, job_id=job_id)
        if source_id is not None:
            record(conn, tenant_id=tenant_id, component=component, action=LOOK, object_kind="job", object_id=source_id, job_id=job_id)
        if store.role is Role.API:
            for (file_id,) in conn.execute(text("SELECT file_id FROM files")).all():
                record(conn, tenant_id=tenant_id, component=component, action=LOOK, object_kind="file", object_id=file_id)
            for (each,) in conn.execute(text("SELECT job_id FROM jobs")).all():
                record(conn, tenant_id=tenant_id, component=component, action=LOOK, job_id=each)
        yield conn
