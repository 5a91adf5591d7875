"""Texts with slots: ``Only {price} for {a: product}``. Doubled braces stand for themselves.

A slot is a column's name (``{product name}``), nothing (``{}``, the row's text), and where parts are known ``{@part}`` or a choice
of words, ``{fast|quick}``. A word of :data:`WORDS` before a colon says what is done with the value: ``{plural: thing, count}``; what stands
there in quotes is a word by itself, ``{plural: 'box', count}``.
"""

import re
from dataclasses import dataclass
from typing import Final

from workers.content.yaml_tree import Value

WORDS: Final = ("upper", "lower", "capital", "plural", "a", "ordinal", "words")  # those of `inflecting.py`
MAX_SLOTS: Final = 1_000  # of one text
_BRACE: Final = re.compile(r"\{\{|\}\}|\{([^{}\n]{0,500})\}|[{}]")
_DONE: Final = re.compile(rf"({'|'.join(WORDS)})\s*:\s*(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Slot:
    """``kind``: where the value comes from; ``value``: the column or part, the word itself, or the words of a choice. ``done``: with what
    of WORDS; ``count``: the column whose number ``plural`` goes by."""

    kind: str  # "column", "text", "part", "word", "choice"
    value: str | tuple[str, ...]
    done: str | None = None
    count: str | None = None

    @property
    def columns(self) -> list[str]:
        own = [self.value] if self.kind == "column" and isinstance(self.value, str) else []
        return own if self.count is None else [*own, self.count]


def read_slots(value: Value, what: str, *, columns_only: bool = False) -> list[str | Slot]:
    """What stands as it is, and slots, in their order. Raises Fault."""
    text = value.text(what)
    pieces: list[str | Slot] = []
    at = slots = 0
    plain = ""
    for found in _BRACE.finditer(text):
        plain += text[at : found.start()]
        at = found.end()
        if found[0] in ("{{", "}}"):
            plain += found[0][0]
            continue
        if found[1] is None:
            raise value.fault(f"{what} has a brace that opens no slot or closes none: write it twice where it is meant as such")
        if plain:
            pieces.append(plain)
        slots += 1
        if slots > MAX_SLOTS:
            raise value.fault(f"{what} has more than {MAX_SLOTS:,} slots")
        slot = _slot(found[1].strip(), value, what)
        if columns_only and slot.kind not in ("column", "text"):
            raise value.fault(f"{what} has slots of columns alone: parts and choices are a template's")
        pieces.append(slot)
        plain = ""
    plain += text[at:]
    return [*pieces, plain] if plain or not pieces else pieces


def _slot(inner: str, value: Value, what: str) -> Slot:
    done = _DONE.fullmatch(inner)
    if done is not None:
        source, count = done[2].strip(), None
        if done[1] == "plural":
            source, comma, count_column = source.rpartition(",") if "," in source else (source, "", "")
            source, count = source.strip(), count_column.strip() or None
            if comma and count is None:
                raise value.fault(f"{what} has a plural without the column that it goes by behind its comma")
        plain = _source(source)
        return Slot(plain.kind, plain.value, done[1], count)
    if "|" in inner:
        return Slot("choice", tuple(word.strip() for word in inner.split("|")))
    return _source(inner)


def _source(text: str) -> Slot:
    if not text:
        return Slot("text", "")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return Slot("word", text[1:-1])
    if text.startswith("@"):
        return Slot("part", text[1:].strip())
    return Slot("column", text)
