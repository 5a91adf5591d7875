"""Who counts how jobs end and why rows fail, whoever made them: told after the commit, so that nothing counts that was undone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


def _nobody(*_: object) -> None:
    return


@dataclass(frozen=True, slots=True)
class Tally:
    """``job_ended(task, outcome)``; ``rows_failed(task, how many by code)``."""

    job_ended: Callable[[str, str], object] = _nobody
    rows_failed: Callable[[str, Mapping[str, int]], object] = _nobody


NOBODY = Tally()
