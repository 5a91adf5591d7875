"""What the rows of an upload name, heads, rules, templates and label sets: noted as it passes, so that a job over the file can be bound to
their versions."""

from collections.abc import Iterable
from typing import Final

import msgspec

from db.files.rows import NewRow
from db.files.stored_names import Names
from workers.tasks.task import HEAD_PREFIX
from workers.tasks.writers import writer_name

MAX_NAMES: Final = 1_000  # distinct ones of a file that are noted; of one with more, jobs are bound to all that the tenant has
MAX_NAME_CHARS: Final = 300  # more than a name with its version has: a row that says so is told that there is no such thing

# What a body that names one holds, as bytes: the field, the prefix, or an escape of an ASCII character, with which either can be written.
_SIGNS: Final = (b"label_set", b"head:", b"rules:", b"template:", b"\\u00")


class _Naming(msgspec.Struct):
    """What a body may name; the decoder skips all else."""

    model: object = None
    label_set: object = None


class NamesNoted:
    """Some hundred nanoseconds a row that names nothing."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Naming)
        self._names: dict[str, set[str]] = {"heads": set(), "label_sets": set(), "rules": set(), "templates": set()}
        self._countless = False

    @property
    def names(self) -> Names | None:
        """None where there are too many."""
        return None if self._countless else Names(**{kind: frozenset(names) for kind, names in self._names.items()})

    def note(self, rows: Iterable[NewRow]) -> None:
        if self._countless:
            return
        for row in rows:
            if row.body is not None and any(sign in row.body for sign in _SIGNS):
                self._note_body(row.body)
        self._countless = sum(map(len, self._names.values())) > MAX_NAMES

    def _note_body(self, body: bytes) -> None:
        try:
            found = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the row fails by itself; the error may hold it
            return
        if isinstance(found.model, str) and len(found.model) <= MAX_NAME_CHARS:
            if found.model.startswith(HEAD_PREFIX):
                self._names["heads"].add(found.model.removeprefix(HEAD_PREFIX))
            elif (written := writer_name(found.model)) is not None:
                self._names[written.kind].add(written.address)
        if isinstance(found.label_set, str) and len(found.label_set) <= MAX_NAME_CHARS:
            self._names["label_sets"].add(found.label_set)
