"""Long texts in windows: the sequences of one text, and the one answer that is made of theirs. Pure.

A window is as long as the model takes, special tokens included, and shares some tokens with the one before it, so that what stands at an
edge is read whole once. What is pooled over a text's windows are logits (for labels) or vectors (for an embedding, which is made a unit
vector again): their mean, or their maximum number by number.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from workers.arrays import Ids, Vectors
from workers.engines.contract.long_texts import Pool


def windows(ids: Ids, prefix: Sequence[int], suffix: Sequence[int], max_tokens: int, stride: int) -> list[Ids]:
    """``ids`` of a whole text without special tokens, cut into sequences of at most ``max_tokens`` with them.

    Every token is in a window, and every window but the last is full.
    """
    room = max_tokens - len(prefix) - len(suffix)
    step = room - min(stride, room // 2)
    starts = range(0, max(1, len(ids) - (room - step)), step)
    return [np.concatenate([prefix, ids[start : start + room], suffix]).astype(np.int32) for start in starts]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Which sequences stand for which texts: text ``n`` has those from ``starts[n]`` to ``starts[n + 1]``. Mostly one each."""

    starts: Sequence[int]
    pools: Sequence[Pool]

    @classmethod
    def singles(cls, texts: int) -> "Pieces":
        return cls(range(texts + 1), ())

    @classmethod
    def split(cls, counts: Sequence[int], pools: Sequence[Pool]) -> "Pieces":
        return cls([0, *accumulate(counts)], pools)

    @property
    def chunked(self) -> bool:
        """Whether any text has several."""
        return self.starts[-1] >= len(self.starts)

    def of(self, text: int) -> range:
        """The places of a text's sequences."""
        return range(self.starts[text], self.starts[text + 1])

    def of_all(self, texts: Sequence[int]) -> Sequence[int]:
        """The same for several texts, in their order."""
        return [place for text in texts for place in self.of(text)] if self.chunked else texts

    def count_of(self, text: int) -> int:
        return self.starts[text + 1] - self.starts[text]

    def counts(self) -> list[int]:
        return [self.count_of(text) for text in range(len(self.starts) - 1)]

    def text_of(self, place: int) -> int:
        return bisect_right(self.starts, place) - 1

    def pool(self, values: Vectors, texts: Sequence[int]) -> Vectors:
        """[texts, k] from the [sequences, k] of these texts, in their order."""
        if not self.chunked:
            return values
        pooled = np.empty((len(texts), values.shape[1]), values.dtype)
        first = 0
        for at, text in enumerate(texts):
            end = first + self.count_of(text)
            own = values[first:end]
            pooled[at] = own.max(axis=0) if self.pools[text] == "max" else own.mean(axis=0)
            first = end
        return pooled
