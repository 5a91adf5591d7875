"""How good the labels are. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Score:
    """Of all rows asked: a row without an answer counts as wrong. ``f1`` per label."""

    rows: int
    correct: int
    f1: dict[str, float]

    @property
    def accuracy(self) -> float:
        return self.correct / self.rows if self.rows else 0.0


def score(expected: Mapping[str, str], answered: Mapping[str, str], labels: Sequence[str]) -> Score:
    """``expected`` and ``answered``: row id to label."""
    hits: Counter[str] = Counter()
    given = Counter(answered[row] for row in answered if row in expected)
    wanted = Counter(expected.values())
    for row, label in expected.items():
        if answered.get(row) == label:
            hits[label] += 1
    return Score(len(expected), hits.total(), {label: 2 * hits[label] / max(1, given[label] + wanted[label]) for label in labels})
