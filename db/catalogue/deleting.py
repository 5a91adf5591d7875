"""The end of versions that their owner deletes: erased at once where no running job began with them, else out of sight until then."""

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from db.actors import Actor
from db.audit.acts import attempt, not_found, record_act
from db.connect import Store
from db.jobs.versions import Kind, ids_of, in_use, keep_numbers, lock_versions


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many versions went. ``kept``: of these, how many running jobs began with: :mod:`db.catalogue.purge` erases them afterwards."""

    versions: int
    kept: int


def delete_versions(store: Store, actor: Actor, kind: Kind, address: str) -> Deleted:
    """Raises NotFound where the address means nothing."""
    columns = kind.table.c
    with attempt(store, actor, f"{kind.word}.delete", object_kind=kind.word) as conn:
        record_act(conn, store, actor, f"{kind.word}.read", object_kind=kind.word)  # which versions these are is told by their names
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        lock_versions(conn, actor.tenant_id)
        ids = ids_of(conn, kind, actor.tenant_id, sealer, address)
        own = (columns.tenant_id == actor.tenant_id, kind.id.in_(ids))
        keep_numbers(conn, kind, actor.tenant_id, ids)
        erased = conn.execute(delete(kind.table).where(*own, ~in_use(kind))).rowcount
        conn.execute(update(kind.table).where(*own).values(deleted_at=func.now()))
        kept = conn.execute(select(func.count()).select_from(kind.table).where(*own)).scalar_one()
        for id in ids:
            record_act(conn, store, actor, f"{kind.word}.delete", object_kind=kind.word, object_id=id)
    if not ids:  # not within: that the key was read stays on record
        message = f"There is no {kind.word.replace('_', ' ')} of this name."
        raise not_found(store, actor, f"{kind.word}.delete", kind.word, None, message)
    return Deleted(erased + kept, kept)
