"""Heads and label sets that the rows of an upload name, noted as they pass, so that a job over the file can be bound to their versions."""

from collections.abc import Iterable
from typing import Final

import msgspec

from db.files.rows import NewRow
from db.files.stored_names import Names
from workers.tasks.task import HEAD_PREFIX

MAX_NAMES: Final = 1_000  # distinct ones of a file that are noted; of one with more, jobs are bound to all that the tenant has
MAX_NAME_CHARS: Final = 300  # more than a name with its version has: a row that says so is told that there is no such thing

# What a body that names one holds, as bytes: the field, the prefix, or an escape of an ASCII character, with which either can be written.
_SIGNS: Final = (b"label_set", b"head:", b"\\u00")


class _Naming(msgspec.Struct):
    """What a body may name; the decoder skips all else."""

    model: object = None
    label_set: object = None


class NamesNoted:
    """Some hundred nanoseconds a row that names nothing."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_Naming)
        self._heads: set[str] = set()
        self._label_sets: set[str] = set()
        self._countless = False

    @property
    def names(self) -> Names | None:
        """None where there are too many."""
        return None if self._countless else Names(frozenset(self._heads), frozenset(self._label_sets))

    def note(self, rows: Iterable[NewRow]) -> None:
        if self._countless:
            return
        for row in rows:
            if row.body is not None and any(sign in row.body for sign in _SIGNS):
                self._note_body(row.body)
        self._countless = len(self._heads) + len(self._label_sets) > MAX_NAMES

    def _note_body(self, body: bytes) -> None:
        try:
            found = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the row fails by itself; the error may hold it
            return
        if isinstance(found.model, str) and found.model.startswith(HEAD_PREFIX) and len(found.model) <= MAX_NAME_CHARS:
            self._heads.add(found.model.removeprefix(HEAD_PREFIX))
        if isinstance(found.label_set, str) and len(found.label_set) <= MAX_NAME_CHARS:
            self._label_sets.add(found.label_set)
