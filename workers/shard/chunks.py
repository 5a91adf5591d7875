"""How the rows of a shard are cut into chunks, what one call of a model runs, and what a chunk took."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from db.queue.row import WorkRow
from workers.shard.pace import Pace
from workers.stages import StageSeconds
from workers.tasks.task import Group, Ran


class Uncut:
    """The rows of a shard that are not in a chunk yet; false once there are none. ``pace_of`` a group says how many make a chunk."""

    def __init__(self, groups: Sequence[Group], pace_of: Callable[[Group], Pace]) -> None:
        self._groups = deque(groups)
        self._pace_of = pace_of
        self._at = 0  # in the first group

    def __bool__(self) -> bool:
        return bool(self._groups)

    def take(self) -> tuple[Group, list[WorkRow], Pace]:
        """The next chunk, by the speed that is known by now."""
        group = self._groups[0]
        pace = self._pace_of(group)
        rows = group.rows[self._at :]
        rows = rows[: pace.take([row.cost for row in rows])]
        self._at += len(rows)
        if self._at == len(group.rows):
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

    @property
    def model_version(self) -> str:
        return self.ran.model_version if self.ran is not None else ""

    def metrics(self, seconds: float, held_seconds: float, *more: StageSeconds) -> dict[str, float] | None:
        """What is added to the shard's sums; None where no model ran.

        ``seconds`` is the time for these rows, ``held_seconds`` that in which lanes could have worked for the job. ``more``: stages of this
        shard that are told with this chunk.
        """
        if self.ran is None:
            return None
        for stages in more:
            self.ran.stages.add(stages)
        return {
            **self.ran.share.as_dict(),
            **self.ran.stages.as_dict(),
            "seconds": seconds,
            "chars": float(sum(row.size for row in self.rows)),
            "held_seconds": held_seconds,
            "lane_seconds": held_seconds * self.lanes,
        }
