"""The poller: claims ready shards when slots are idle, so that messages may be lost and Redis may be away.

It looks every few seconds. While no message has come for that long, it looks again as soon as a slot is free: then it is the only source
of work, and the device should not wait.

For interactive shards and for newcomers it looks several times a second, whenever a slot that is kept for them is free. Their messages
stand behind those of bulk in the broker, and a message thread that is busy takes none; so this look, and not the message, is what they can
rely on.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from db.actors import Lease
from db.connect import Store
from db.queue import shards
from db.queue.shards import Kept
from workers import metrics
from workers.claims.slots import Slots
from workers.logs import place_of
from workers.loop_guard import Guard, on_duty

KEPT_POLL_SECONDS: Final = 0.25  # a look costs the store a millisecond or two, with 150 tenants at work as well

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
        self._shards = ThreadPoolExecutor(slots.in_all, thread_name_prefix="polled-shard")
        self._thread = on_duty(self._loop, "poller")

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
        return self._claim(self._slots.take_idle(), self._slots.give, only=None)

    def poll_kept(self, kept: Kept) -> int:
        """The same for such shards and the slots that are kept for them."""
        return self._claim(self._slots.take_kept(kept), partial(self._slots.give_kept, kept), only=kept)

    def _claim(self, idle: int, give: Callable[[int], None], *, only: Kept | None) -> int:
        if idle == 0:
            return 0
        claimed: list[Lease] = []
        claimed_at = self._now()
        try:
            claimed = shards.claim_any(self._store, self._worker, limit=idle, lease_seconds=self._lease_seconds, only=only)
            if self._failing:
                log.info("the store answers again")
            self._failing = False
        except Exception as error:  # the poller is what keeps a worker alive without a broker: it must not end
            if not self._failing:
                log.warning("could not look for shards: %s at %s; trying again", type(error).__name__, place_of(error))
            self._failing = True
        give(idle - len(claimed))
        metrics.claims.labels("poll", "won").inc(len(claimed))
        return sum(self._start(lease, claimed_at, give) for lease in claimed)

    def _start(self, lease: Lease, claimed_at: float, give: Callable[[int], None]) -> bool:
        ticket = [lease]
        try:
            self._shards.submit(self._work, ticket, claimed_at, give)
        except Exception as error:  # no thread could be started, and yet the call may be in the queue of those there are
            if _taken(ticket) is None:
                return True
            log.error("could not start a shard: %s at %s; it is given back", type(error).__name__, place_of(error))
            give(1)
            self._give_back(lease)
            return False
        return True

    def _give_back(self, lease: Lease) -> None:
        try:
            shards.release(self._store, lease, code=None, kind="drain")
        except Exception as error:  # the lease runs out by itself
            log.warning("shard %s: could not be given back (%s)", lease.shard_id, type(error).__name__)

    def _work(self, ticket: list[Lease], claimed_at: float, give: Callable[[int], None]) -> None:
        lease = _taken(ticket)
        if lease is None:
            return
        try:
            self._run_shard(lease, claimed_at)
        finally:
            give(1)
            if self._now() - self._last_message >= self._poll_seconds:
                self._wake.set()

    def _loop(self) -> None:
        next_poll = self._now()
        guard = Guard(log, "the poller")
        while not self._closing.is_set():
            with guard:
                if self._wake.is_set() or self._now() >= next_poll:
                    self._wake.clear()
                    next_poll = self._now() + self._poll_seconds
                    self.poll()
                    next_poll = self._now() + self._poll_seconds
                for kept in self._slots.kept:
                    if not self._failing:  # a store that is away is asked no oftener than it was
                        self.poll_kept(kept)
            self._wake.wait(min(KEPT_POLL_SECONDS, self._poll_seconds) if self._slots.kept else self._poll_seconds)


def _taken(ticket: list[Lease]) -> Lease | None:
    """The lease of a ticket, to whoever comes first."""
    try:
        return ticket.pop()
    except IndexError:
        return None
