"""Connections that bring no request in time are ended: one that is silent, or sends half a header, would live for ever.

uvicorn ends a connection that is idle between two requests, and nothing before the first one or in the middle of a header. What comes
behind a header has deadlines of its own (:mod:`api.requests.json_body`, :mod:`api.requests.upload_slots`).
"""

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS: Final = 20.0
MAX_CONNECTIONS: Final = 800  # of a process, whose open files are 1,024 where nobody raised that


class Punctual(H11Protocol):
    """HTTP/1.1 whose requests come within ``HEADER_SECONDS``; a connection more than ``MAX_CONNECTIONS`` is closed at once."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_watching()

    def _watch(self) -> None:
        """The deadline is of the whole header: more bytes of it do not put it off."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
