"""Which texts a spreadsheet would run as formulas when it opens a CSV, and how they are kept from it."""

import re
import unicodedata
from typing import Final

# The signs, and what some keyboard, locale or import takes for one; NFKC makes signs of the full-width, small, raised and lowered ones.
SIGNS: Final = frozenset("=+-@") | frozenset("\u2212\u02d6\u02d7\u2010\u2011\u2012\u2795\u2796\u30a0\ua78a\U0001f7f0")
# What stands before a sign and is trimmed, or not seen: controls, spaces, what joins or marks letters, and the letters that are blank.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me"})
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_BREAKS: Final = ("\t", "\r")  # these begin another cell or row where quotes are not understood, whatever follows
NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)  # and nothing but this: counted with, not run


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may take it for one; a plain number is none, whatever its sign."""
    if text.startswith(_BREAKS):
        return True
    first = next((letter for letter in text if letter not in _BLANK and unicodedata.category(letter) not in _UNSEEN), "")
    return unicodedata.normalize("NFKC", first)[:1] in SIGNS and not NUMBER.fullmatch(text)


def guarded(value: object) -> object:
    """A text behind a ' where it would be run; anything else as it is."""
    return f"'{value}" if isinstance(value, str) and is_formula(value) else value
