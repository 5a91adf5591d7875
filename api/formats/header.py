"""Which columns of a table hold what: names as people write them, with spaces around them, in other cases, or there twice."""

from collections.abc import Sequence
from typing import Final

from api.errors import Refused

MAX_TOLD: Final = 20  # columns that a refusal lists
MAX_NAME_CHARS: Final = 40  # of each
_INVISIBLE: Final = "\u200b\u2060\ufeff"  # a word joiner, a second byte order mark: copied along, and never meant


def find_column(header: Sequence[str], field: str, names: tuple[str, ...], *, required: bool, hint: str = "") -> int | None:
    """The place of the first of ``names`` that is there: as it is written, or else whatever its case where that leaves one column.

    Raises Refused where it is there twice, or where there is none and it is ``required``. What is told of the header goes to the sender of
    the file alone. ``hint``: what else may be wrong, to go on with behind the name of the form field.
    """
    for written, known in ((_as_written, names), (_case_blind, tuple(_case_blind(name) for name in names))):
        found = [written(cell) for cell in header]
        for name in known:
            if (times := found.count(name)) == 1:
                return found.index(name)
            if times > 1 and written is _as_written:
                raise Refused("duplicate_column", f"The column “{name}” is there twice: rename or remove one of them.", param=field)
    if required:
        raise missing_column(field, names, header, hint)
    return None


def missing_column(field: str, names: tuple[str, ...], header: Sequence[str], hint: str = "") -> Refused:
    looked_for = " or ".join(f"“{name}”" for name in names)
    there = told_columns(header)
    code = "missing_text_column" if field == "text_column" else "missing_column"
    if not header:
        return Refused(code, f"The file has no column {looked_for}, nor any other.", param=field)
    message = f"The file has no column {looked_for}; it has {there}. Name the right one in the form field {field}{hint}."
    return Refused(code, message, param=field)


def told_columns(names: Sequence[str]) -> str:
    """As a refusal lists them: the first ones, each in quotes and no longer than a name is."""
    return ", ".join(f"“{told_column(name)}”" for name in names[:MAX_TOLD]) + (", …" if len(names) > MAX_TOLD else "")


def told_column(cell: str) -> str:
    cell = "".join(char if char.isprintable() else " " for char in cell.strip())
    return cell if len(cell) <= MAX_NAME_CHARS else cell[: MAX_NAME_CHARS - 1] + "…"


def _as_written(name: str) -> str:
    return name.strip().strip(_INVISIBLE).strip()


def _case_blind(name: str) -> str:
    return _as_written(name).casefold()
