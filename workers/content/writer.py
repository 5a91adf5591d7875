"""Template writers: a YAML file that writes a text for a row from its columns, in other words for each row. Pure.

    text:
      - "{@opening} {product}: {@praise}. {@stock}"
    parts:
      opening:
        - Discover
        - {text: Meet our, weight: 3}
      praise: "{fast|quick|swift} and {adjective}"
      stock:
        - {text: "Only {count} {plural: 'piece', count} left.", when: {column: count, below: 5}}

``text`` and each part are one variant or several. Of those whose condition holds, one is drawn, by weight (1 where none is said); a part of
which none does is left out, and the space before it. What is drawn hangs on the seed, the row's number and the variants alone: the same
row gets the same text again.
"""

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import accumulate
from typing import Final, NamedTuple

from workers.content.cells import Row
from workers.content.conditions import MOST_COMPARED, Conditions, Test, chars_of
from workers.content.filling import Fill, Unanswered, Written, answered, done_with, filling, joined
from workers.content.slots import Slot, read_slots
from workers.content.yaml_tree import Fault, Value, listed, read_tree

MAX_PARTS: Final = 1_000
MAX_FILLED: Final = 10_000  # slots of one text and the weight of conditions for it, those of its parts among them
_WEIGHT: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")

Group = Callable[[Row], str | None]  # None where no variant holds


class TemplateWriter:
    """``columns``: all that a row must have of its table. Thread-safe: nothing changes after it is made."""

    def __init__(self, source: str) -> None:
        """Raises Fault."""
        fields = read_tree(source).fields("a template", ("text", "parts"))
        if "text" not in fields:
            raise Fault("The file has no `text`.")
        parts = fields["parts"].fields("`parts`") if "parts" in fields else {}
        if len(parts) > MAX_PARTS:
            raise fields["parts"].fault(f"there are more than {MAX_PARTS:,} parts")
        reading = _Reading(parts)
        for name, part in parts.items():
            reading.part(name, part)  # one that nothing uses is read, too: what is wrong in it is told now
        self._write, self._cost = reading.group(fields["text"], "the text", noted=True)
        self._asks = reading.conditions.weight > 0
        self.columns: Set[str] = frozenset(reading.conditions.columns)

    def write(self, row: Row, *, seed: int = 0, number: int = 0) -> Written:
        """``number``: of the row in its file. Raises Unanswered: ``no_variant`` where none of the text holds; ``row_too_long`` for so
        many conditions."""
        if self._asks and self._cost * chars_of(row, self.columns) > MOST_COMPARED:
            raise Unanswered("row_too_long")
        row.draw = random.Random((seed & (1 << 64) - 1) << 64 | number).random  # noqa: S311 - no secret: the same text comes again
        written = self._write(row)
        if written is None:
            raise Unanswered("no_variant")
        return Written(answered(written), f"#{row.variant}")


class _Variant(NamedTuple):
    """``asked``: the weight of its conditions; ``cost``: of its text."""

    test: Test | None
    asked: int
    weight: float
    write: Fill
    cost: int


