"""The poller: claims ready shards when slots are idle, so that messages may be lost and Redis may be away.

It looks every few seconds. While no message has come for that long, it looks again as soon as a slot is free: then it is the only source
of work, and the device should not wait.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from db import shards
from db.connect import Store
from db.shards import Lease
from workers import metrics
from workers.logs import place_of
from workers.slots import Slots

log = logging.getLogger("textmill.poller")


class Poller:
    """Parameters: ``run(lease, claimed_at)`` works on one shard and raises nothing; ``now`` is the lease keeper's clock."""

    def __init__(
        self,
        store: Store,
        slots: Slots,
        run: Callable[[Lease, float], object],
        *,
        worker: str,
        poll_seconds: float,
        lease_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._slots = slots
        self._run_shard = run
        self._worker = worker
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._now = now
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._last_message = -poll_seconds
        self._failing = False
        self._shards = ThreadPoolExecutor(slots.count, thread_name_prefix="polled-shard")
        self._thread = threading.Thread(target=self._loop, name="poller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Claims nothing more, and waits for the shards it started."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._shards.shutdown(wait=True)

    def message_came(self) -> None:
        """The broker works: leave the queue's order to it and look only now and then."""
        self._last_message = self._now()

    def poll(self) -> int:
        """Claims as many shards as there are idle slots and starts them. Returns how many."""
        idle = self._slots.take_idle()
        if idle == 0:
            return 0
        claimed: list[Lease] = []
        claimed_at = self._now()
        try:
            claimed = shards.claim_any(self._store, self._worker, limit=idle, lease_seconds=self._lease_seconds)
            if self._failing:
                log.info("the store answers again")
            self._failing = False
        except Exception as error:  # the poller is what keeps a worker alive without a broker: it must not end
            if not self._failing:
                log.warning("could not look for shards: %s at %s; trying again", type(error).__name__, place_of(error))
            self._failing = True
        self._slots.give(idle - len(claimed))
        metrics.claims.labels("poll", "won").inc(len(claimed))
        for lease in claimed:
            self._shards.submit(self._work, lease, claimed_at)
        return len(claimed)

    def _work(self, lease: Lease, claimed_at: float) -> None:
        try:
            self._run_shard(lease, claimed_at)
        finally:
            self._slots.give()
            if self._now() - self._last_message >= self._poll_seconds:
                self._wake.set()

    def _loop(self) -> None:
        while not self._closing.is_set():
            self.poll()
            self._wake.wait(self._poll_seconds)
            self._wake.clear()
