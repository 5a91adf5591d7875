"""Texts of a batch as a rectangle, for engines that cannot run without padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Ids


@dataclass(frozen=True, slots=True)
class Padded:
    """`ids` [n, L]; `mask` [n, L], 1 where a token is, 0 where the row is padded to the longest."""

    ids: Ids
    mask: NDArray[np.float32]


def pad(batch: Sequence[Ids], filler: int = 0) -> Padded:
    """Rows in the caller's order."""
    longest = max(len(ids) for ids in batch)
    ids = np.full((len(batch), longest), filler, dtype=np.int32)
    mask = np.zeros((len(batch), longest), dtype=np.float32)
    for row, one in enumerate(batch):
        ids[row, : len(one)] = one
        mask[row, : len(one)] = 1
    return Padded(ids, mask)
