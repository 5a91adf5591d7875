"""Uploads in flight: how many there may be, and how they end when the server does."""

import threading
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from api.errors import Refused

CLOSE_SECONDS: Final = 5.0  # to remove what was uploaded by halves; what is not done by then is purged by the reconciler
T = TypeVar("T")


class UploadSlots:
    """One thread an upload, for as long as its body comes. ``idle_seconds``: how long a sender may stand still.

    Made and closed on the event loop.
    """

    def __init__(self, most: int, idle_seconds: float) -> None:
        self._limiter = anyio.CapacityLimiter(most)
        self._idle_seconds = idle_seconds
        self._waiting: set[anyio.CancelScope] = set()
        self._closing = False
        self._running = 0
        self._lock = threading.Lock()

    @property
    def in_flight(self) -> int:
        return self._running

    async def run(self, upload: Callable[[], T]) -> T:
        """Raises Refused where all slots are taken."""
        if self._closing or self._limiter.available_tokens < 1:
            raise Refused("too_many_uploads", "Too many uploads are running. Try again in a moment.", status=429, retry_after=2)
        return await anyio.to_thread.run_sync(self._counted, upload, limiter=self._limiter)

    async def next_chunk(self, body: AsyncIterator[bytes]) -> bytes:
        """The next bytes of a body that are not none; empty at its end. Raises Refused where they do not come."""
        chunk = b""
        with anyio.CancelScope(deadline=anyio.current_time() + self._idle_seconds) as scope:
            self._waiting.add(scope)
            try:
                while not self._closing:
                    chunk = await anext(body)
                    if chunk:
                        return chunk
            except StopAsyncIteration:
                return chunk
            finally:
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
