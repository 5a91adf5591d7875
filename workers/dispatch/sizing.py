"""How large a shard is: some seconds of one of a worker's threads, by the speed that was measured lately. Pure.

Too small, and claiming, opening and writing (some 20 ms a shard) show; too large, and a job of a few thousand rows has too few shards to
spread over the workers, and fairness between tenants comes in big steps.
"""

from collections.abc import Mapping
from typing import Final

from db.errors import TextmillError
from workers.models import registry
from workers.tasks import TASKS

# Of a model's speed on one core that one shard gets: four in flight on the two lanes of a small machine. Only until something is measured.
SHARE: Final = 0.5
MIN_CHARS: Final = 4_000
MAX_CHARS: Final = 8_000_000  # a shard is opened in memory, several at once
GUESSED_CHARS_PER_SECOND: Final = 10_000  # of a shard, where none of the registry's models tells better
WITHOUT_MODEL: Final = 500_000  # of rules and templates; the same

Speeds = Mapping[tuple[str, str | None], float]


def shard_chars(model: str | None, task: str, *, seconds: float, measured: Speeds) -> int | None:
    """Characters of row bodies in one shard of this job, for ``seconds`` of work; None where all its rows are one shard, however many.

    ``measured``: by (task, model), of one shard. A job without a model has rules or a template."""
    if task in TASKS and TASKS[task].whole:
        return None
    return max(MIN_CHARS, min(MAX_CHARS, int((measured.get((task, model)) or _guess(model)) * seconds)))


def _guess(model: str | None) -> float:
    try:
        return registry.get(model).speed_chars_per_second * SHARE if model is not None else WITHOUT_MODEL
    except TextmillError:
        return GUESSED_CHARS_PER_SECOND
