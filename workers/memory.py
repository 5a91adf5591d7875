"""How much memory this process holds, and the ceiling above which it ends itself, in order, to be started afresh.

Allocators fragment and libraries leak: after weeks a process may hold twice what it needs. Better a drain between two shards than the
kernel's choice of a victim in the middle of one.
"""

from typing import Final

import psutil

EX_PLANNED: Final = 76  # beside watchdog.EX_HANG (75): whoever supervises starts it again at once, and counts no crash

MIB: Final = 1 << 20


def resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


class Ceiling:
    """``max_mb`` None: there is none."""

    def __init__(self, max_mb: int | None) -> None:
        self.max_mb = max_mb

    def passed_by(self, resident: int) -> bool:
        return self.max_mb is not None and resident > self.max_mb * MIB
