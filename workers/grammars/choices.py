"""Texts to choose from, as a regular expression."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

MAX_NESTED: Final = 64  # groups in groups: llguidance's parser takes 250
_META: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")


def one_of(texts: Iterable[str]) -> str:
    """One that any of these meets and nothing else. What texts begin with in common stands there once: of 2,000 alternatives each for
    itself llguidance refuses the number, and of fewer its work is more."""
    return _after(sorted(set(texts)), 0, MAX_NESTED)


def _after(texts: Sequence[str], start: int, levels: int) -> str:
    """What follows the first ``start`` signs, which all of them share. ``texts``: in order, so that those alike stand together."""
    if len(texts) == 1 or not levels:
        return "|".join(_plain(text[start:]) for text in texts)
    first, last = texts[0], texts[-1]  # in order: what these two share, all do
    shared = next((at for at in range(start, len(first)) if first[at] != last[at]), len(first))
    groups = groupby(texts, key=lambda text: text[shared : shared + 1])
    inner = "|".join(_after(list(group), shared, levels - 1) for _, group in groups)
    return f"{_plain(first[start:shared])}(?:{inner})"


def _plain(text: str) -> str:
    return _META.sub(r"\\\g<0>", text)
