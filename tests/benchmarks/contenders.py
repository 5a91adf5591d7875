"""The batching policies that the simulator compares: ours, as the worker runs it, and what others are known to do.

Theirs are written from their papers and documentation. None is tuned against the traces.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from workers.batches.policy import Policy, cost_tokens
from workers.batches.queue import Waiting

Row = tuple[int, int]  # length in tokens, number
Cost = Callable[[Sequence[int]], float]  # lengths of a batch -> milliseconds
BUDGET_TOKENS: Final = 1024  # what calibration chose for both engines on the machine of costs.json
WINDOW_ROWS: Final = 512


class Contender(Protocol):
    def add(self, rows: Sequence[Row]) -> None: ...

    def next_batch(self) -> list[Row]:
        """Empty where nothing waits."""

    def ran(self, milliseconds: float) -> None: ...


class Ours:
    """`workers.batches.queue` itself."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._waiting: Waiting[int] = Waiting(policy)
        self._numbers: dict[tuple[int, int], int] = {}
        self._calls = 0

    def add(self, rows: Sequence[Row]) -> None:
        self._numbers.update(((self._calls, index), number) for index, (_, number) in enumerate(rows))
        self._waiting.add([length for length, _ in rows], self._calls)
        self._calls += 1

    def next_batch(self) -> list[Row]:
        if not self._waiting:
            return []
        taken = self._waiting.take(self._policy.budget_tokens, idle_lanes=1)
        return [(length, self._numbers[call, index]) for length, _, index, call in taken]

    def ran(self, milliseconds: float) -> None:
        return


class Fifo:
    """In order of arrival while `fits(lengths)`: a fixed count of rows, or a token budget."""

    def __init__(self, fits: Callable[[Sequence[int]], bool]) -> None:
        self._fits = fits
        self._waiting: deque[Row] = deque()

    def add(self, rows: Sequence[Row]) -> None:
        self._waiting.extend(rows)

    def next_batch(self) -> list[Row]:
        batch: list[Row] = []
        while self._waiting and (not batch or self._fits([length for length, _ in (*batch, self._waiting[0])])):
            batch.append(self._waiting.popleft())
        return batch

    def ran(self, milliseconds: float) -> None:
        return


class Aimd(Fifo):
    """Clipper (NSDI 2017): the count of rows grows by a step while batches keep to a latency, and shrinks by a tenth if one does not."""

    def __init__(self, objective_ms: float = 200.0, step_rows: int = 2) -> None:
        super().__init__(lambda lengths: len(lengths) <= self._rows)
        self._rows = 1.0
        self._objective_ms = objective_ms
        self._step_rows = step_rows

    def ran(self, milliseconds: float) -> None:
        self._rows = self._rows + self._step_rows if milliseconds <= self._objective_ms else max(1.0, 0.9 * self._rows)


class Windowed:
    """Takes a window of the rows that wait, plans all its batches at once, and runs them before it looks again."""

    def __init__(self, window_rows: int, plan: Callable[[list[Row]], list[list[Row]]]) -> None:
        self._window_rows = window_rows
        self._plan = plan
        self._waiting: deque[Row] = deque()
        self._planned: deque[list[Row]] = deque()

    def add(self, rows: Sequence[Row]) -> None:
        self._waiting.extend(rows)

    def next_batch(self) -> list[Row]:
        if not self._planned and self._waiting:
            window = [self._waiting.popleft() for _ in range(min(self._window_rows, len(self._waiting)))]
            self._planned.extend(self._plan(window))
        return self._planned.popleft() if self._planned else []

    def ran(self, milliseconds: float) -> None:
        return


def sorted_by(count: int) -> Callable[[list[Row]], list[list[Row]]]:
    """Longest first, `count` rows a batch: what sentence-transformers does with a list, and infinity with a window."""

    def plan(window: list[Row]) -> list[list[Row]]:
        ordered = sorted(window, reverse=True)
        return [ordered[first : first + count] for first in range(0, len(ordered), count)]

    return plan


def cheapest_cuts(cost: Cost, most_rows: int = 64) -> Callable[[list[Row]], list[list[Row]]]:
    """TurboTransformers (PPoPP 2021): rows in order of length, cut where the sum of the batches' costs is least, by dynamic programming."""
    known: dict[tuple[int, int], float] = {}

    def of(batch: Sequence[Row]) -> float:
        key = batch[-1][0], len(batch)
        if key not in known:
            known[key] = cost([batch[-1][0]] * len(batch))
        return known[key]

    def plan(window: list[Row]) -> list[list[Row]]:
        ordered = sorted(window)
        least, cuts = [0.0], [0]
        for end in range(1, len(ordered) + 1):
            options = [(least[first] + of(ordered[first:end]), first) for first in range(max(0, end - most_rows), end)]
            best = min(options)
            least.append(best[0])
            cuts.append(best[1])
        batches, end = [], len(ordered)
        while end:
            batches.append(ordered[cuts[end] : end])
            end = cuts[end]
        return batches

    return plan


def _budget(tokens: int, *, padded: bool) -> Callable[[Sequence[int]], bool]:
    return lambda lengths: cost_tokens(lengths, padded=padded) <= tokens


Make = Callable[[Cost], Contender]


def _contenders(*, padded: bool) -> dict[str, Make]:
    return {
        "textmill": lambda cost: Ours(Policy(BUDGET_TOKENS, padded=padded, max_rows=512, window_rows=WINDOW_ROWS)),
        "fixed 32, FIFO": lambda cost: Fifo(lambda lengths: len(lengths) <= 32),
        "fixed 32, sorted": lambda cost: Windowed(1 << 30, sorted_by(32)),
        "TEI budget 16,384 FIFO": lambda cost: Fifo(_budget(16_384, padded=padded)),
        "infinity 8 × 32 sorted": lambda cost: Windowed(8 * 32, sorted_by(32)),
        "Clipper AIMD": lambda cost: Aimd(),
        "TurboTransformers DP": lambda cost: Windowed(WINDOW_ROWS, cheapest_cuts(cost)),
    }


PADDED: Final = _contenders(padded=True)
PACKED: Final = _contenders(padded=False)
