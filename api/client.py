"""A client of textmill's own HTTP API, for the command line, the demo and the benchmark.

What enters: an address, an API key, a file to stream. What leaves: batches and files as typed objects, everything else as plain JSON
objects, and results line by line as they arrive. A refusal of the server becomes :class:`ApiError`; a server that cannot be reached,
or that stops in the middle of an answer, becomes :class:`Unreachable`. Neither holds anything the caller sent.

Calls that may be repeated (reads, deletes, creations under an Idempotency-Key) are tried again when the server is busy or starting; an
upload is not, because its source may be a pipe: only the connecting is.
"""

import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count
from types import TracebackType
from typing import IO, Any, Final, Protocol, Self, TypeVar, cast
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx
import msgspec

from api.wire import Batch, FileInfo, Forecast, Head, RowLine, Story
from db.errors import TextmillError
from db.files.table import Table

JsonObject = dict[str, object]
T = TypeVar("T")

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 60.0
UPLOAD_ANSWER_SECONDS: Final = 600.0  # after the last byte the server still marks duplicates over the whole file
CHUNK_BYTES: Final = 256 * 1024
ATTEMPTS: Final = 4
MAX_PAUSE_SECONDS: Final = 10.0
BUSY: Final = frozenset({429, 502, 503, 504})
PAGE: Final = 100


class ApiError(TextmillError):
    """The server answered and refused. ``message`` is the server's sentence; ``request_id`` finds the request in its log."""

    def __init__(self, code: str, message: str, *, status: int, request_id: str | None) -> None:
        super().__init__(message, code=code, status=status)
        self.request_id = request_id


class Unreachable(TextmillError):
    """No answer, or half of one."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="unreachable", status=503)


class Readable(Protocol):
    """Bytes until there are none."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send. ``size_bytes`` None means that it is not known (a pipe): the body goes out in chunks."""

    source: Readable
    name: str
    purpose: str
    fields: Mapping[str, str]
    size_bytes: int | None = None


class _Sending:
    """An upload's source as httpx reads a form's file: by pieces, and it asks at the end for the size. Without one the body is chunked."""

    def __init__(self, upload: Upload, on_sent: Callable[[int], None] | None) -> None:
        self._upload = upload
        self._on_sent = on_sent
        self._sent = 0

    def read(self, _size: int, /) -> bytes:
        if self._sent and self._on_sent is not None:  # whoever asks for more has sent what there was
            self._on_sent(self._sent)
        chunk = self._upload.source.read(CHUNK_BYTES)  # httpx asks for a quarter of it, which takes its CPU half as long again
        self._sent += len(chunk)
        return chunk

    def tell(self) -> int:
        return 0

    def seek(self, _offset: int, whence: int = os.SEEK_SET, /) -> int:
        if self._upload.size_bytes is None:
            raise io.UnsupportedOperation
        return self._upload.size_bytes if whence == os.SEEK_END else 0


class _Fault(msgspec.Struct):
    message: str | None = None
    code: str | None = None


class _FaultBody(msgspec.Struct):
    error: _Fault | None = None


