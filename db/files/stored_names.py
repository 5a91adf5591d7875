"""What of their tenant's the rows of a file name, heads and label sets: noted while it is uploaded, so that a job can be bound to their
versions without opening its rows again."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Final
from uuid import UUID

from db.actors import Actor
from db.connect import Store
from db.files.described import read_described
from db.sealing.cells import Sealer

_COLUMN: Final = "files.stored_names"


@dataclass(frozen=True, slots=True)
class Names:
    """Of heads (without ``head:``), label sets and definitions, each maybe with its version: ``news@2``."""

    heads: frozenset[str] = frozenset()
    label_sets: frozenset[str] = frozenset()
    prompts: frozenset[str] = frozenset()
    rules: frozenset[str] = frozenset()
    templates: frozenset[str] = frozenset()

    def __or__(self, other: "Names") -> "Names":
        return Names(*(getattr(self, each.name) | getattr(other, each.name) for each in fields(self)))


def seal_names(sealer: Sealer, file_id: UUID, names: Names | None) -> bytes | None:
    if names is None:
        return None
    body = {kind: sorted(those) for kind, those in asdict(names).items()}
    return sealer.seal(_COLUMN, file_id, json.dumps(body).encode())


def names_of_file(store: Store, actor: Actor, file_id: UUID) -> Names | None:
    """None where that is not known: of a file that was uploaded before it was noted, or names too many; that is not there, or where what
    was noted does not open."""
    opened = read_described(store, actor, file_id, "names.read", "stored_names")
    if opened is None:
        return None
    return Names(**{kind: frozenset(those) for kind, those in json.loads(opened).items()})
