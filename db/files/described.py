"""What is noted about a file while it is uploaded, sealed in its own row: read back on record."""

from uuid import UUID

from sqlalchemy import select

from db.actors import Actor
from db.audit.acts import record_act
from db.audit.damage import Opening
from db.audit.events import record_digest
from db.connect import Store
from db.files.files import is_readable
from db.schema import files


def read_described(store: Store, actor: Actor, file_id: UUID, action: str, noted: str) -> bytes | None:
    """``noted``: which it is, ``stored_names`` or ``columns``. None where nothing of it is known, where there is no such file, or none any
    more, and where it does not open."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, action, object_kind="file", object_id=file_id)
        opener = store.keyring.opener(conn, actor.tenant_id, "file", file_id)  # first: what is there after it has its key
        sealed: bytes | None = conn.execute(
            select(files.c[f"{noted}_sealed"]).where(files.c.tenant_id == actor.tenant_id, files.c.file_id == file_id)
        ).scalar_one_or_none()
        if not is_readable(conn, actor.tenant_id, file_id):
            return None
        if sealed:
            record_digest(conn, actor.tenant_id, event_id, [sealed])
    if not sealed:
        return None
    with Opening(store, actor) as opening:
        return opening.open(opener, f"files.{noted}", file_id, sealed)
