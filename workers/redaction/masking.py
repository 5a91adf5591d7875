"""Masks in the place of sensitive values, and the values put back.

A mask is a keyed digest of kind and value (``[EMAIL:k3f7q2m5xw7a]``): under one key the same value gets the same mask, whoever masks it, so
that workers of one job need share nothing but its key, and without the key no value can be tried against a mask. Its twelve signs are 60
bits: of a million values of a kind in a job two have the same mask in less than one job in a million (n²/2⁶¹).
"""

import hmac
import re
from base64 import b32encode
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from workers.redaction.finding import find
from workers.redaction.folding import folded
from workers.redaction.span import KINDS, Kind

MIN_KEY_BYTES: Final = 16
DIGEST_CHARS: Final = 12
_MASK: Final = re.compile(rf"\[[A-Z_]{{2,12}}:[a-z2-7]{{{DIGEST_CHARS}}}\]")
_SPELLING: Final = re.compile(r"[\s./()-]+")  # separators, which say nothing of which number it is
_BY_DIGITS: Final = frozenset({"iban", "card", "national_id", "phone"})
_BY_LETTERS: Final = frozenset({"email", "ip"})


@dataclass(frozen=True, slots=True)
class Masked:
    """``values``: what stood in the place of each mask; as sensitive as the text was. ``counts``: how many of each kind."""

    text: str
    values: Mapping[str, str]
    counts: Mapping[Kind, int]


class Masker:
    """``key``: of a job, and secret."""

    def __init__(self, key: bytes, kinds: Collection[Kind] = KINDS) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"a key for masks has {MIN_KEY_BYTES} bytes or more")
        self._key = key
        self._kinds = frozenset(kinds)

    def mask(self, text: str, standing: Collection[str] | None = None) -> Masked:
        """``standing``: masks that are given to no value; those that the text has already, where they are not told."""
        spans = find(text, self._kinds)
        if not spans:
            return Masked(text, {}, {})
        standing = standing_in(text) if standing is None else standing
        values: dict[str, str] = {}
        pieces = []
        at = 0
        for kind, start, end in spans:
            mask = self._mask_of(kind, text[start:end], standing)
            values.setdefault(mask, text[start:end])
            pieces += [text[at:start], mask]
            at = end
        return Masked("".join([*pieces, text[at:]]), values, Counter(span.kind for span in spans))

    def _mask_of(self, kind: Kind, value: str, standing: Collection[str]) -> str:
        """One that stands in the text already would be taken for this value's: the next one is taken."""
        same = _same(kind, value)
        turn = 0
        while True:
            digest = hmac.digest(self._key, f"{kind}\0{turn}\0{same}".encode("utf-8", "surrogatepass"), "sha256")
            mask = f"[{kind.upper()}:{b32encode(digest)[:DIGEST_CHARS].decode().lower()}]"
            if mask not in standing:
                return mask
            turn += 1


def standing_in(*texts: str) -> frozenset[str]:
    """What is a mask by its form."""
    return frozenset(mask for text in texts for mask in _MASK.findall(text))


def put_back(text: str, values: Mapping[str, str]) -> str:
    """``values``: of the masking of this very row. A value that stood there in two spellings comes back in the first; a mask that is none
    of these stays."""
    return _MASK.sub(lambda found: values.get(found[0], found[0]), text)


def _same(kind: Kind, value: str) -> str:
    """What spellings of one value have in common."""
    plain, _ = folded(value)
    if kind in _BY_DIGITS:
        return _SPELLING.sub("", plain).upper()
    return plain.casefold() if kind in _BY_LETTERS else plain
