"""Rows and results on their way out, as JSON lines.

The store gives them page by page: each page is audited and committed before it is opened (:mod:`db.jobs.results`). Here they are put into
lines and sent; a slow reader holds no thread and no transaction, and one that goes away ends the read.
"""

from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing
from functools import lru_cache
from typing import Final
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Send

from api import metrics
from api.objects import line_id
from api.requests.front import Front
from api.streams.unmasking import unmasked_results
from db.actors import Actor
from db.audit.damage import DAMAGED
from db.connect import Store
from db.failures import describe, parts_of
from db.files.rows import DOUBLE, NewRow, StoredRow, iter_rows
from db.jobs.erasing import Which
from db.jobs.results import PAGE_ROWS, Place, ResultLine, iter_results

PIECE_BYTES: Final = 64 << 10
CODES_HELD: Final = 256  # in words: a file that does not fit fails with one or two codes in each of its rows
NEVER_RAN: Final = frozenset({"batch_cancelled", "batch_expired", "batch_over_budget"})
_COMPACT: Final = b'{"custom_id":%b,"method":"POST","url":%b,"body":%b}\n'
_SPACED: Final = b'{"custom_id": %b, "method": "POST", "url": %b, "body": %b}\n'

_encode: Final = msgspec.json.Encoder().encode


class Download(StreamingResponse):
    """Ends its source when the client goes away."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], media_type: str) -> None:
        super().__init__(pieces, media_type=media_type)
        self._pieces = pieces

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._pieces):
            await super().stream_response(send)


async def download(front: Front, lines: Iterator[bytes], media_type: str = "application/jsonl") -> Download:
    """Reads the first page before anything is sent, so that what is not there or not allowed still gets its status."""
    pieces = _pieces(lines)
    first = await anyio.to_thread.run_sync(next, pieces, b"", limiter=front.store_calls)
    return Download(_sent(front, first, pieces), media_type)


def result_lines(
    store: Store,
    actor: Actor,
    job_id: UUID,
    which: Which,
    *,
    after: Place | None = None,
    page: int = PAGE_ROWS,
    inputs: bool = False,
    unmask: bool = False,
) -> Iterator[bytes]:
    """``inputs``: each with its row as it is kept: what its body and its table's other cells were. ``unmask``: see :mod:`.unmasking`."""
    read, job = metrics.rows_read.labels(which), job_id.hex.encode()
    reading = unmasked_results if unmask else iter_results
    for result in reading(store, actor, job_id, which=which, after=after, page=page, inputs=inputs):
        read.inc()
        yield _with_input(_result_line(job, result), result) if inputs else _result_line(job, result)


def input_lines(store: Store, actor: Actor, file_id: UUID) -> Iterator[bytes]:
    """An uploaded file again: the lines of a batch file with their bodies verbatim, plain rows as ``{"id", "input", "label"}``.

    What is around a body is set as the body is, so that what Python's ``json.dumps`` or JavaScript's ``JSON.stringify`` wrote comes back
    byte for byte. Blank lines and other white space are not kept. A line that was too long is told by its number alone.
    """
    read = metrics.rows_read.labels("input")
    for row in iter_rows(store, actor, file_id):
        read.inc()
        yield input_line(row)


def input_line(row: NewRow | StoredRow) -> bytes:
    """A row of an uploaded file as it is read back."""
    defect, custom_id, body = row.defect, row.custom_id, row.body
    if isinstance(row, StoredRow) and row.damaged:
        raw = defect not in (None, DOUBLE)  # no JSON, that could stand in a line
        return b'{"line":%d,"error":%b,"body":%b}\n' % (row.line, _told(DAMAGED), b"null" if body is None or raw else body)
    if body is None:
        return b'{"line":%d,"error":%b}\n' % (row.line, _told(defect or "invalid_record"))
    if defect not in (None, DOUBLE):
        return body + b"\n"
    if row.endpoint is not None:
        return (_SPACED if _is_spaced(body) else _COMPACT) % (_encode(custom_id), _encode(row.endpoint), body)
    if custom_id is None:
        return body + b"\n"
    return b'{"id":%b,%b\n' % (_encode(custom_id), body.removeprefix(b"{"))


def _is_spaced(body: bytes) -> bool:
    """Whether its first member has a space behind the colon: a writer of JSON sets all of a line alike."""
    at = body.find(b'":')
    return body[at + 2 : at + 3] == b" "


@lru_cache(CODES_HELD)
def _told(code: str) -> bytes:
    why = describe(code)
    return _encode({"code": why.code, "message": why.message})


def _result_line(job: bytes, result: ResultLine) -> bytes:
    """The line of an output or error file. ``line`` and ``row`` are ours: where the row begins in the file that was uploaded, and which of
    its rows it is; both from 1, and not the same where a record has line breaks, or blank lines lie between. They name a row without an id:
    one made up could be another row's. A row whose id does not open keeps its answer, with an error beside it."""
    row = line_id(job, result.idx, result.run)
    custom_id = _encode(result.custom_id)
    if result.payload is not None:
        response = b'{"status_code":200,"request_id":"req_%b","body":%b}' % (row, result.payload)
        error = _told(DAMAGED) if result.damaged else b"null"
    else:
        code = result.told_code
        response, error = (b"null", _told(code)) if code in NEVER_RAN else (_failed(row, code), b"null")
    return b'{"id":"batch_req_%b","custom_id":%b,"response":%b,"error":%b,"line":%b,"row":%d}\n' % (
        row,
        custom_id,
        response,
        error,
        b"null" if result.line is None else b"%d" % result.line,
        result.idx + 1,
    )


def _with_input(line: bytes, result: ResultLine) -> bytes:
    """A body that is no JSON, of a line that could not be read, is told as text."""
    body = b"null" if result.body is None else result.body
    if result.code is not None and not _is_json(body):
        body = _encode(body.decode("utf-8", "replace"))
    return b'%b,"input":{"body":%b,"columns":%b}}\n' % (line[:-2], body, b"null" if result.columns is None else result.columns)


def _is_json(value: bytes) -> bool:
    try:
        value.decode()
        msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _failed(row: bytes, stored_code: str) -> bytes:
    failure = describe(stored_code)
    kind = "server_error" if failure.status >= 500 else "invalid_request_error"
    error = {"message": failure.message, "type": kind, "param": parts_of(stored_code)[1] or None, "code": failure.code}
    return _encode({"status_code": failure.status, "request_id": f"req_{row.decode()}", "body": {"error": error}})


def _pieces(lines: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Lines joined to pieces worth a send each."""
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


async def _sent(front: Front, first: bytes, pieces: Generator[bytes, None, None]) -> AsyncGenerator[bytes, None]:
    piece = first
    try:
        while piece:
            yield piece
            front.store.renew_patience()
            piece = await anyio.to_thread.run_sync(next, pieces, b"", limiter=front.store_calls)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(pieces.close, limiter=front.store_calls)
