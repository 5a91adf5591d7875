"""Python's garbage collector in a process that has rows by the thousand alive at once. Light: the API uses it too."""

import gc
from typing import Final

# The first: objects that may hold others, made and not freed; with Python's 700 a shard makes it look hundreds of times.
THRESHOLDS: Final = (50_000, 10, 10)


def calm_the_collector() -> None:
    """Lets it look seldom, and never again at what is loaded by now. Call it once, when the process is ready to work.

    Rows free themselves: they are in no cycle. With Python's own thresholds, looking for cycles among them and in all of torch took a fifth
    of a worker's CPU time outside the model.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
