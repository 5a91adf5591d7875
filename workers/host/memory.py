"""How much memory this process holds, and the ceiling above which it ends itself, in order, to be started afresh.

Allocators fragment and libraries leak: after weeks a process may hold twice what it needs. Better a drain between two shards than the
kernel's choice of a victim in the middle of one.
"""

from typing import Final

import psutil

EX_PLANNED: Final = 76  # beside watchdog.EX_HANG (75): whoever supervises starts it again at once, and counts no crash
EX_CEILING: Final = 78  # EX_CONFIG of sysexits.h: a ceiling below what it needs to work at all, so that the next one would end as soon
SETTLED_SECONDS: Final = 600.0  # who was idle for so long did not pass the ceiling by its start

NEAR: Final = 0.9
IDLE_SECONDS: Final = 10.0  # a model that nobody used for so long may go where memory is short: a job uses its own more often

MIB: Final = 1 << 20


def resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def end_at_ceiling(rows: int, *, load_seconds: float, ran_seconds: float) -> int:
    """The exit code of a process above its ceiling that stored so many rows in ``ran_seconds`` since its models were loaded.

    EX_PLANNED where a fresh one is worth its start: it worked, or idled for long, and not for a shorter time than it loaded.
    """
    worth_it = ran_seconds >= load_seconds and (rows > 0 or ran_seconds >= SETTLED_SECONDS)
    return EX_PLANNED if worth_it else EX_CEILING


def ceiling_mb(asked_mb: int | None, allowed_bytes: int | None) -> int | None:
    """What was asked for; else nine tenths of what a container or a unit allows, so that the kernel ends nothing. None: no ceiling."""
    return asked_mb if asked_mb is not None or allowed_bytes is None else int(NEAR * allowed_bytes) // MIB


def available_bytes() -> int:
    """What this machine has to give."""
    return int(psutil.virtual_memory().available)


class Ceiling:
    """``max_mb`` None: there is none."""

    def __init__(self, max_mb: int | None) -> None:
        self.max_mb = max_mb

    def left(self, resident: int, available: int) -> int:
        """Bytes that one more model may take, of those that the machine has to give: not so many that `near` holds."""
        return available if self.max_mb is None else min(available, int(NEAR * self.max_mb * MIB) - resident)

    def near(self, resident: int) -> bool:
        """Whether what is not in use should go now, so that what comes next does not pass it."""
        return self.max_mb is not None and resident > NEAR * self.max_mb * MIB

    def passed_by(self, resident: int) -> bool:
        return self.max_mb is not None and resident > self.max_mb * MIB
