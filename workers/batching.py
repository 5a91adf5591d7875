"""Which rows go into a batch together: pure policy, no threads, no clock, no model.

A row is only its length in tokens here. A **packed** engine pays for the tokens of a batch; a **padded** one for rows times the longest
row. Both are held under a token budget that the engine chose for its device.

The same arguments always give the same batches, every row is in exactly one, and a batch passes the budget only when it is one single row
that is larger than the budget by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

INTERACTIVE_IN_A_ROW: Final = 4  # batches: then one of bulk runs, so that a flood of small jobs leaves it a fifth of the batches or more


class Work(Enum):
    """Somebody waits for an interactive row; bulk is measured by its throughput."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class Policy:
    """`window_rows` bounds how far ahead of the oldest waiting row a batch may reach for rows that fit."""

    budget_tokens: int
    padded: bool
    max_rows: int = 4096
    window_rows: int = 512

    def __post_init__(self) -> None:
        if min(self.budget_tokens, self.max_rows, self.window_rows) < 1:
            raise ValueError("budget_tokens, max_rows and window_rows must each be at least 1.")


def cost_tokens(lengths: Sequence[int], *, padded: bool) -> int:
    """What running rows of these lengths as one batch costs, in tokens."""
    if not lengths:
        return 0
    return max(lengths) * len(lengths) if padded else sum(lengths)


def next_batch(lengths: Sequence[int], budget_tokens: int, *, padded: bool, max_rows: int) -> list[int]:
    """Indices of the batch to run next, always with row 0 (the oldest) in it, so that no row waits for ever.

    Packed: row 0, then every later row that still fits, in order. Padded: the rows nearest to row 0 in length, so that little is padded.
    """
    if not lengths:
        return []
    if padded:
        return _nearest_in_length(lengths, budget_tokens, max_rows)
    batch = [0]
    used = lengths[0]
    for index in range(1, len(lengths)):
        if used >= budget_tokens or len(batch) >= max_rows:
            break
        if used + lengths[index] <= budget_tokens:
            batch.append(index)
            used += lengths[index]
    return batch


def _nearest_in_length(lengths: Sequence[int], budget_tokens: int, max_rows: int) -> list[int]:
    """Grows a run of the length-sorted rows around row 0, each time towards the side that pads less, until neither side fits."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    low = high = order.index(0)
    while high - low + 1 < max_rows:
        rows = high - low + 2
        longest = lengths[order[high]]
        shorter = low > 0 and longest * rows <= budget_tokens
        longer = high + 1 < len(order) and lengths[order[high + 1]] * rows <= budget_tokens
        if not shorter and not longer:
            break
        padding_shorter = longest - lengths[order[low - 1]] if shorter else 0
        padding_longer = (lengths[order[high + 1]] - longest) * (rows - 1) if longer else 0
        if longer and (not shorter or padding_longer < padding_shorter):
            high += 1
        else:
            low -= 1
    return order[low : high + 1]


def turns(interactive_in_a_row: int) -> tuple[Work, Work]:
    """Which class goes first now, after so many interactive batches in a row that ran while bulk waited.

    A lane takes the first class that has anything to run, and waits for its batch where that is not cut yet: that is a fraction of a
    millisecond, while the batch of the other class would hold it up for a whole batch time.
    """
    return (Work.INTERACTIVE, Work.BULK) if interactive_in_a_row < INTERACTIVE_IN_A_ROW else (Work.BULK, Work.INTERACTIVE)


def rows_for_one_lane(waiting: int, idle_lanes: int, max_rows: int) -> int:
    """How many of the waiting rows one batch may take: not all of them where other lanes have nothing to do."""
    return min(max_rows, -(-waiting // max(1, idle_lanes)))


def cut(lengths: Sequence[int], budget_tokens: int, *, padded: bool, max_rows: int) -> list[list[int]]:
    """All the batches of these rows, as `next_batch` would take them one after the other. Indices into `lengths`."""
    waiting = list(range(len(lengths)))
    batches = []
    while waiting:
        taken = next_batch([lengths[row] for row in waiting], budget_tokens, padded=padded, max_rows=max_rows)
        batches.append([waiting[index] for index in taken])
        gone = set(taken)
        waiting = [row for index, row in enumerate(waiting) if index not in gone]
    return batches


@dataclass(slots=True)
class Budget:
    """A token budget that halves when the device runs out of memory and grows back by a sixteenth a batch while it does not."""

    full_tokens: int
    floor_tokens: int = 64
    now_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.floor_tokens = min(self.floor_tokens, self.full_tokens)
        self.now_tokens = self.full_tokens

    def shrink(self) -> None:
        self.now_tokens = max(self.floor_tokens, self.now_tokens // 2)

    def grow(self) -> None:
        self.now_tokens = min(self.full_tokens, self.now_tokens + max(1, self.full_tokens // 16))
