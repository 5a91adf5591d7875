"""Which rows go into a batch together: pure policy, no threads, no clock, no model.

A row is only its length in tokens here. A **packed** engine pays for the tokens of a batch; a **padded** one for rows times the longest
row. Both are held under a token budget that the engine chose for its device.

The same arguments always give the same batches, every row is in exactly one, and a batch passes the budget only when it is one single row
that is larger than the budget by itself.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, Self

from workers.batches.ticket import Ticket

# Of an encoder on a CPU, measured (tests/benchmarks/costs.json): a batch costs as much as these tokens beside its own, and in a packed one,
# where attention runs once for each distinct length, every such length as much as these.
OVERHEAD_TOKENS: Final = 13
LENGTH_TOKENS: Final = 2
# How finely a batch may be cut. With a budget of many rows whose lengths all differ, looking at each of them cost more than all else a row
# takes a worker outside the model.
CHUNKS_A_BATCH: Final = 16
FEW_LENGTHS: Final = 64  # of so many every cut is looked at
INTERACTIVE_IN_A_ROW: Final = 4  # batches: then one of bulk runs, so that a flood of small jobs leaves it a fifth of the batches or more


class Work(Enum):
    """Somebody waits for an interactive row; bulk is measured by its throughput."""

    INTERACTIVE = "interactive"
    BULK = "bulk"

    @classmethod
    def of(cls, ticket: Ticket) -> Self:
        return cls.INTERACTIVE if ticket.interactive else cls.BULK


@dataclass(frozen=True, slots=True)
class Policy:
    """`window_rows` bounds how far ahead of the oldest waiting row a batch may reach for rows that fit. `overhead_tokens`: the tokens that
    take as long as the fixed cost of a batch."""

    budget_tokens: int
    padded: bool
    max_rows: int = 4096
    window_rows: int = 512
    overhead_tokens: int = OVERHEAD_TOKENS

    def __post_init__(self) -> None:
        if min(self.budget_tokens, self.max_rows, self.window_rows) < 1:
            raise ValueError("budget_tokens, max_rows and window_rows must each be at least 1.")


def cost_tokens(lengths: Sequence[int], *, padded: bool) -> int:
    """What running rows of these lengths as one batch costs, in tokens."""
    if not lengths:
        return 0
    return max(lengths) * len(lengths) if padded else sum(lengths)


def cut(
    lengths: Sequence[int], budget_tokens: int, *, padded: bool, max_rows: int, overhead_tokens: int = OVERHEAD_TOKENS
) -> list[list[int]]:
    """All the batches of these rows, as indices into `lengths`: that of the oldest row (index 0) first, then that of the oldest one left.

    Rows are put in order of length and cut where the sum of the batches' costs is least, by dynamic programming (Fang et al.,
    TurboTransformers, PPoPP 2021): a padded engine trades padding against the fixed cost of one more batch, a packed one pays for each
    distinct length. Cuts are looked for between chunks of rows, a few of which make a batch, which keeps it to microseconds a row.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    chunks = _chunks(lengths, budget_tokens, max_rows)
    least, cheapest_start = [0], [0]
    for end in range(1, len(chunks)):
        end_rows, end_tokens, longest, _, kind = chunks[end]
        best = None
        for start in range(end - 1, -1, -1):
            start_rows, start_tokens, *_ = chunks[start]
            rows = end_rows - start_rows
            tokens = longest * rows if padded else end_tokens - start_tokens
            if start < end - 1 and (tokens > budget_tokens or rows > max_rows):
                break
            cost = least[start] + overhead_tokens + tokens + (0 if padded else LENGTH_TOKENS * (kind - chunks[start + 1].first_kind + 1))
            if best is None or cost < best[0]:
                best = cost, start
        assert best is not None
        least.append(best[0])
        cheapest_start.append(best[1])
    batches = []
    end = len(chunks) - 1
    while end > 0:
        start = cheapest_start[end]
        batches.append(order[chunks[start].rows : chunks[end].rows])
        end = start
    return sorted(batches, key=min)


class _Chunk(NamedTuple):
    """Rows that are never cut apart, in the order of their lengths. What is counted is counted from the shortest row of all to this
    chunk's end; ``first_kind`` and ``kind`` number the distinct lengths."""

    rows: int
    tokens: int
    longest: int
    first_kind: int
    kind: int


def _chunks(lengths: Sequence[int], budget_tokens: int, max_rows: int) -> list[_Chunk]:
    """After a beginning of nothing: at most a quarter of a batch (or one row), and several lengths only up to a sixteenth, where there are
    many."""
    chunks = [_Chunk(0, 0, 0, 0, 0)]
    growing: _Chunk | None = None
    rows = tokens = 0
    counts = sorted(Counter(lengths).items())
    few = len(counts) <= FEW_LENGTHS
    for kind, (length, count) in enumerate(counts):
        most_rows = max(1, min(budget_tokens // max(1, length), max_rows) // 4)
        for taken in (*range(most_rows, count, most_rows), count):
            if growing is not None and rows + taken - chunks[-1].rows > most_rows:
                chunks.append(growing)
                growing = None
            chunk = _Chunk(rows + taken, tokens + taken * length, length, kind if growing is None else growing.first_kind, kind)
            large = CHUNKS_A_BATCH * (chunk.tokens - chunks[-1].tokens) >= budget_tokens
            full = few or large or chunk.rows - chunks[-1].rows == most_rows
            growing = None if full else chunk
            if full:
                chunks.append(chunk)
        rows, tokens = rows + count, tokens + count * length
    return chunks if growing is None else [*chunks, growing]


def turns(interactive_in_a_row: int) -> tuple[Work, Work]:
    """Which class goes first now, after so many interactive batches in a row that ran while bulk waited.

    A lane takes the first class that has anything to run, and waits for its batch where that is not cut yet: that is a fraction of a
    millisecond, while the batch of the other class would hold it up for a whole batch time.
    """
    return (Work.INTERACTIVE, Work.BULK) if interactive_in_a_row < INTERACTIVE_IN_A_ROW else (Work.BULK, Work.INTERACTIVE)


def rows_for_one_lane(waiting: int, idle_lanes: int, max_rows: int) -> int:
    """How many of the waiting rows one batch may take: not all of them where other lanes have nothing to do."""
    return min(max_rows, -(-waiting // max(1, idle_lanes)))


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
