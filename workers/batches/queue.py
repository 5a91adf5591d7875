"""Rows that wait, in turns, and the cut of the next batch: pure, and cheap a row, because it runs beside tokenising threads and lanes.

A row is a plain tuple (length in tokens, tag, index in its call, call): at a hundred thousand rows a second, objects with attributes would
cost more than all the rest.

A row's tag is its turn: start-time fair queueing (Goyal, Vin and Cheng, 1996). An owner's rows come one after another in tokens, and those
of an owner who had none begin at what runs now. So several owners share the lanes by tokens, a few rows of one do not wait behind all that
another has in flight, and every row moves up whatever comes after it. An owner's jobs share its turns in the same way: each one's rows
stand as many times farther apart as there are jobs. With one owner and one job it is the order of arrival.
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import accumulate, repeat
from operator import itemgetter
from typing import Generic, TypeAlias, TypeVar

from workers.batches.policy import Policy, cut, rows_for_one_lane

CallT = TypeVar("CallT", bound=Hashable)
Row: TypeAlias = tuple[int, int, int, CallT]
Flow: TypeAlias = tuple[Hashable, Hashable]  # an owner, and one of its jobs

_tag = itemgetter(1)


class Turns(Generic[CallT]):
    """Rows one after another. Not thread-safe: whoever has it holds a lock. ``owner_of`` and ``job_of`` a call: with whom it shares a turn;
    one for all, if left out."""

    def __init__(
        self,
        owner_of: Callable[[CallT], Hashable] = lambda _call: None,
        job_of: Callable[[CallT], Hashable] = lambda _call: None,
    ) -> None:
        self._flow_of: Callable[[CallT], Flow] = lambda call: (owner_of(call), job_of(call))
        self._backlog: dict[Flow, deque[Row[CallT]]] = {}  # each in the order of tags; a flow without any is not there
        self._backlog_rows = 0
        self._now = 0  # the least tag of what began last
        self._next: dict[Flow, int] = {}  # the tag that a flow's next row gets, where it is not ``now``
        self._drawn_tag = 0  # the greatest of the rows that were drawn and have not begun, or greater

    def __len__(self) -> int:
        return self._backlog_rows

    def add(self, lengths: Sequence[int], call: CallT) -> None:
        """All rows of a call. A row of no tokens still takes a place."""
        if not lengths:
            return
        flow = self._flow_of(call)
        counted = [length or 1 for length in lengths]
        first = max(self._now, self._next.get(flow, 0))
        jobs = 1 + sum(each[0] == flow[0] and each != flow and tag > self._now for each, tag in self._next.items())
        *tags, self._next[flow] = accumulate([jobs * length for length in counted], initial=first)
        if flow not in self._backlog:
            if first < self._drawn_tag:
                self._undraw()
            self._backlog.setdefault(flow, deque())
        self._backlog[flow].extend(zip(counted, tags, range(len(counted)), repeat(call)))
        self._backlog_rows += len(counted)

    def first(self) -> Row[CallT] | None:
        """The row whose turn it is. It goes on waiting."""
        return min(self.heads(), key=_tag, default=None)

    def heads(self) -> Iterable[Row[CallT]]:
        """Of each owner's jobs the row that came first of those that wait."""
        return (rows[0] for rows in self._backlog.values())

    def tokens_by_owner(self) -> dict[Hashable, int]:
        """That wait."""
        tokens: dict[Hashable, int] = {}
        for (owner, _), rows in self._backlog.items():
            tokens[owner] = tokens.get(owner, 0) + sum(row[0] for row in rows)
        return tokens

    def take_first(self) -> Row[CallT]:
        """That row, removed. There is one."""
        [row] = self._draw(1)
        self._begin(row[1])
        return row

    def take_back(self, call: CallT) -> list[int]:
        """Forgets the rows of this call, and the turns they took. Returns which they were."""
        places = [row[2] for row in self._all() if row[3] is call]
        self.drop((call,))
        return places

    def drop(self, calls: Collection[CallT]) -> None:
        """Forgets all rows of these calls, and what turns they took."""
        if not any(row[3] in calls for row in self._all()):
            return
        self._forget(calls)
        self._next.clear()
        for length, tag, _, call in self._all():
            flow = self._flow_of(call)
            self._next[flow] = max(self._next.get(flow, 0), tag + length)

    def clear(self) -> set[CallT]:
        """Forgets everything. Returns whose it was."""
        calls = {row[3] for row in self._all()}
        self.drop(calls)
        return calls

    def _all(self) -> Iterable[Row[CallT]]:
        return (row for rows in self._backlog.values() for row in rows)

    def _forget(self, calls: Collection[CallT]) -> None:
        kept = {flow: deque(row for row in rows if row[3] not in calls) for flow, rows in self._backlog.items()}
        self._backlog = {flow: rows for flow, rows in kept.items() if rows}
        self._backlog_rows = sum(map(len, self._backlog.values()))

    def _begin(self, tag: int) -> None:
        """Of rows that run now this is the least tag."""
        self._now = max(self._now, tag)
        if not len(self):  # nobody owes anybody for what was free
            self._now = max(self._now, *self._next.values()) if self._next else self._now
            self._next.clear()

    def _draw(self, most: int) -> list[Row[CallT]]:
        """Up to ``most`` rows out of the backlog, those of the least tags, in their order."""
        drawn: list[Row[CallT]] = []
        heads = [(rows[0][1], number, flow) for number, (flow, rows) in enumerate(self._backlog.items())]
        heapify(heads)
        while heads and len(drawn) < most:
            _, number, flow = heads[0]
            rows = self._backlog[flow]
            drawn.append(rows.popleft())
            if not rows:
                heappop(heads)
                del self._backlog[flow]
            elif len(heads) > 1:
                heapreplace(heads, (rows[0][1], number, flow))
        self._backlog_rows -= len(drawn)
        return drawn

    def _undraw(self) -> None:
        """What was drawn and has not begun waits for its turn again: here nothing."""


