"""Texts of a batch as one row of tokens, without padding.

Sequences are put in order of length so that equal lengths lie next to each other: attention then runs once per length, not per text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Ids


@dataclass(frozen=True, slots=True)
class Group:
    """`count` sequences of `length` tokens each, from token `start` on."""

    start: int
    count: int
    length: int


@dataclass(frozen=True, slots=True)
class Packed:
    """`ids` and `positions` [T]; `order[i]` is the place in the caller's batch of the i-th packed sequence."""

    ids: Ids
    positions: Ids
    lengths: NDArray[np.int64]
    order: NDArray[np.int64]
    groups: tuple[Group, ...]


def pack(batch: Sequence[Ids]) -> Packed:
    """The sequences, shortest first; equal lengths keep the caller's order."""
    sizes = np.array([len(ids) for ids in batch], dtype=np.int64)
    order = np.argsort(sizes, kind="stable")
    lengths = sizes[order]
    ids = np.concatenate([batch[index] for index in order])
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(len(ids), dtype=np.int32) - np.repeat(starts, lengths).astype(np.int32)
    distinct, first, counts = np.unique(lengths, return_index=True, return_counts=True)
    groups = tuple(Group(int(starts[at]), int(count), int(length)) for length, at, count in zip(distinct, first, counts, strict=True))
    return Packed(ids, positions, lengths, order, groups)
