"""A TCP proxy that breaks what it carries, between one process and its Postgres or its broker.

It listens on 127.0.0.1 and passes on to a port or a Unix socket, in a thread of its own. What is held back goes on after `heal`, as a
network sends again what it lost; what must never come back is a `cut`. The proxy's own kernel acknowledges everything, so keepalives and
TCP_USER_TIMEOUT notice nothing: who depends on it must help himself.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from sqlalchemy import URL, make_url

Way = Literal["up", "down"]  # from client to server, and back
T = TypeVar("T")
Target = Path | int  # a Unix socket, or a port on 127.0.0.1

HOST: Final = "127.0.0.1"
READ_BYTES: Final = 1 << 16
PROTOCOL_3: Final = 3  # the major version in a start-up message; what is asked before (TLS, GSS, cancel) has 1234 there
RESULTS: Final = b"staged_results"  # stands in what a transaction that stores results says


class Side(StrEnum):
    """Where a transaction that stores results is cut."""

    ROWS = "rows"  # in the midst of the rows
    BEFORE = "before"  # the server never sees the COMMIT
    AFTER = "after"  # the server has committed, and the client never hears of it


class Wire:
    """What a client says to Postgres, cut into its messages.

    https://www.postgresql.org/docs/18/protocol-message-formats.html: a type byte and a length; at the start a length only.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete by now, each whole."""
        self._rest += data
        while True:
            head = 1 if self._started else 0
            size = head + int.from_bytes(self._rest[head : head + 4], "big")
            if len(self._rest) < head + 4 or len(self._rest) < size:
                return
            message, self._rest = self._rest[:size], self._rest[size:]
            self._started = self._started or int.from_bytes(message[4:6], "big") == PROTOCOL_3
            yield message


def says(message: bytes, what: bytes) -> bool:
    """Whether a simple query is exactly this."""
    return message[:1] == b"Q" and message[5:].rstrip(b"\0;").upper() == what


@dataclass(eq=False)
class Link:
    """One connection, with both its ends."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    wire: Wire = field(default_factory=Wire)
    stores_results: bool = False  # the transaction under way
    answer_is_lost: bool = False  # the server's next word is its answer to a COMMIT that nobody hears

    def reset(self) -> None:
        for writer in (self.client, self.server):
            reset(writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with RST, and without a word."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    """``url`` is what its client is told instead of the server's. A context manager: nothing of it is left afterwards."""

    def __init__(self, target: Target, address: URL) -> None:
        self.target = target
        self.accepted = 0  # connections so far
        self.commits_cut = 0
        self._address = address
        self._refusing = False
        self._commit_cut: Side | None = None
        self._latency_seconds = 0.0
        self._bytes_per_second = float("inf")
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    @classmethod
    def of_postgres(cls, address: str) -> Self:
        """``address``: as TEXTMILL_DATABASE_URL has it, of the embedded server."""
        url = make_url(address)
        folder = url.query["host"]
        assert isinstance(folder, str)
        return cls(Path(folder) / ".s.PGSQL.5432", url.set(host=HOST, query={}))

    @classmethod
    def of_broker(cls, address: str) -> Self:
        url = make_url(address)
        assert url.port is not None
        return cls(url.port, url)

    @property
    def url(self) -> str:
        return self._address.set(port=self.port).render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server, self._open = self._do(self._listen())
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What can go wrong. Each holds for what is connected and for what comes later, until `heal`.

    def heal(self) -> None:
        self._latency_seconds, self._bytes_per_second = 0.0, float("inf")
        self._refusing = False
        self._now(lambda: self._set_gates(("up", "down"), is_open=True))

    def cut(self) -> None:
        """Every connection is reset, and so is each new one."""
        self._refusing = True
        self.reset_all()

    def reset_all(self) -> None:
        """Once: who connects again is served."""
        self._now(self._reset_links)

    def hold(self, *ways: Way) -> None:
        """Connections stay and are made, and nothing passes (that way)."""
        self._now(lambda: self._set_gates(ways or ("up", "down"), is_open=False))

    def slow_down(self, *, latency_seconds: float = 0.0, bytes_per_second: float = float("inf")) -> None:
        self._latency_seconds, self._bytes_per_second = latency_seconds, bytes_per_second

    def cut_next_commit(self, side: Side) -> None:
        """The connection that next stores results is reset at its COMMIT, or on the way to it, once."""
        self._commit_cut = side

    @property
    def waits_for_commit(self) -> bool:
        return self._commit_cut is not None

    # The loop's side

    async def _listen(self) -> tuple[asyncio.Server, dict[Way, asyncio.Event]]:
        gates: dict[Way, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        for gate in gates.values():
            gate.set()
        return await asyncio.start_server(self._accept, HOST, 0), gates

    async def _close(self) -> None:
        self._server.close()
        self._reset_links()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refusing:
            reset(writer)
            return
        try:
            if isinstance(self.target, Path):
                from_server, to_server = await asyncio.open_unix_connection(self.target)
            else:
                from_server, to_server = await asyncio.open_connection(HOST, self.target)
        except OSError:
            reset(writer)
            return
        link = Link(writer, to_server)
        self._links.add(link)
        ways = {
            asyncio.ensure_future(self._carry(link, "up", reader, to_server)),
            asyncio.ensure_future(self._carry(link, "down", from_server, writer)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            for task in ways:
                task.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, to_server):
                end.close()

    async def _carry(self, link: Link, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gate = self._open[way]
        with suppress(OSError):
            while True:
                await gate.wait()
                data = await reader.read(READ_BYTES)
                if not data:
                    return
                await asyncio.sleep(self._latency_seconds + len(data) / self._bytes_per_second)
                await gate.wait()
                if link.answer_is_lost and way == "down":
                    link.reset()
                    return
                if way == "down" or not isinstance(self.target, Path):
                    writer.write(data)
                elif not self._pass_on(link, data):
                    link.reset()
                    return
                await writer.drain()

    def _pass_on(self, link: Link, data: bytes) -> bool:
        """False where the connection is to be cut: the message at which it is does not reach the server."""
        for message in link.wire.feed(data):
            kind = message[:1]
            if kind in b"QP" and RESULTS in message:
                link.stores_results = True
            elif link.stores_results and kind == b"d" and self._takes(Side.ROWS):
                return False
            elif link.stores_results and says(message, b"COMMIT"):
                link.stores_results = False
                if self._takes(Side.BEFORE):
                    return False
                link.answer_is_lost = self._takes(Side.AFTER)
            elif says(message, b"ROLLBACK"):
                link.stores_results = False
            link.server.write(message)
        return True

    def _takes(self, side: Side) -> bool:
        """Whether this is the cut that was asked for; it is done once."""
        if self._commit_cut is not side:
            return False
        self._commit_cut = None
        self.commits_cut += 1
        return True

    def _set_gates(self, ways: Sequence[Way], *, is_open: bool) -> None:
        for way in ways:
            gate = self._open[way]
            gate.set() if is_open else gate.clear()

    def _reset_links(self) -> None:
        for link in tuple(self._links):
            link.reset()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _now(self, act: Callable[[], object]) -> None:
        async def acting() -> None:
            act()

        self._do(acting())
