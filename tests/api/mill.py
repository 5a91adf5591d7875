"""The real dispatcher and the real life of a shard with the fake engine: no processes, no broker, one call at a time."""

import time
from collections.abc import Callable
from uuid import UUID

from db.connect import Store
from db.queue.dispatch import cut_validating_jobs
from db.queue.shards import claim_any
from db.settings import Role, StoreSettings
from workers.claims.lease import LeaseKeeper
from workers.dispatch.dispatcher import Dispatcher
from workers.host.watchdog import Watchdog
from workers.inference.runtime import Runtime
from workers.settings import DispatcherSettings, WorkerSettings
from workers.shard.life import ShardLife

Stores = Callable[[Role], Store]


class NoBroker:
    """Shards are claimed by polling here."""

    def waiting(self) -> int:
        return 0

    def publish(self, shards: list[tuple[UUID, int]]) -> None:
        pass


class Mill:
    def __init__(self, stores: Stores, settings: StoreSettings) -> None:
        own = WorkerSettings(home=settings.home, device="cpu")
        self._stores = stores
        self._dispatcher = Dispatcher(stores(Role.DISPATCHER), DispatcherSettings(home=settings.home), NoBroker())
        self._keeper = LeaseKeeper(stores(Role.WORKER), lease_seconds=30, heartbeat_seconds=5, margin_seconds=5)
        self._runtime = Runtime(own)
        self._task = ShardLife(stores(Role.WORKER), self._runtime, self._keeper, Watchdog(1800).watch, own, lambda: False)

    def cut(self, *, shard_chars: int = 10_000) -> None:
        """Validating jobs become shards of about so many characters, or fail."""
        cut_validating_jobs(self._stores(Role.DISPATCHER), lambda model, task: shard_chars)

    def run_one_shard(self) -> bool:
        """Whether there was one."""
        claimed_at = time.monotonic()
        leases = claim_any(self._stores(Role.WORKER), "tests:1", limit=1)
        for lease in leases:
            self._task.run(lease, claimed_at)
        return bool(leases)

    def settle(self) -> None:
        """What is new, cancelled, overdue or done moves on as far as it goes."""
        while self._dispatcher.tick():
            pass

    def run_all(self) -> None:
        self.settle()
        while self.run_one_shard():
            self.settle()

    def close(self) -> None:
        self._runtime.close(drain=False)
