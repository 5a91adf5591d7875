"""Which heads and label sets the rows of a file name: noted while it is uploaded, so that a job can be bound to their versions without
opening its rows again."""

import json
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from db.actors import Actor
from db.connect import Store
from db.files.described import read_described
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
    opened = read_described(store, actor, file_id, "names.read", "stored_names")
    if opened is None:
        return None
    found = json.loads(opened)
    return Names(frozenset(found["heads"]), frozenset(found["label_sets"]))
