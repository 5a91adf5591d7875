"""Rows that wait for a batch, and the cut of the next one: pure, and cheap a row, because it runs beside tokenising threads and lanes.

A row is a plain tuple (length in tokens, number by turn, index in its call, call): at a hundred thousand rows a second, objects with
attributes would cost more than all the rest. The next `window_rows` rows are cut into batches in one go; the plan is followed, the batch
with the first row first, until half of it is left, and then made anew with the rows that came meanwhile.

Rows of one owner come into the window in the order of their arrival. Several owners take turns by tokens (deficit round robin: Shreedhar
and Varghese, 1995), so that a few rows of one do not wait behind all that another has in flight. An owner who comes new finds nothing
planned: what was is drawn again, with them.
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable, Sequence
from operator import itemgetter
from typing import Final, Generic, TypeAlias, TypeVar

from workers.batching import Policy, cut, rows_for_one_lane

CallT = TypeVar("CallT", bound=Hashable)
Row: TypeAlias = tuple[int, int, int, CallT]

QUANTA_A_BATCH: Final = 8  # turns that fill a batch, so that each holds rows of all owners

_turn = itemgetter(1)


class Waiting(Generic[CallT]):
    """Not thread-safe: whoever has it holds a lock. ``owner_of`` a call: with whom it shares a turn; one for all, if left out."""

    def __init__(self, policy: Policy, owner_of: Callable[[CallT], Hashable] = lambda _call: None) -> None:
        self._policy = policy
        self._owner_of = owner_of
        self._planned: list[list[Row[CallT]]] = []  # the next batch last
        self._planned_rows = 0
        self._planned_budget = 0  # tokens a batch of the plan
        # By owner, whose turn it is first. Rows of (length, index, call); an owner without any is not there.
        self._backlog: dict[Hashable, deque[tuple[int, int, CallT]]] = {}
        self._backlog_rows = 0
        self._deficits: dict[Hashable, int] = {}  # tokens that an owner may draw beside its next quantum: a row that is longer comes too
        self._drawn = 0  # the number of the next row that comes into the window

    def __len__(self) -> int:
        return self._planned_rows + self._backlog_rows

    def add(self, lengths: Sequence[int], call: CallT) -> None:
        """All rows of a call. A row of no tokens still takes a place."""
        if not lengths:
            return
        owner = self._owner_of(call)
        if owner not in self._backlog and self._planned_owners() - {owner}:
            self._undraw()
        self._backlog.setdefault(owner, deque()).extend((length or 1, index, call) for index, length in enumerate(lengths))
        self._backlog_rows += len(lengths)

    def put_back(self, rows: Sequence[Row[CallT]]) -> None:
        """Rows that were taken and did not run: they keep their age, and are planned anew with what came since."""
        self._planned.append(list(rows))
        self._planned_rows += len(rows)
        self._planned_budget = 0

    def take(self, budget_tokens: int, *, idle_lanes: int) -> list[Row[CallT]]:
        """The next batch, removed from the rows that wait. It holds the one whose turn it is. Empty only where none wait."""
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
        kept = {owner: deque(row for row in rows if row[2] not in calls) for owner, rows in self._backlog.items()}
        self._backlog = {owner: rows for owner, rows in kept.items() if rows}
        self._deficits = {owner: tokens for owner, tokens in self._deficits.items() if owner in self._backlog}
        self._backlog_rows = sum(map(len, self._backlog.values()))

    def clear(self) -> set[CallT]:
        """Forgets everything. Returns whose it was."""
        calls = {row[3] for batch in self._planned for row in batch} | {row[2] for rows in self._backlog.values() for row in rows}
        self.drop(calls)
        return calls

    def _plan(self, budget_tokens: int, max_rows: int) -> None:
        window = sorted([row for batch in self._planned for row in batch], key=_turn)
        window += self._draw(self._policy.window_rows - len(window), max(1, budget_tokens // QUANTA_A_BATCH))
        policy = self._policy
        batches = cut(
            [row[0] for row in window], budget_tokens, padded=policy.padded, max_rows=max_rows, overhead_tokens=policy.overhead_tokens
        )
        self._planned = [[window[place] for place in batch] for batch in reversed(batches)]
        self._planned_rows = len(window)
        self._planned_budget = budget_tokens

    def _draw(self, most: int, quantum_tokens: int) -> list[Row[CallT]]:
        """Up to ``most`` rows out of the backlog, in the order of turns."""
        drawn: list[Row[CallT]] = []
        while self._backlog and len(drawn) < most:
            owner = next(iter(self._backlog))
            rows = self._backlog.pop(owner)
            tokens = self._deficits.pop(owner, 0) + quantum_tokens
            while rows and len(drawn) < most and (not self._backlog or rows[0][0] <= tokens):
                length, index, call = rows.popleft()
                drawn.append((length, self._drawn, index, call))
                self._drawn += 1
                tokens -= length
            if rows:
                self._backlog[owner] = rows  # behind the others
                self._deficits[owner] = max(0, tokens)
        self._backlog_rows -= len(drawn)
        return drawn

    def _planned_owners(self) -> set[Hashable]:
        return {self._owner_of(call) for call in {row[3] for batch in self._planned for row in batch}}

    def _undraw(self) -> None:
        """What is planned goes back in front of its owners' rows."""
        for length, _, index, call in sorted([row for batch in self._planned for row in batch], key=_turn, reverse=True):
            self._backlog.setdefault(self._owner_of(call), deque()).appendleft((length, index, call))
        self._backlog_rows += self._planned_rows
        self._planned, self._planned_rows = [], 0
