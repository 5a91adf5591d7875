"""What a slot becomes in a row, and answers that are put together of such: never longer than a bound, whatever the cells hold."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from workers.content.cells import Row, text_of
from workers.content.inflecting import inflected
from workers.content.slots import Slot

MAX_ANSWER_CHARS: Final = 262_144

Fill = Callable[[Row], str]


class Written(NamedTuple):
    """``rule``: what decided: a rule's name, ``#3`` for the third of the file; of a template which variant of its text."""

    text: str
    rule: str


class Unanswered(Exception):
    """A definition has no answer for the row; ``code``: of the failure that the row gets."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def filling(piece: str | Slot) -> Fill:
    """Of what stands as it is, and of a slot whose value is a column's, the text's, or a word."""
    if isinstance(piece, str):
        return lambda _row: piece
    value = str(piece.value)
    if piece.kind == "text":
        return done_with(piece, lambda row: row.text)
    if piece.kind == "word":
        return done_with(piece, lambda _row: value)
    return done_with(piece, lambda row: text_of(row.cells.get(value)))


def done_with(slot: Slot, fill: Fill) -> Fill:
    """The same, after what the slot says is done with it."""
    done, count = slot.done, slot.count
    if done is None:
        return fill
    return lambda row: inflected(done, fill(row), None if count is None else row.cells.get(count))


def joined(pieces: Iterable[str]) -> str:
    """Raises Unanswered as soon as they are too long."""
    taken, left = list[str](), MAX_ANSWER_CHARS
    for piece in pieces:
        taken.append(piece)
        left -= len(piece)
        if left < 0:
            raise Unanswered("answer_too_long")
    return "".join(taken)


def answered(text: str) -> str:
    """The answer, without space at its ends. Raises Unanswered."""
    if len(text) > MAX_ANSWER_CHARS:
        raise Unanswered("answer_too_long")
    if not (text := text.strip()):
        raise Unanswered("empty_answer")
    return text
