"""On whose behalf rows are run: handed on, as it is, with every call from a shard to the lanes."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Ticket:
    """``stop``: once set, the call raises Stopped before the next batch of its rows. ``tenant``: with whom its rows share a turn.

    ``job``: it shares the tenant's turns with the others; texts of it with the same tokens are computed once; without one, each is.
    ``interactive``: somebody waits, so its rows make up the next batch.
    """

    stop: threading.Event | None = None
    tenant: Hashable = None
    job: bytes | None = None
    interactive: bool = False

    @property
    def stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()


NOBODY: Final = Ticket()