class Client:
    """Talks to one server with one key. Not for several threads at once.

    Examples
    --------
    >>> with Client("http://127.0.0.1:8910", key) as client:  # doctest: +SKIP
    ...     batch = client.create_batch(file_id, "/v1/classifications", defaults={"labels": ["good", "bad"]})
    """

    def __init__(self, url: str, key: str, *, key_from: str = "", transport: httpx.BaseTransport | None = None) -> None:
        """``key_from``: where the key was found, for whoever is told that it is not good."""
        if not key.isascii() or not key.isprintable() or not key:
            raise ApiError("invalid_api_key", "The API key holds characters that no key has; copy it again.", status=401, request_id=None)
        self._key_from = key_from
        self._url = url.rstrip("/").removesuffix("/v1")  # as other clients have it in their base address
        self._http = httpx.Client(
            base_url=self._url,
            headers={"authorization": f"Bearer {key}", "user-agent": "textmill-cli"},
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            transport=transport or httpx.HTTPTransport(retries=2),
            trust_env=not is_loopback(url),  # a proxy of the environment cannot reach this machine's loopback
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def upload(self, upload: Upload, on_sent: Callable[[int], None] | None = None) -> FileInfo:
        """Streams the file; memory stays flat. ``on_sent`` gets the bytes of the file sent so far."""
        name = upload.name.encode(errors="replace").decode()  # of a file whose name is not UTF-8
        file = (name, cast(IO[bytes], _Sending(upload, on_sent)), "application/octet-stream")
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, read=UPLOAD_ANSWER_SECONDS)
        try:
            response = self._http.post(
                "/v1/files", data={"purpose": upload.purpose, **upload.fields}, files={"file": file}, timeout=timeout
            )
        except httpx.LocalProtocolError:
            raise Unreachable("The file changed while it was being read; send it again.") from None
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        return _decode(self._checked(response), FileInfo)

    def check_batch(
        self,
        endpoint: str,
        *,
        defaults: Mapping[str, object] | None = None,
        window: str = "24h",
        priority: int | str = 0,
        metadata: Mapping[str, str] | None = None,
        content: Mapping[str, object] | None = None,
    ) -> None:
        """Raises what :meth:`create_batch` would, of what is known before a file is sent."""
        self._check("/v1/batches", _plan(endpoint, defaults, window, priority, metadata, content))

    def forecast_batch(self, endpoint: str, rows: int, characters: int, **plan: Any) -> Forecast:
        """What :meth:`create_batch` would take, of a file of this size. Raises what it would."""
        asked = _plan(endpoint, *(plan.get(name) for name in ("defaults", "window", "priority", "metadata", "content")))  # type: ignore[arg-type]
        told = self.post("/v1/batches/check", {**asked, "size": {"rows": rows, "characters": characters}})
        if "forecast" not in told:
            raise ApiError("no_forecast", "This server is older than its forecasts.", status=404, request_id=None)
        return msgspec.convert(told["forecast"], Forecast)

    def check_head(self, name: str, *, model: str | None = None) -> None:
        """The same of :meth:`train_head`."""
        self._check("/v1/heads", _training(name, model))

    def create_batch(
        self,
        file_id: str,
        endpoint: str,
        *,
        defaults: Mapping[str, object] | None = None,
        window: str = "24h",
        priority: int | str = 0,
        metadata: Mapping[str, str] | None = None,
        content: Mapping[str, object] | None = None,
    ) -> Batch:
        """``defaults`` are laid under every row's body: labels and the like need not be repeated in each. ``content``: fields of the batch
        that are the job's and no row's, such as ``checks``."""
        plan = _plan(endpoint, defaults, window, priority, metadata, content)
        return self._batch("POST", "/v1/batches", {"input_file_id": file_id, **plan})

    def train_head(self, name: str, file_id: str, *, model: str | None = None) -> Batch:
        return self._batch("POST", "/v1/heads", {"training_file": file_id, **_training(name, model)})

    def batch(self, batch_id: str) -> Batch:
        return self._batch("GET", f"/v1/batches/{segment(batch_id)}")

    def story(self, batch_id: str) -> Story:
        return _decode(self._send("GET", f"/v1/batches/{segment(batch_id)}/shards"), Story)

    def row(self, batch_id: str, row: str) -> RowLine:
        """What became of a row: of that with this id, or, where none has it, with this number."""
        path = f"/v1/batches/{segment(batch_id)}/rows"
        try:
            return msgspec.convert(self.post(path, {"custom_id": row}), RowLine)
        except ApiError as error:
            if error.status != 404 or not row.isdecimal():
                raise
        return _decode(self._send("GET", f"{path}/{int(row)}"), RowLine)

    def cancel(self, batch_id: str) -> Batch:
        return self._batch("POST", f"/v1/batches/{segment(batch_id)}/cancel")

    def pause(self, batch_id: str) -> Batch:
        return self._batch("POST", f"/v1/batches/{segment(batch_id)}/pause")

    def resume(self, batch_id: str) -> Batch:
        return self._batch("POST", f"/v1/batches/{segment(batch_id)}/resume")

    def retry(self, batch_id: str) -> Batch:
        """Its failed rows, and those that never ran, once more. Sent once: a second one would find a job that runs."""
        return msgspec.convert(self.post(f"/v1/batches/{segment(batch_id)}/retry", {}), Batch)

    def set_priority(self, batch_id: str, priority: int) -> Batch:
        return self._batch("POST", f"/v1/batches/{segment(batch_id)}/priority", {"priority": priority})

    def batches(self) -> Iterator[Batch]:
        """All jobs, newest first, page by page as they are asked for."""
        for one in self.pages("/v1/batches"):
            yield msgspec.convert(one, Batch)

    def files(self) -> Iterator[FileInfo]:
        for one in self.pages("/v1/files"):
            yield msgspec.convert(one, FileInfo)

    def heads(self) -> Iterator[Head]:
        for one in self.pages("/v1/heads"):
            yield msgspec.convert(one, Head)

    def head(self, name: str) -> Head:
        """With its versions; ``name`` may say which one."""
        return _decode(self._send("GET", f"/v1/heads/{segment(name)}"), Head)

    def columns(self, file_id: str) -> Table | None:
        """Those of a file that was uploaded as a table; None of any other, and of one that is gone."""
        try:
            told = _decode(self._send("GET", f"/v1/files/{segment(file_id)}/columns"), Table)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return told if told.names else None

    def lines(self, file_id: str, *, after: str | None = None, inputs: bool = False, unmask: bool = False) -> Iterator[bytes]:
        """The lines of a file's content without their ends, as they arrive. ``after``: of results, the id of the last one that is known.
        ``inputs``: of results, each with its row as it is kept; ``unmask``: with values in the place of the job's masks."""
        query = {} if after is None else {"after": after}
        if inputs:
            query["input"] = "true"
        if unmask:
            query["unmask"] = "true"
        yield from _split_lines(self._streamed(f"/v1/files/{segment(file_id)}/content", query))

    def table(
        self, batch_id: str, form: str = "jsonl", *, columns: Sequence[str] | None = None, inputs: bool = True, unmask: bool = False
    ) -> Iterator[bytes]:
        """The pieces of a job's table as they arrive: ``jsonl``, ``csv`` or ``parquet``. ``columns``: the names of those to give.
        ``inputs``: those of the file, too. ``unmask``: with the values that were masked."""
        query: dict[str, str | list[str]] = {"format": form, "input": "true" if inputs else "false"}
        query |= {} if columns is None else {"columns": list(columns)}
        query |= {"unmask": "true"} if unmask else {}
        yield from self._streamed(f"/v1/batches/{segment(batch_id)}/table", query)

    def _streamed(self, path: str, query: Mapping[str, str | list[str]]) -> Iterator[bytes]:
        try:
            with self._http.stream("GET", path, params=dict(query)) as response:
                if not response.is_success:
                    response.read()
                    self._checked(response)
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def pages(self, path: str, **parameters: str | int) -> Iterator[JsonObject]:
        """Items of a list, one page in memory at a time."""
        after: str | None = None
        while True:
            query: dict[str, str | int] = {"limit": PAGE, **parameters}
            if after is not None:
                query["after"] = after
            page = self.get(path, query)
            data = page.get("data")
            items = data if isinstance(data, list) else []
            yield from items
            last = page.get("last_id")
            if not page.get("has_more") or not items or not isinstance(last, str) or last == after:
                return
            after = last

    def get(self, path: str, query: Mapping[str, str | int] | None = None) -> JsonObject:
        return _object(self._send("GET", path, query=query))

    def post(self, path: str, request: JsonObject) -> JsonObject:
        return _object(self._send("POST", path, request=request, repeatable=False))

    def put(self, path: str, request: JsonObject) -> JsonObject:
        return _object(self._send("PUT", path, request=request))

    def delete(self, path: str, name: str) -> JsonObject:
        """``path`` is ours, ``name`` the caller's: it is quoted."""
        return _object(self._send("DELETE", f"{path}/{segment(name)}"))

    def _check(self, path: str, plan: JsonObject) -> None:
        try:
            self.post(f"{path}/check", plan)
        except ApiError as refusal:
            if refusal.status not in (404, 405):  # a server of before that has no such route says what is wrong later
                raise

    def _batch(self, method: str, path: str, request: JsonObject | None = None) -> Batch:
        return _decode(self._send(method, path, request=request), Batch)

    def _send(
        self,
        method: str,
        path: str,
        *,
        request: JsonObject | None = None,
        query: Mapping[str, str | int] | None = None,
        repeatable: bool = True,
    ) -> httpx.Response:
        headers = {}
        content = None
        if request is not None:
            headers["content-type"] = "application/json"
            content = msgspec.json.encode(request)
        if method == "POST":
            headers["idempotency-key"] = uuid4().hex
        # Not tenacity: it would save no line here, and every command would take 25 ms longer to start.
        for attempt in count():
            last = attempt == ATTEMPTS - 1
            pause_seconds = min(0.25 * 2**attempt, MAX_PAUSE_SECONDS)
            try:
                response = self._http.request(method, path, content=content, headers=headers, params=query)
            except httpx.HTTPError as error:
                # A refused connection was tried by the transport; what broke off may be a server that restarts, and may have been done.
                if last or not repeatable or isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol):
                    raise self._unreachable(error) from None
            else:
                if response.status_code not in BUSY or last:
                    return self._checked(response)
                pause_seconds = _retry_after(response, pause_seconds)
            time.sleep(pause_seconds)
        raise AssertionError  # count() does not end

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        code, message = None, None
        try:
            fault = msgspec.json.decode(response.content, type=_FaultBody).error
            if fault is not None:
                code, message = fault.code, fault.message
        except msgspec.DecodeError:
            message = f"{self._url} answered {response.status_code} without a reason; is it a textmill API?"
        if response.status_code == httpx.codes.UNAUTHORIZED and message and self._key_from:
            message = f"{message} The key is that of {self._key_from}."
        raise ApiError(
            code or f"http_{response.status_code}",
            message or f"The server answered {response.status_code}.",
            status=response.status_code,
            request_id=response.headers.get("x-request-id"),
        )

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        named = "Is that server up, and is TEXTMILL_API_URL right?" if os.environ.get("TEXTMILL_API_URL") else None
        todo = named or "Look at `textmill status`, then try again."
        match error:
            case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
                return Unreachable(f"{self._url} is not an address of an HTTP API; TEXTMILL_API_URL looks like http://127.0.0.1:8910.")
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return Unreachable(f"Nothing answers at {self._url}. {named or 'Start it with `textmill up`, or set TEXTMILL_API_URL.'}")
            case httpx.TimeoutException():
                return Unreachable(f"{self._url} did not answer in time. {todo}")
            case _:
                return Unreachable(f"The connection to {self._url} broke off. {todo}")


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _plan(
    endpoint: str,
    defaults: Mapping[str, object] | None,
    window: str,
    priority: int | str,
    metadata: Mapping[str, str] | None,
    content: Mapping[str, object] | None,
) -> JsonObject:
    plan: JsonObject = {"endpoint": endpoint, "completion_window": window, "priority": priority}
    optional = {"defaults": defaults, "metadata": metadata, **(content or {})}
    return plan | {name: value for name, value in optional.items() if value}


def _training(name: str, model: str | None) -> JsonObject:
    training: JsonObject = {"name": name}
    return training | ({"model": model} if model is not None else {})


def _object(response: httpx.Response) -> JsonObject:
    return _decode(response, JsonObject) if response.content else {}


def _decode(response: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.DecodeError:
        raise ApiError(
            "invalid_answer",
            "The server answered with something that is not what this version expects; are both the same version?",
            status=502,
            request_id=None,
        ) from None


def segment(name: str) -> str:
    """A path segment of a caller's choosing: a slash or a dot in it stays in it."""
    return quote(name, safe="").replace(".", "%2E") if name.strip(".") == "" else quote(name, safe="")


def _split_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line)
    if rest:
        yield rest


def _retry_after(response: httpx.Response, otherwise_seconds: float) -> float:
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            return min(float(response.headers[header]) * unit, MAX_PAUSE_SECONDS)
    return otherwise_seconds
