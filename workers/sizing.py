"""How large a shard is: some seconds of one worker's work, by the model's speed. Pure.

Too small, and claiming, opening and writing (some 20 ms a shard) show; too large, and a job of a few thousand rows has too few shards to
spread over the workers, and fairness between tenants comes in big steps.
"""

from typing import Final

from db.errors import TextmillError
from workers.models import registry

GENERATE_FACTOR: Final = 2.0  # generated rows are slow and few: a shard below the decoder's batch would leave its slots empty
MIN_CHARS: Final = 4_000
MAX_CHARS: Final = 8_000_000  # a shard is opened in memory, several at once
WHOLE: Final = 2**40  # train: one shard, however large
UNKNOWN_SPEED: Final = 20_000  # rows that name their models themselves


def shard_chars(model: str | None, task: str, *, seconds: float) -> int:
    """Characters of row bodies in one shard of this job, for ``seconds`` of one worker's work."""
    if task == "train":
        return WHOLE
    try:
        speed = registry.get(model).speed_chars_per_second if model else UNKNOWN_SPEED
    except TextmillError:  # a head, or a model that every row will be told is unknown
        speed = UNKNOWN_SPEED
    factor = GENERATE_FACTOR if task == "generate" else 1.0
    return max(MIN_CHARS, min(MAX_CHARS, int(speed * seconds * factor)))
