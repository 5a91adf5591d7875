"""What a decoder is asked to choose among, and what it holds of each choice. Pure.

Choices that begin alike share what they have in common: together they are a tree below the prompt. A **branch token** is one that more of a
choice follows: the model reads each once, behind the prompt and those on its way and beside all others. What stands at the end of a choice
need not be read, only scored; choices of one token each need nothing but the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Ids

END: Final = -1  # stands for the end of the answer in the place of a token


class AlikeChoices(ValueError):
    """Two choices are the same tokens, or one is none."""


class Choices:
    """``choices``: the tokens of each. ``end_ids``: any of them ends an answer. A choice that another goes on from is chosen
    only where the answer ends behind it: ``lengths`` count that as a token. Raises AlikeChoices. Made once for all rows that have it.

    ``tokens``, ``depths`` and ``parents`` of the branch tokens, each behind its parent (-1: the prompt); depth 0 follows the prompt.
    Places are 0 for the prompt and n + 1 for branch token n. What is scored are steps from a place to a token (or END): ``step_places``, in
    their order, and ``step_tokens``.
    """

    def __init__(self, choices: Sequence[Ids], end_ids: Sequence[int]) -> None:
        self.end_ids = tuple(end_ids)
        paths = [tuple(choice.tolist()) for choice in choices]
        if len(set(paths)) != len(paths) or () in paths:
            raise AlikeChoices
        begun = {path[:length] for path in paths for length in range(1, len(path))}
        paths = [(*path, END) if path in begun else path for path in paths]
        places: dict[tuple[int, ...], int] = {(): 0}
        steps: dict[tuple[int, ...], int] = {}
        for path in paths:
            for length in range(1, len(path) + 1):
                steps.setdefault(path[:length], len(steps))
                if length < len(path):
                    places.setdefault(path[:length], len(places))
        branches = [path for path in places if path]
        self.tokens: Ids = np.array([path[-1] for path in branches], dtype=np.int32)
        self.depths = np.array([len(path) - 1 for path in branches], dtype=np.int64)
        self.parents = np.array([places[path[:-1]] - 1 for path in branches], dtype=np.int64)
        from_place = np.array([places[path[:-1]] for path in steps], dtype=np.int64)
        order = np.argsort(from_place, kind="stable")
        self.step_places = from_place[order]
        self.step_tokens = np.array([path[-1] for path in steps], dtype=np.int64)[order]
        at = np.empty(len(order), dtype=np.int64)
        at[order] = np.arange(len(order))
        self._ways = np.array([at[steps[path[:length]]] for path in paths for length in range(1, len(path) + 1)], dtype=np.int64)
        self.lengths = np.array([len(path) for path in paths], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def places(self) -> int:
        return len(self.tokens) + 1

    @property
    def deepest(self) -> int:
        """How many tokens behind the prompt the model reads on the longest way."""
        return int(self.depths.max(initial=-1)) + 1

    def on_the_way(self, first: int, end: int) -> NDArray[np.bool_]:
        """[end - first, end]: of the branch tokens from ``first`` on, which of all before ``end`` each attends to: itself and its way."""
        seen = np.zeros((end - first, end), dtype=np.bool_)
        rows, at = np.arange(end - first), np.arange(first, end)
        while len(rows):
            seen[rows, at] = True
            at = self.parents[at]
            rows, at = rows[at >= 0], at[at >= 0]
        return seen

    def sums(self, steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Over the ``steps`` of each choice."""
        found: NDArray[np.float64] = np.add.reduceat(steps[self._ways], np.concatenate([[0], self.lengths.cumsum()[:-1]]))
        return found


@dataclass(frozen=True, slots=True)
class Scored:
    """``logprobs``: of each choice as a whole, behind the prompt; where all are one token long, but for a number that they share."""

    logprobs: NDArray[np.float64]
    cached_tokens: int = 0
