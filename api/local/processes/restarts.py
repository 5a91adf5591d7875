"""When a part that died is started again: policy alone, with the clock passed in."""

from dataclasses import dataclass
from typing import Final

FIRST_DELAY_SECONDS: Final = 0.5
MAX_DELAY_SECONDS: Final = 30.0
HEALTHY_SECONDS: Final = 60.0  # who ran so long did not die of its start: count from the beginning


@dataclass(frozen=True, slots=True)
class Restarts:
    """Crashes in a row of one part. ``total`` is what a person sees; ``in_a_row`` sets the delay. Planned restarts are no crashes; those
    that come in quick succession (``planned_in_a_row``) wait as well, all but the first."""

    total: int = 0
    in_a_row: int = 0
    planned: int = 0
    planned_in_a_row: int = 0

    def after_crash(self, ran_seconds: float) -> "Restarts":
        return Restarts(self.total + 1, 1 if ran_seconds >= HEALTHY_SECONDS else self.in_a_row + 1, self.planned)

    def after_planned(self, ran_seconds: float) -> "Restarts":
        return Restarts(self.total, 0, self.planned + 1, 0 if ran_seconds >= HEALTHY_SECONDS else self.planned_in_a_row + 1)

    @property
    def delay_seconds(self) -> float:
        """Doubles with every crash in a row: a part that cannot run must not eat the machine, one that stumbled is back at once."""
        steps = self.in_a_row or self.planned_in_a_row - 1
        return min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(steps - 1, 16)) if steps > 0 else 0.0