class _Reading:
    """Makes the groups of one template; each part once. A cost is how many slots are filled and conditions asked at most."""

    def __init__(self, parts: Mapping[str, Value]) -> None:
        self.conditions = Conditions()
        self._parts = parts
        self._made: dict[str, tuple[Group, int] | None] = {}  # None: in the making

    def part(self, name: str, at: Value) -> tuple[Group, int]:
        """``at``: where it is asked for."""
        if name not in self._parts:
            raise at.fault("a slot names a part that there is none of")
        if name not in self._made:
            self._made[name] = None
            self._made[name] = self.group(self._parts[name], "a part")
        made = self._made[name]
        if made is None:
            raise at.fault("a part is made of itself, by way of others perhaps")
        return made

    def group(self, value: Value, what: str, *, noted: bool = False) -> tuple[Group, int]:
        """``noted``: the row is told which variant was written."""
        variants = [self._variant(one, what) for one in listed(value, what)]
        cost = _bounded(max(one.cost for one in variants) + sum(one.asked for one in variants), value, what)
        tests, weights, writes = [one.test for one in variants], [one.weight for one in variants], [one.write for one in variants]
        if noted:
            writes = [_noting(write, number) for number, write in enumerate(writes, 1)]
        if any(test is not None for test in tests):
            return _by_conditions(tests, weights, writes), cost
        if len(writes) == 1:
            return writes[0], cost
        return _drawn(list(accumulate(weights)), writes), cost

    def _variant(self, value: Value, what: str) -> _Variant:
        if isinstance(value.of, str):
            return _Variant(None, 0, 1.0, *self._text(value, what))
        fields = value.fields(f"a variant of {what}", ("text", "weight", "when"))
        if "text" not in fields:
            raise value.fault(f"a variant of {what} has a `text`")
        weight = fields["weight"].text("`weight`") if "weight" in fields else "1"
        if _WEIGHT.fullmatch(weight) is None or not float(weight):
            raise fields["weight"].fault("a weight is a number above 0 and below 1,000,000")
        before = self.conditions.weight
        test = self.conditions.read(fields["when"]) if "when" in fields else None
        return _Variant(test, self.conditions.weight - before, float(weight), *self._text(fields["text"], what))

    def _text(self, value: Value, what: str) -> tuple[Fill, int]:
        pieces = read_slots(value, what)
        made = [self._slot(piece, value) for piece in pieces]
        cost = _bounded(sum(cost for _, cost in made), value, what)
        fills = [fill for fill, _ in made]
        return lambda row: joined(_closed_up(fill(row) for fill in fills)), cost

    def _slot(self, piece: str | Slot, value: Value) -> tuple[Fill, int]:
        if isinstance(piece, str):
            return lambda _row: piece, 0
        self.conditions.columns.update(piece.columns)
        if piece.kind == "part":
            part, cost = self.part(str(piece.value), value)
            return done_with(piece, lambda row: part(row) or ""), cost + 1
        if isinstance(piece.value, tuple):
            words = piece.value
            return lambda row: words[int(_next(row) * len(words))], 1
        return filling(piece), 1


def _bounded(cost: int, value: Value, what: str) -> int:
    if cost > MAX_FILLED:
        raise value.fault(f"{what} fills more than {MAX_FILLED:,} slots, or asks so many conditions, those of its parts among them")
    return cost


def _noting(write: Fill, number: int) -> Fill:
    def noting(row: Row) -> str:
        row.variant = number
        return write(row)

    return noting


def _drawn(ends: Sequence[float], writes: Sequence[Fill]) -> Group:
    """``ends``: of each variant's share, the weights added up."""
    last = len(writes) - 1
    return lambda row: writes[min(bisect_right(ends, _next(row) * ends[-1]), last)](row)


def _by_conditions(tests: Sequence[Test | None], weights: Sequence[float], writes: Sequence[Fill]) -> Group:
    def write(row: Row) -> str | None:
        held = [place for place, test in enumerate(tests) if test is None or test(row)]
        if not held:
            return None
        if len(held) == 1:
            return writes[held[0]](row)
        ends = list(accumulate(weights[place] for place in held))
        return writes[held[min(bisect_right(ends, _next(row) * ends[-1]), len(held) - 1)]](row)

    return write


def _next(row: Row) -> float:
    return row.draw() if row.draw is not None else 0.0


def _closed_up(pieces: Iterable[str]) -> Iterator[str]:
    """Where a slot is empty, the space before it or behind it goes, so that no two stand together."""
    gap, ends_in_space = False, True
    for piece in pieces:
        if not piece:
            gap = True
            continue
        if gap and ends_in_space:
            piece = piece.removeprefix(" ")
        gap = False
        if piece:
            ends_in_space = piece[-1].isspace()
            yield piece
