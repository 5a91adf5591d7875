"""Uploads in flight: how many there may be, of a tenant and in all, how slow one may be, and how they end when the server does."""

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

import anyio
import anyio.to_thread

from api.errors import Refused

CLOSE_SECONDS: Final = 5.0  # to remove what was uploaded by halves; what is not done by then is purged by the reconciler
LEAST_RATE: Final = 128  # bytes a second that was waited for; a byte a minute would hold a slot for ever
T = TypeVar("T")


@dataclass(slots=True)
class Incoming:
    """A body on its way: how many bytes came, and how many seconds were waited for them."""

    stream: AsyncIterator[bytes]
    size_bytes: int = 0
    waited_seconds: float = 0.0

    def patience(self, idle_seconds: float) -> float:
        """How long the next bytes are waited for. What a slow store holds back counts as nobody's waiting."""
        return min(idle_seconds, idle_seconds + self.size_bytes / LEAST_RATE - self.waited_seconds)


class UploadSlots:
    """One thread an upload, for as long as its body comes. ``most``, and ``most_of_tenant``: at once. ``idle_seconds``: how long a sender
    may stand still.

    Made and closed on the event loop.
    """

    def __init__(self, most: int, most_of_tenant: int, idle_seconds: float) -> None:
        self._limiter = anyio.CapacityLimiter(most)
        self._most_of_tenant = most_of_tenant
        self._of_tenant: Counter[UUID] = Counter()
        self._idle_seconds = idle_seconds
        self._waiting: set[anyio.CancelScope] = set()
        self._closing = False
        self._running = 0
        self._lock = threading.Lock()

    @property
    def in_flight(self) -> int:
        return self._running

    async def run(self, tenant_id: UUID, upload: Callable[[], T]) -> T:
        """Raises Refused where all slots are taken, or all that a tenant may have."""
        if self._closing or self._limiter.available_tokens < 1 or self._of_tenant[tenant_id] >= self._most_of_tenant:
            raise Refused("too_many_uploads", "Too many uploads are running. Try again in a moment.", status=429, retry_after=2)
        self._of_tenant[tenant_id] += 1
        try:
            return await anyio.to_thread.run_sync(self._counted, upload, limiter=self._limiter)
        finally:
            self._of_tenant -= Counter([tenant_id])  # leaves out those that have none

    async def next_chunk(self, body: Incoming) -> bytes:
        """The next bytes of a body that are not none; empty at its end. Raises Refused where they do not come, or too slowly."""
        chunk, began = b"", anyio.current_time()
        with anyio.CancelScope(deadline=began + body.patience(self._idle_seconds)) as scope:
            self._waiting.add(scope)
            try:
                while not self._closing:
                    chunk = await anext(body.stream)
                    if chunk:
                        body.size_bytes += len(chunk)
                        return chunk
            except StopAsyncIteration:
                return chunk
            finally:
                body.waited_seconds += anyio.current_time() - began
                self._waiting.discard(scope)
        if self._closing:
            raise Refused("shutting_down", "The server is shutting down. Nothing was kept; send it again.", status=503, retry_after=5)
        raise Refused("upload_idle", "The upload stood still for too long. Nothing was kept; send it again.", status=408)

    async def close(self) -> None:
        """Ends the uploads whose sender is waited for, and gives them a moment to remove what they have written."""
        self._closing = True
        for scope in tuple(self._waiting):
            scope.cancel()
        with anyio.move_on_after(CLOSE_SECONDS):
            while self._running:
                await anyio.sleep(0.02)

    def _counted(self, upload: Callable[[], T]) -> T:
        with self._lock:
            self._running += 1
        try:
            return upload()
        finally:
            with self._lock:
                self._running -= 1
