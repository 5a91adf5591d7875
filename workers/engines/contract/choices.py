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
_PROMPT: Final = -1  # in the place of a step, for where the first ones come from


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
        steps: dict[tuple[int, int], int] = {}  # where each comes from, itself a step, and its token; numbered as they come
        ways = list[list[int]]()
        for choice in choices:
            way, at = list[int](), _PROMPT
            for token in choice.tolist():
                at = steps.setdefault((at, token), len(steps))
                way.append(at)
            ways.append(way)
        if not all(ways) or len({way[-1] for way in ways}) != len(ways):
            raise AlikeChoices
        goes_on = {before for before, _ in steps}
        for way in ways:
            if way[-1] in goes_on:
                way.append(steps.setdefault((way[-1], END), len(steps)))
        before, tokens = np.array(list(steps), dtype=np.int64).T
        self.lengths = np.array([len(way) for way in ways], dtype=np.int64)
        on_ways = np.concatenate([np.array(way, dtype=np.int64) for way in ways])
        depths = np.empty(len(steps), dtype=np.int64)
        depths[on_ways] = np.arange(len(on_ways)) - np.repeat(self.lengths.cumsum() - self.lengths, self.lengths)
        places = np.unique(before)  # the prompt, and the steps to branch tokens
        from_place, branches = np.searchsorted(places, before), places[1:]
        self.tokens: Ids = tokens[branches].astype(np.int32)
        self.depths, self.parents = depths[branches], from_place[branches] - 1
        order = np.argsort(from_place, kind="stable")
        self.step_places, self.step_tokens = from_place[order], tokens[order]
        at_place = np.empty(len(order), dtype=np.int64)
        at_place[order] = np.arange(len(order))
        self._ways = at_place[on_ways]

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
