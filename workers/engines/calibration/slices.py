"""When a calibration may go on beside the work of its process: pure policy, no thread, no clock.

A calibration is a row of slices, each of half a second of all cores or so. None begins while somebody waits for an interactive row. While
bulk runs they take a fifth of the time; a process that is idle has nothing better to do.
"""

from typing import Final

from workers.batches.activity import Busy

REST: Final = 4.0  # times what the slice before took, while bulk runs: slices have a fifth of the time
FIRST_REST_SECONDS: Final = 2.0  # after the model was loaded: the rows that it was loaded for go first
SETTLED_SECONDS: Final = 0.5  # without a call, before a process counts as idle: between two small jobs lies less

# A finding that was made under load is used, and made again when the process has been idle for long.
AGAIN_AFTER_SECONDS: Final = 60.0
MOST_TRIES: Final = 4  # of one finding, on a machine that is never quiet


def wait_seconds(busy: Busy, *, took_seconds: float, since_seconds: float, only_idle: bool = False) -> float | None:
    """How long until the next slice may begin, 0 for now; None: not while the calls last that are under way.

    ``took_seconds``: what the slice before took, ``since_seconds``: ago it ended. ``only_idle``: beside bulk, none begins either.
    """
    if busy.interactive or (busy.bulk and only_idle):
        return None
    if busy.bulk:
        return max(0.0, took_seconds * REST - since_seconds)
    settled_seconds = AGAIN_AFTER_SECONDS if only_idle else SETTLED_SECONDS
    return max(0.0, settled_seconds - busy.idle_seconds)