class Waiting(Turns[CallT]):
    """Rows in batches. The `window_rows` rows of the least tags are cut into batches in one go; the plan is followed, the batch with the
    least tag first, until half of it is left, and then made anew with the rows that came meanwhile."""

    def __init__(
        self,
        policy: Policy,
        owner_of: Callable[[CallT], Hashable] = lambda _call: None,
        job_of: Callable[[CallT], Hashable] = lambda _call: None,
    ) -> None:
        super().__init__(owner_of, job_of)
        self._policy = policy
        self._planned: list[list[Row[CallT]]] = []  # the next batch last
        self._planned_rows = 0
        self._planned_budget = 0  # tokens a batch of the plan

    def __len__(self) -> int:
        return self._planned_rows + self._backlog_rows

    def put_back(self, rows: Sequence[Row[CallT]]) -> None:
        """Rows that were taken and did not run: they keep their turn, and are planned anew with what came since."""
        self._planned.append(list(rows))
        self._planned_rows += len(rows)
        self._planned_budget = 0
        self._drawn_tag = max(self._drawn_tag, *map(_tag, rows)) if rows else self._drawn_tag

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
        self._begin(min(map(_tag, taken)))
        return taken

    def _all(self) -> Iterable[Row[CallT]]:
        return (row for rows in (*self._planned, *self._backlog.values()) for row in rows)

    def _forget(self, calls: Collection[CallT]) -> None:
        super()._forget(calls)
        left = [[row for row in batch if row[3] not in calls] for batch in self._planned]
        self._planned = [batch for batch in left if batch]
        self._planned_rows = sum(map(len, self._planned))

    def _plan(self, budget_tokens: int, max_rows: int) -> None:
        window = [row for batch in self._planned for row in batch]
        window += self._draw(self._policy.window_rows - len(window))
        window.sort(key=_tag)
        policy = self._policy
        batches = cut(
            [row[0] for row in window], budget_tokens, padded=policy.padded, max_rows=max_rows, overhead_tokens=policy.overhead_tokens
        )
        self._planned = [[window[place] for place in batch] for batch in reversed(batches)]
        self._planned_rows = len(window)
        self._planned_budget = budget_tokens
        self._drawn_tag = window[-1][1] if window else 0
        self._next = {flow: tag for flow, tag in self._next.items() if tag > self._now}

    def _undraw(self) -> None:
        """What is planned goes back in front of its flows' rows."""
        for row in sorted([row for batch in self._planned for row in batch], key=_tag, reverse=True):
            self._backlog.setdefault(self._flow_of(row[3]), deque()).appendleft(row)
        self._backlog_rows += self._planned_rows
        self._planned, self._planned_rows, self._drawn_tag = [], 0, 0
