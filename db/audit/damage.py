"""Values that do not open, because they were altered or moved: each is told in its own place, and what stands beside it comes.

A reading opens what it brought out through an :class:`Opening`, after its event has committed. That some of it did not open goes on record
too, before anything of it is shown: an event for each object, with how many values it was, and their digest.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from sqlalchemy import Connection

from db.actors import Actor, Lease
from db.audit.acts import record_act, record_work
from db.audit.events import About, record_digest
from db.connect import Store
from db.errors import SealError
from db.sealing.cells import Opener

DAMAGED: Final = SealError.default_code
ACTION: Final = "value.damaged"
# Of which object a value is, by the table that it lies in.
_KINDS: Final = {
    "files": "file",
    "rows": "file",
    "jobs": "job",
    "job_specs": "job",
    "results": "job",
    "label_sets": "label_set",
    "models": "head",
    "prompts": "prompt",  # as rules and templates, of definitions
    "rules": "rules",
    "templates": "template",
    "api_keys": "api_key",
}


class Opening:
    """Of one reading, by an actor or for the holder of a lease. At the end of its block what did not open is on record; raises what the
    record does. Where a value does not open, its reader gets None. ``on_record``: what is opened was read before, and what was wrong with
    it said then."""

    def __init__(self, store: Store, who: Actor | Lease, *, on_record: bool = False) -> None:
        self._store = store
        self._who = who
        self._on_record = on_record
        self._damaged: dict[tuple[str, UUID], list[tuple[int | UUID, bytes]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None and self._damaged and not self._on_record:
            self._put_on_record()

    def open(self, opener: Opener, column: str, row: int | UUID, sealed: bytes) -> bytes | None:
        """The plaintext of one value."""
        try:
            return opener.open(column, row, sealed)
        except SealError:
            self.note(opener, column, row, sealed)
            return None

    def open_text(self, opener: Opener, column: str, row: int | UUID, sealed: bytes) -> str | None:
        """As :meth:`open`, of a text."""
        opened = self.open(opener, column, row, sealed)
        return None if opened is None else opened.decode()

    def note(self, opener: Opener, column: str, row: int | UUID, sealed: bytes) -> None:
        """That a value is not what it should be: it does not open, or says something else than what stands beside it."""
        object_id = row if isinstance(row, UUID) else opener.owner.owner_id
        self._damaged.setdefault((_KINDS[column.partition(".")[0]], object_id), []).append((row, sealed))

    def note_plain(self, table: str, object_id: UUID) -> None:
        """That what stands in the clear in an object's row cannot have been written here: there is nothing to digest."""
        self._damaged.setdefault((_KINDS[table], object_id), []).append((object_id, b""))

    def note_all(
        self, opener: Opener, column: str, rows: Sequence[int], values: Sequence[bytes | None], opened: Sequence[bytes | None]
    ) -> None:
        """Of what was opened all together: those that did not."""
        for row, sealed, plain in zip(rows, values, opened, strict=True):
            if plain is None and sealed is not None:
                self.note(opener, column, row, sealed)

    def _put_on_record(self) -> None:
        tenant_id = self._who.tenant_id
        with self._store.transaction(tenant=tenant_id) as conn:
            for (kind, object_id), values in self._damaged.items():
                about = About(object_kind=kind, object_id=object_id)
                if kind == "job":
                    about["job_id"] = object_id
                if idxs := [row for row, _ in values if isinstance(row, int)]:
                    about |= About(first_idx=min(idxs), end_idx=max(idxs) + 1)
                record_digest(conn, tenant_id, self._record(conn, about), [sealed for _, sealed in values])

    def _record(self, conn: Connection, about: About) -> UUID:
        if isinstance(self._who, Lease):
            return record_work(conn, self._store, self._who, ACTION, **about)
        return record_act(conn, self._store, self._who, ACTION, **about)
