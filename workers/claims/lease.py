"""The leases of this process: one thread renews them all, and each knows by itself when to stop.

A shard's thread holds its lease through :class:`Held`, which is the stop event it hands to the model. The event is set by what the store
says at a renewal (lost, cancelled), by a drain, or by the clock: a lease that could not be renewed ends itself before the store would
give the shard to another worker. The clock is read where the event is read, so a keeper that hangs in a dead connection changes nothing.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from db.actors import Lease
from db.connect import Store
from db.queue import shards
from workers.batches.ticket import Ticket
from workers.loop_guard import on_duty

RETRY_SECONDS: Final = 1.0  # after a renewal that failed: a restart of Postgres takes about as long

log = logging.getLogger("textmill.lease")


class Held(threading.Event):
    """One lease, as its shard's thread sees it, and its ticket: set means stop calling the model. ``ended``: lost, cancelled, drained.

    ``paused``: begin nothing more, but finish and write what has begun.
    """

    def __init__(self, lease: Lease, fence_at: float, clock: Callable[[], float]) -> None:
        super().__init__()
        self.lease = lease
        self.ticket = Ticket(self, lease.tenant_id, lease.job_id.bytes, lease.interactive)
        self.ended: str | None = None
        self.paused = False
        self._fence_at = fence_at
        self._clock = clock

    def is_set(self) -> bool:
        if not super().is_set() and self._clock() >= self._fence_at:
            self.end("lost")
        return super().is_set()

    def end(self, why: str) -> None:
        self.ended = self.ended or why
        self.set()

    def renewed(self, fence_at: float) -> None:
        self._fence_at = fence_at


class LeaseKeeper:
    """Renews the leases of this process every ``heartbeat_seconds``, all in one statement, on a connection of its own.

    Parameters
    ----------
    store: a Store that nothing else uses (a pool of one), so that a busy pool never delays a renewal.
    lease_seconds, margin_seconds: a lease is taken for lost ``margin_seconds`` before it ends.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease_seconds: float,
        heartbeat_seconds: float,
        margin_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._lease_seconds = lease_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._margin_seconds = margin_seconds
        self._clock = clock
        self._held: dict[UUID, Held] = {}
        self._lock = threading.Lock()  # guards _held
        self._closing = threading.Event()
        self._failing = False
        self._thread = on_duty(self._keep, "lease-keeper")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._closing.set()
        self._thread.join()

    def now(self) -> float:
        """The keeper's clock: take it *before* the claim, and hand it to :meth:`hold`."""
        return self._clock()

    def hold(self, lease: Lease, claimed_at: float) -> Held:
        """Starts to renew a lease that was claimed no earlier than ``claimed_at``."""
        held = Held(lease, claimed_at + self._lease_seconds - self._margin_seconds, self._clock)
        with self._lock:
            self._held[lease.shard_id] = held
        return held

    def drop(self, held: Held) -> None:
        with self._lock:
            if self._held.get(held.lease.shard_id) is held:
                del self._held[held.lease.shard_id]

    def count(self) -> int:
        """How many shards this process holds."""
        with self._lock:
            return len(self._held)

    def stop_all(self, why: str) -> None:
        """Tells every shard in flight to stop before its next batch: the drain has taken too long."""
        with self._lock:
            held = list(self._held.values())
        for one in held:
            one.end(why)

    def renew_once(self) -> bool:
        """One heartbeat. False where the store could not be asked; nothing is known then, and the clock decides."""
        with self._lock:
            live = [held for held in self._held.values() if not held.is_set()]
        if not live:
            return True
        asked_at = self._clock()  # the store's lease starts later than this: the fence is on the safe side
        try:
            verdicts = shards.renew(self._store, [held.lease for held in live], lease_seconds=self._lease_seconds)
        except Exception as error:  # a keeper that dies loses every lease
            if not self._failing:
                log.warning("could not renew %d lease(s) (%s); trying again", len(live), type(error).__name__)
            self._failing = True
            return False
        if self._failing:
            log.info("leases are renewed again")
        self._failing = False
        for held in live:
            verdict = verdicts.get(held.lease.shard_id, "lost")
            if verdict in {"held", "paused"}:
                held.paused = verdict == "paused"
                held.renewed(asked_at + self._lease_seconds - self._margin_seconds)
            else:
                held.end(verdict)
        return True

    def _keep(self) -> None:
        pause = self._heartbeat_seconds
        while not self._closing.wait(pause):
            pause = self._heartbeat_seconds if self.renew_once() else min(RETRY_SECONDS, self._heartbeat_seconds)
