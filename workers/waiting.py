"""Rows that wait for a batch, and the cut of the next one: pure, and cheap a row, because it runs beside tokenising threads and lanes.

A row is a plain tuple (length in tokens, index in its call, call): at a hundred thousand rows a second, objects with attributes would cost
more than all the rest. The oldest `window_rows` rows lie in a list that stays from cut to cut; the backlog behind it is only appended to.
"""

from collections import deque
from collections.abc import Collection, Hashable, Sequence
from itertools import repeat
from typing import Generic, TypeAlias, TypeVar

from workers.batching import Policy, next_batch, rows_for_one_lane

CallT = TypeVar("CallT", bound=Hashable)
Row: TypeAlias = tuple[int, int, CallT]


class Waiting(Generic[CallT]):
    """Not thread-safe: its owner holds a lock."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._window: list[Row[CallT]] = []
        self._lengths: list[int] = []  # of the window's rows, in the same order
        self._backlog: deque[Row[CallT]] = deque()

    def __len__(self) -> int:
        return len(self._window) + len(self._backlog)

    def add(self, lengths: Sequence[int], call: CallT) -> None:
        """All rows of a call. A row of no tokens still takes a place."""
        self._backlog.extend(zip([length or 1 for length in lengths], range(len(lengths)), repeat(call)))

    def put_back(self, rows: Sequence[Row[CallT]]) -> None:
        """Rows that were taken and did not run: they are the oldest again."""
        self._window[:0] = rows
        self._lengths[:0] = [row[0] for row in rows]

    def take(self, budget_tokens: int, *, idle_lanes: int) -> list[Row[CallT]]:
        """The next batch, removed from the rows that wait. Empty only where none wait."""
        self._fill_window()
        max_rows = rows_for_one_lane(len(self._window), idle_lanes, self._policy.max_rows)
        places = next_batch(self._lengths, budget_tokens, padded=self._policy.padded, max_rows=max_rows)
        taken = [self._window[place] for place in places]
        places.sort()
        self._forget(places)
        return taken

    def drop(self, calls: Collection[CallT]) -> None:
        """Forgets all rows of these calls."""
        self._window = [row for row in self._window if row[2] not in calls]
        self._lengths = [row[0] for row in self._window]
        self._backlog = deque(row for row in self._backlog if row[2] not in calls)

    def clear(self) -> list[Row[CallT]]:
        """Everything that waited."""
        rows = [*self._window, *self._backlog]
        self.drop({row[2] for row in rows})
        return rows

    def _fill_window(self) -> None:
        missing = min(self._policy.window_rows - len(self._window), len(self._backlog))
        if missing > 0:
            come = [self._backlog.popleft() for _ in range(missing)]
            self._window += come
            self._lengths += [row[0] for row in come]

    def _forget(self, places: Sequence[int]) -> None:
        """Removes the rows at these ascending places: the run at the front, which is most of a packed batch, in one piece."""
        front = 0
        while front < len(places) and places[front] == front:
            front += 1
        for place in reversed(places[front:]):
            del self._window[place], self._lengths[place]
        del self._window[:front], self._lengths[:front]
