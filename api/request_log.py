"""One JSON line a request: id, method, route template, status, milliseconds. No address, no query, no header, no body.

This is the outermost layer of the application, so it also gives each response its ``x-request-id`` and what keeps it out of caches, answers
what nobody else caught with a constant 500, and tells where that happened by file and line. An exception's message is never logged: most of
them quote their input.
"""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import metrics
from api.errors import response_to
from db.connect import LOCK_TIMEOUT_MS, Patience
from workers import logs

CLIENT_CLOSED: Final = 499  # nginx's status for a client that went away
# Of every answer, unless its route says otherwise: no cache keeps it, and no browser takes it for another type than it is said to be.
KEPT_NOWHERE: Final = {b"cache-control": b"no-store", b"x-content-type-options": b"nosniff"}
# For what others hold, from when a request comes: who had to wait for a thread first, or comes with several transactions, waits no longer.
WAITED_SECONDS: Final = LOCK_TIMEOUT_MS / 1000
log: Final = logging.getLogger("textmill.api")


class RequestLog:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid4().hex}"
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["patience"] = Patience(WAITED_SECONDS)
        status = 0
        begun = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                said = message.get("headers", ())
                named = {name for name, _ in said}
                unsaid = [(name, value) for name, value in KEPT_NOWHERE.items() if name not in named]
                message["headers"] = [*said, *unsaid, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_CLOSED
        except Exception as error:
            state["error_code"] = type(error).__name__
            log.error("unhandled", extra={"fields": {"request_id": request_id, "error": type(error).__name__, "at": _places(error)}})
            if status == 0:
                await response_to(error)(scope, receive, send_with_id)
            # Otherwise the answer has begun: returning now makes the server cut the connection, and the client sees a broken stream.
        finally:
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in metrics.METHODS else "other"
            metrics.observe_request(method, route, status or CLIENT_CLOSED, seconds)
            fields = {
                "request_id": request_id,
                "method": method,
                "route": route,
                "status": status or CLIENT_CLOSED,
                "ms": round(seconds * 1000, 1),
            }
            if (code := state.get("error_code")) is not None:
                fields["error"] = code
            log.info("request", extra={"fields": fields})


class JsonLines(logging.Formatter):
    """Records of libraries say where they come from and not what they say: asyncio, for one, puts an exception's message into its own.

    uvicorn's templates are constants; what would be put into them is left out.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _event(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["at"] = _places(record.exc_info[1])
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line.update(fields)
        return json.dumps(line, ensure_ascii=True)


def _event(record: logging.LogRecord) -> str:
    if record.name.partition(".")[0] == "textmill":
        return record.getMessage()
    if record.name.partition(".")[0] == "uvicorn" and isinstance(record.msg, str):
        return record.msg
    return f"message of a library at {record.module}:{record.lineno}"


def set_up() -> None:
    """For the main function of the process: all loggers write JSON lines to standard error, and a crash tells no values."""
    logs.set_up(logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    quiet()


def quiet() -> None:
    """python-multipart logs bytes of a malformed body; nothing may."""
    for name in ("python_multipart", "python_multipart.multipart", "multipart"):
        logging.getLogger(name).disabled = True


def _places(error: BaseException) -> list[str]:
    """``api/routes/files.py:88`` for each frame of our own code, outermost first."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        for package in ("/api/", "/db/", "/workers/"):
            if package in name and "site-packages" not in name:
                places.append(f"{package[1:]}{name.rpartition(package)[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return places
