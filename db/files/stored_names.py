"""Which heads and label sets the rows of a file name: noted while it is uploaded, so that a job can be bound to their versions without
opening its rows again."""

import json
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import select

from db.actors import Actor
from db.audit.acts import record_act
from db.audit.damage import Opening
from db.audit.events import record_digest
from db.connect import Store
from db.schema import files
from db.sealing.cells import Sealer

_COLUMN: Final = "files.stored_names"


@dataclass(frozen=True, slots=True)
class Names:
    """Of heads (without ``head:``) and label sets, each maybe with its version: ``news@2``."""

    heads: frozenset[str] = frozenset()
    label_sets: frozenset[str] = frozenset()

    def __or__(self, other: "Names") -> "Names":
        return Names(self.heads | other.heads, self.label_sets | other.label_sets)


def seal_names(sealer: Sealer, file_id: UUID, names: Names | None) -> bytes | None:
    if names is None:
        return None
    body = {"heads": sorted(names.heads), "label_sets": sorted(names.label_sets)}
    return sealer.seal(_COLUMN, file_id, json.dumps(body).encode())


def names_of_file(store: Store, actor: Actor, file_id: UUID) -> Names | None:
    """None where that is not known: of a file that was uploaded before it was noted, or names too many; that is not there, or where what
    was noted does not open."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "names.read", object_kind="file", object_id=file_id)
        opener = store.keyring.opener(conn, actor.tenant_id, "file", file_id)  # first: what is there after it has its key
        sealed = conn.execute(
            select(files.c.stored_names_sealed).where(files.c.tenant_id == actor.tenant_id, files.c.file_id == file_id)
        ).scalar_one_or_none()
        if sealed:
            record_digest(conn, actor.tenant_id, event_id, [sealed])
    if not sealed:
        return None
    with Opening(store, actor) as opening:
        opened = opening.open(opener, _COLUMN, file_id, sealed)
    if opened is None:
        return None
    found = json.loads(opened)
    return Names(frozenset(found["heads"]), frozenset(found["label_sets"]))
