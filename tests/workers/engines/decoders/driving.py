"""Drives an engine's slots as a lane does, with rows that all wait from the beginning."""

from collections.abc import Sequence

from workers.batches.outcomes import FailedRow
from workers.engines.contract.choices import Scored
from workers.engines.contract.decoding import Answer, DecoderRow, Generation, Slots


def run(slots: Slots, rows: Sequence[DecoderRow]) -> list[Answer | FailedRow]:
    """What each row is answered, in their order."""
    waiting, answers = list(rows), dict[DecoderRow, Answer | FailedRow]()
    while len(answers) < len(rows):
        room = slots.room()
        new, waiting = waiting[: room.rows], waiting[room.rows :]
        slots.add(new)
        answers.update(slots.step())
    return [answers[row] for row in rows]


def said(answer: Answer | FailedRow) -> Generation:
    assert isinstance(answer, Generation)
    return answer


def scored(answer: Answer | FailedRow) -> Scored:
    assert isinstance(answer, Scored)
    return answer
