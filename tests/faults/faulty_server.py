"""A server of OpenAI's API that answers f(text), and fails as it is told: refuses, hangs, resets, talks nonsense, dies and comes back.

Written over bare sockets, because what it must do no library does. ``behave(asked)`` names what happens to each request; None: an answer.
"""

import asyncio
import contextlib
import json
import os
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from workers.engines.fake import digest_of, expected_text, vectors_of

MODEL: Final = "faulty-model"
FINGERPRINT: Final = "fp_test"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """The ``number``-th request, from 1; ``texts`` of it: the last message, the prompt, or the inputs."""

    number: int
    path: str
    texts: list[str]
    fields: dict[str, Any]
    headers: dict[str, str]


Behave = Callable[[Asked], str | None]


class _Ended(Exception):
    """The connection is over."""


@dataclass
class FaultyServer:
    """``log``: gets a line a request that is answered, as the fake engine's. ``latency_seconds``: of an answer. ``asked``: what came."""

    behave: Behave = lambda _asked: None
    tls: ssl.SSLContext | None = None
    log: Path | None = None
    latency_seconds: float = 0.0
    labels: tuple[str, ...] = ("no", "yes")
    asked: list[Asked] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    most_under_way: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self._under_way = 0
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def under_way(self) -> int:
        return self._under_way

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "FaultyServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def start(self) -> None:
        """On the port it had before, if any."""
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls))
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Dies: what is under way is reset."""
        self._run(self._die())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _die(self) -> None:
        self._server.close()
        for task, writer in list(self._connections.items()):
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._reply(head[0].split()[1], headers, body, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ssl.SSLError, _Ended):
            pass
        finally:
            del self._connections[task]
            writer.transport.abort()

    async def _reply(self, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter) -> None:
        if not body:
            return await _send(writer, 200, {"data": [{"id": MODEL}]})
        fields = json.loads(body)
        asked = Asked(len(self.asked) + 1, path, _texts(fields), fields, headers)
        self.asked.append(asked)
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            if (fault := self.behave(asked)) is not None:
                self.faults[fault] += 1
                return await FAULTS[fault](writer)
            if self.latency_seconds:
                await asyncio.sleep(self.latency_seconds)
            if self.log is not None:
                with self.log.open("a") as log:
                    log.write(f"{time.time():.6f} {os.getpid()} {' '.join(map(digest_of, asked.texts))}\n")
            await _send(writer, 200, self._answer(asked))
        finally:
            self._under_way -= 1

    def _answer(self, asked: Asked) -> dict[str, Any]:
        about = {"model": MODEL, "system_fingerprint": FINGERPRINT}
        if asked.path.endswith("/embeddings"):
            vectors = vectors_of([text.encode() for text in asked.texts]).tolist()
            return {**about, "data": [{"index": at, "embedding": one} for at, one in enumerate(vectors)][::-1]}
        if asked.path == "/classify":
            sure = [0.9 if "yes" in text else 0.2 for text in asked.texts]
            return {**about, "data": [{"index": at, "label": "?", "probs": [1 - one, one]} for at, one in enumerate(sure)]}
        text = expected_text(asked.texts[0], asked.fields["max_tokens"])
        usage = {"prompt_tokens": len(asked.texts[0].split()), "completion_tokens": len(text.split())}
        said = {"message": {"role": "assistant", "content": text}} if asked.path.endswith("/chat/completions") else {"text": text}
        return {**about, "choices": [{"index": 0, "finish_reason": "stop", **said}], "usage": usage}


def _texts(fields: dict[str, Any]) -> list[str]:
    if "messages" in fields:
        return [fields["messages"][-1]["content"]]
    return list(fields["input"]) if "input" in fields else [fields["prompt"]]


async def _send(writer: asyncio.StreamWriter, status: int, body: object, *extra: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (f"HTTP/1.1 {status} X", f"content-length: {len(data)}", *extra, "", "")
    writer.write("\r\n".join(lines).encode() + data)
    await writer.drain()


async def _hang(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        await asyncio.sleep(0.05)
    raise _Ended


async def _reset(writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"choices": [{"mess')
    await writer.drain()
    writer.transport.abort()
    raise _Ended


async def _drop(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    raise _Ended


def _goes_on(head: bytes, piece: bytes, pause_seconds: float) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """An answer that has no end."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_seconds)
        raise _Ended

    return send


def _status(status: int, body: object, *extra: str) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    return lambda writer: _send(writer, status, body, *extra)


_TOO_LONG: Final = {"error": {"message": "This model's maximum context length is 8 tokens.", "code": "context_length_exceeded"}}
FAULTS: Final[dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]]]] = {
    "429": _status(429, {"error": "slow down"}),
    "429-after": _status(429, b"", "retry-after: 0.2"),
    "429-long": _status(429, b"", "retry-after: 3600"),
    "500": _status(500, {"error": "CUDA error"}),
    "503": _status(503, b"upstream"),
    "401": _status(401, {"error": "no such key"}),
    "404": _status(404, {"error": "no such model"}),
    "400": _status(400, {"error": {"message": "I do not like this row.", "type": "invalid_request_error", "code": "a word of mine"}}),
    "too-long": _status(400, _TOO_LONG),
    "redirect": _status(307, b"", "location: http://127.0.0.1:9/v1/chat/completions"),
    "hang": _hang,
    "reset": _reset,
    "drop": _drop,
    "empty": _status(200, b""),
    "nonsense": _status(200, b"<html>Welcome to nginx</html>"),
    "no-choices": _status(200, {"choices": [], "usage": {}}),
    "no-ending": _status(200, {"choices": [{"message": {"content": "half a"}, "finish_reason": None}]}),
    "compressed": _status(200, b"\x1f\x8b", "content-encoding: gzip"),
    "stream": _goes_on(b"content-type: text/event-stream\r\ntransfer-encoding: chunked", b'1a\r\ndata: {"choices": [{}]}\n\n\r\n', 0.02),
    "endless": _goes_on(b"content-length: 1000000000", b" " * (1 << 20), 0),
    "drip": _goes_on(b"content-length: 1000000", b" ", 0.02),  # no silence is ever long
}
