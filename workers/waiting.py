"""Rows that wait for a batch, and the cut of the next one: pure, and cheap a row, because it runs beside tokenising threads and lanes.

A row is a plain tuple (length in tokens, number by arrival, index in its call, call): at a hundred thousand rows a second, objects with
attributes would cost more than all the rest. The oldest `window_rows` rows are cut into batches in one go; the plan is followed, the batch
with the oldest row first, until half of it is left, and then made anew with the rows that came meanwhile.
"""

from collections import deque
from collections.abc import Collection, Hashable, Sequence
from itertools import count, repeat
from operator import itemgetter
from typing import Generic, TypeAlias, TypeVar

from workers.batching import Policy, cut, rows_for_one_lane

CallT = TypeVar("CallT", bound=Hashable)
Row: TypeAlias = tuple[int, int, int, CallT]

_arrival = itemgetter(1)


class Waiting(Generic[CallT]):
    """Not thread-safe: its owner holds a lock."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._planned: list[list[Row[CallT]]] = []  # the next batch last
        self._planned_rows = 0
        self._planned_budget = 0  # tokens a batch of the plan
        self._backlog: deque[Row[CallT]] = deque()
        self._came = 0

    def __len__(self) -> int:
        return self._planned_rows + len(self._backlog)

    def add(self, lengths: Sequence[int], call: CallT) -> None:
        """All rows of a call. A row of no tokens still takes a place."""
        self._backlog.extend(zip([length or 1 for length in lengths], count(self._came), range(len(lengths)), repeat(call)))
        self._came += len(lengths)

    def put_back(self, rows: Sequence[Row[CallT]]) -> None:
        """Rows that were taken and did not run: they keep their age, and are planned anew with what came since."""
        self._planned.append(list(rows))
        self._planned_rows += len(rows)
        self._planned_budget = 0

    def take(self, budget_tokens: int, *, idle_lanes: int) -> list[Row[CallT]]:
        """The next batch, removed from the rows that wait. It holds the oldest of them. Empty only where none wait."""
        window_rows = min(len(self), self._policy.window_rows)
        max_rows = rows_for_one_lane(window_rows, idle_lanes, self._policy.max_rows)
        used_up = self._backlog and 2 * self._planned_rows <= self._policy.window_rows
        if used_up or budget_tokens != self._planned_budget or not self._planned or len(self._planned[-1]) > max_rows:
            self._plan(budget_tokens, max_rows)
        if not self._planned:
            return []
        taken = self._planned.pop()
        self._planned_rows -= len(taken)
        return taken

    def drop(self, calls: Collection[CallT]) -> None:
        """Forgets all rows of these calls."""
        left = [[row for row in batch if row[3] not in calls] for batch in self._planned]
        self._planned = [batch for batch in left if batch]
        self._planned_rows = sum(map(len, self._planned))
        self._backlog = deque(row for row in self._backlog if row[3] not in calls)

    def clear(self) -> set[CallT]:
        """Forgets everything. Returns whose it was."""
        calls = {row[3] for batch in (*self._planned, self._backlog) for row in batch}
        self.drop(calls)
        return calls

    def _plan(self, budget_tokens: int, max_rows: int) -> None:
        window = sorted([row for batch in self._planned for row in batch], key=_arrival)
        come = min(self._policy.window_rows - len(window), len(self._backlog))
        window += [self._backlog.popleft() for _ in range(come)]
        policy = self._policy
        batches = cut(
            [row[0] for row in window], budget_tokens, padded=policy.padded, max_rows=max_rows, overhead_tokens=policy.overhead_tokens
        )
        self._planned = [[window[place] for place in batch] for batch in reversed(batches)]
        self._planned_rows = len(window)
        self._planned_budget = budget_tokens
