"""One server over HTTP: a body of JSON to a path of its, and what comes back, within bounds of size and time. The only file that speaks
HTTP.

TLS is verified, redirects are not followed, no proxy or password is taken from the environment, and nothing is sent anywhere but to the
address of the operator's file. An answer is read as it comes and given up where it is longer than it may be. Neither bodies nor the key are
logged, nor do they stand in any error.
"""

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import time
from typing import Final, Literal
from urllib.parse import urlsplit

import httpx

from db.errors import TextmillError
from db.private_files import read_private
from workers.models.server_entry import ServerEntry

MOST_BYTES: Final = 32 << 20  # of an answer: the vectors of a request, or a long text with its logprobs
CONNECT_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 30.0  # that a connection stays open; less than most servers keep one
MOST_KEY_CHARS: Final = 4_096

BUSY: Final = frozenset({429, 503, 529})
# What says that the operator's entry is wrong, or the server's set-up: no row is to blame.
MISDIRECTED: Final = frozenset({401, 402, 403, 404, 405, 407, 408, 421, 425, 426})

logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request


class Busy(Exception):
    """The server has too much, or is not ready. ``seconds``: after which it wants to be asked again, where it says so."""

    def __init__(self, status: int, seconds: float | None) -> None:
        super().__init__()
        self.status = status
        self.seconds = seconds


class Refused(Exception):
    """The server does not do what this request asks. ``reply`` is its answer, which may quote the request."""

    def __init__(self, status: int, reply: bytes) -> None:
        super().__init__()
        self.status = status
        self.reply = reply


_TOLD: Final = {
    "unreachable": "nothing answers at its address",
    "certificate": "its certificate is not one that is trusted: look at `url` and `ca_file`",
    "misdirected": "it does not take what it is asked: look at `url`, `model` and the key",
    "lost": "connections to it end in the midst of an answer",
    "slow": "its answers take too long",
    "failed": "it fails",
    "nonsense": "what it answers is no answer",
}

Why = Literal["unreachable", "certificate", "misdirected", "lost", "slow", "failed", "nonsense"]


class Trouble(Exception):
    """No answer. ``why``: it was not reached, or not as itself (``unreachable``, ``certificate``); the entry or the set-up is wrong
    (``misdirected``); the connection ended, or time ran out, with the request under way (``lost``, ``slow``); the server failed on it
    (``failed``) or answered what is no answer (``nonsense``). ``status``: of the reply, if there was one."""

    def __init__(self, why: Why, status: int | None = None) -> None:
        super().__init__()
        self.why: Why = why
        self.status = status

    @property
    def told(self) -> str:
        """For the operator."""
        return _TOLD[self.why] + (f" (status {self.status})" if self.status is not None else "")


@dataclass(frozen=True, slots=True)
class Wire:
    """Used on one event loop, where `close` must be awaited at the end."""

    client: httpx.AsyncClient
    base: str

    @classmethod
    def open(cls, entry: ServerEntry, url: str) -> "Wire":
        """Raises TextmillError where the key or the authorities cannot be read."""
        parts = urlsplit(url)
        over_socket = parts.scheme == "unix"
        context = _context(entry) if parts.scheme == "https" else ssl.create_default_context()
        transport = httpx.AsyncHTTPTransport(
            verify=context,
            uds=parts.path if over_socket else None,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=IDLE_SECONDS),
        )
        # Of a compressed answer the length on the wire would bound nothing.
        headers = {"accept-encoding": "identity", "user-agent": "textmill"}
        if (key := _key(entry)) is not None:
            headers["authorization"] = f"Bearer {key}"
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        client = httpx.AsyncClient(transport=transport, headers=headers, timeout=timeout, follow_redirects=False, trust_env=False)
        return cls(client, "http://localhost/v1" if over_socket else url.rstrip("/"))

    async def post(self, path: str, body: bytes, *, seconds: float) -> bytes:
        """The body of a reply of 200. ``path``: behind the address, or from the server's root where it begins with two slashes. Raises
        Busy, Refused, Trouble."""
        return await self._ask("POST", path, body, seconds)

    async def lives(self, seconds: float) -> bool:
        """Whether it answers anything at all."""
        try:
            await self._ask("GET", "/models", None, seconds)
        except (Busy, Refused):
            return True
        except Trouble as trouble:
            return trouble.status is not None
        return True

    async def close(self) -> None:
        await self.client.aclose()

    async def _ask(self, method: str, path: str, body: bytes | None, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(method, self._place(path), body)
        except TimeoutError:
            raise Trouble("slow") from None
        except httpx.ConnectTimeout:
            raise Trouble("unreachable") from None
        except httpx.ConnectError as error:
            raise Trouble("certificate" if _is_about_tls(error) else "unreachable") from None
        except (httpx.HTTPError, OSError):
            raise Trouble("lost") from None

    def _place(self, path: str) -> str:
        if not path.startswith("//"):
            return self.base + path
        parts = urlsplit(self.base)
        return f"{parts.scheme}://{parts.netloc}{path[1:]}"

    async def _exchange(self, method: str, url: str, body: bytes | None) -> bytes:
        headers = {"content-type": "application/json"} if body is not None else {}
        async with self.client.stream(method, url, content=body, headers=headers) as reply:
            status = reply.status_code
            if status in BUSY:
                raise Busy(status, seconds_of(reply.headers.get("retry-after")))
            if status in MISDIRECTED or 300 <= status < 400:
                raise Trouble("misdirected", status)
            if status >= 500:
                raise Trouble("failed", status)
            if reply.headers.get("content-encoding", "identity") != "identity":
                raise Trouble("nonsense", status)
            if status == 200 and reply.headers.get("content-type", "").startswith("text/event-stream"):
                raise Trouble("nonsense", status)
            answer = await _read(reply)
            if 400 <= status < 500:
                raise Refused(status, answer)
            if status != 200:
                raise Trouble("nonsense", status)
            return answer


def why_not(entry: ServerEntry, seconds: float) -> str | None:
    """Why a server is of no use at the moment, by what it says when its list of models is asked for, which not every server has. Raises
    TextmillError where the key or the authorities cannot be read."""

    async def ask() -> str | None:
        wire = Wire.open(entry, entry.url)
        try:
            await wire._ask("GET", "/models", None, seconds)
        except (Busy, Refused):
            return None
        except Trouble as trouble:
            return trouble.told if trouble.status in {None, 401, 403} else None
        finally:
            await wire.close()
        return None

    return asyncio.run(ask())


async def _read(reply: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    async for part in reply.aiter_raw():
        size_bytes += len(part)
        if size_bytes > MOST_BYTES:
            raise Trouble("nonsense", reply.status_code)
        parts.append(part)
    return b"".join(parts)


def seconds_of(retry_after: str | None) -> float | None:
    """RFC 9110: a number of seconds, or a date. None for anything else."""
    if retry_after is None:
        return None
    if retry_after.strip().replace(".", "", 1).isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def _is_about_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _context(entry: ServerEntry) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=entry.ca_file or None)
    except (OSError, ssl.SSLError):
        raise TextmillError(f"{entry.id}: `ca_file` cannot be read, or holds no certificate.", code="model_broken") from None


def _key(entry: ServerEntry) -> str | None:
    if entry.key_variable:
        key: str | None = os.environ.get(entry.key_variable)
    elif entry.key_file:
        try:
            key = read_private(Path(entry.key_file).expanduser())
        except OSError:
            key = None
    else:
        return None
    key = (key or "").strip()
    if not key or len(key) > MOST_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise TextmillError(f"{entry.id}: its key is not there, or is none: look at `key_file` or `key_variable`.", code="model_broken")
    return key
