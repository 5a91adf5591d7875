"""How the rows of a shard are cut into chunks, what one call of a model runs, and what a chunk took."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from db.queue.row import WorkRow
from workers.shard.pace import Pace
from workers.tasks.task import Group, Ran


class Uncut:
    """The rows of a shard that are not in a chunk yet; false once there are none. ``pace_of`` a group says how many make a chunk."""

    def __init__(self, groups: Sequence[tuple[Group, list[WorkRow]]], pace_of: Callable[[Group], Pace]) -> None:
        self._groups = deque(groups)
        self._pace_of = pace_of
        self._at = 0  # in the first group

    def __bool__(self) -> bool:
        return bool(self._groups)

    def take(self) -> tuple[Group, list[WorkRow], Pace]:
        """The next chunk, by the speed that is known by now."""
        group, own = self._groups[0]
        pace = self._pace_of(group)
        rows = own[self._at :]
        rows = rows[: pace.take([row.cost for row in rows])]
        self._at += len(rows)
        if self._at == len(own):
            self._groups.popleft()
            self._at = 0
        return group, rows, pace


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are answered or failed, and what that took. ``ran`` None: no model saw them. ``lanes`` of the model; times of a monotonic
    clock, in seconds."""

    rows: Sequence[WorkRow]
    model: str = ""
    ran: Ran | None = None
    lanes: int = 0
    began_at: float = 0.0
    ended_at: float = 0.0
