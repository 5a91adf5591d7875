"""Names of variables that were meant for textmill, as far as their beginning tells: ours, or one slip of the fingers off it."""

import re
from typing import Final

_WORD: Final = "TEXTMILL"


def _slips() -> list[str]:
    """As patterns: a letter left out, another in its place, one too many, two the wrong way round."""
    places = range(len(_WORD))
    left_out = [_WORD[:at] + _WORD[at + 1 :] for at in places]
    another = [f"{_WORD[:at]}[A-Z0-9]{_WORD[at + 1 :]}" for at in places]
    # An underscore in front is no slip: so the shell's completion, and others' own variables, are named.
    too_many = [f"[A-Z0-9]{_WORD}", *(f"{_WORD[:at]}[A-Z0-9_]{_WORD[at:]}" for at in range(1, len(_WORD) + 1))]
    wrong_way = [_WORD[:at] + _WORD[at + 1] + _WORD[at] + _WORD[at + 2 :] for at in places[:-1]]
    return sorted({*left_out, *another, *too_many, *wrong_way})


_BEGINNING: Final = rf"(?:(?:{'|'.join(_slips())})_|TEX?T_?MILL?_?)"
_MEANT_FOR_US: Final = re.compile(rf"{_BEGINNING}([A-Z0-9_]+)", re.IGNORECASE)


def rest_of(name: str) -> str | None:
    """What follows our prefix, or what was meant to be it, in capitals; None of a variable that is somebody else's."""
    found = _MEANT_FOR_US.fullmatch(name)
    return None if found is None else found[1].upper()
