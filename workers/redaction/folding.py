"""A text as recognisers read it: digits of all scripts, wide signs, odd spaces and dashes as ASCII's, and without what is not seen."""

import sys
import unicodedata
from collections.abc import Sequence
from typing import Final

# Soft hyphen, zero-width signs and joiners, marks of direction, byte order mark.
INVISIBLE: Final = frozenset("\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")
_SPACES: Final = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2212\ufe63"
_FOLDS: Final = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width forms of ASCII
    **{ord(sign): " " for sign in _SPACES},
    **{ord(sign): "-" for sign in _DASHES},
    **{
        code: str(unicodedata.decimal(chr(code)))
        for code in range(0x80, sys.maxunicode + 1)
        if unicodedata.decimal(chr(code), None) is not None
    },
}
_ODD: Final = INVISIBLE | frozenset(map(chr, _FOLDS))


def folded(text: str) -> tuple[str, Sequence[int] | None]:
    """The text so, and the place of each of its characters in the text as it came; None where none was left out."""
    if text.isascii() or _ODD.isdisjoint(text):
        return text, None
    if INVISIBLE.isdisjoint(text):
        return text.translate(_FOLDS), None
    places = [place for place, sign in enumerate(text) if sign not in INVISIBLE]
    return "".join([text[place] for place in places]).translate(_FOLDS), places
