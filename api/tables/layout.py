"""Which columns a table of results has, in which order, and what they are called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from db.files.table import unique

PLACE: Final = {"row": "integer", "line": "integer", "id": "text"}
FAULT: Final = {"error": "text", "message": "text"}


class UnknownColumn(Exception):
    """``name``: is none of ``known``."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__("no such column")
        self.name = name
        self.known = known


@dataclass(frozen=True, slots=True)
class Layout:
    """``kept``: columns of the user's own that are shown. ``own``: ours that are, by what each is called here. ``kinds``: of ours.
    ``order``: all that are shown, by what they are called."""

    kept: tuple[str, ...]
    own: Mapping[str, str]
    kinds: Mapping[str, str]
    order: tuple[str, ...]
    picked: bool

    @staticmethod
    def of(kept: Sequence[str] | None, columns: Mapping[str, str], picked: Sequence[str] | None = None) -> "Layout":
        """``kept``: the names of the user's table, before which ours stand back: of two that are alike ours gets a ``_2``; None where
        results stand alone, with the place of each row. ``columns``: of the task. ``picked``: those to show, in this order. Raises
        UnknownColumn."""
        kinds = {**PLACE, **columns, **FAULT}
        names = kept or ()
        called = dict(zip(unique([*names, *kinds])[len(names) :], kinds, strict=True))
        shown = [told for told, name in called.items() if kept is None or name not in PLACE]
        known = dict.fromkeys([*names, *called])
        for name in picked or ():
            if name not in known:
                raise UnknownColumn(name, list(known))
        order = tuple(dict.fromkeys(picked)) if picked is not None else (*names, *shown)
        own = {name: called[name] for name in order if name in called}
        return Layout(tuple(name for name in order if name not in called), own, kinds, order, picked is not None)
