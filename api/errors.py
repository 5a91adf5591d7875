"""What a caller is told when something goes wrong: always the OpenAI error body, never the input.

Every error of ours carries a code and a constant sentence. Errors of others (JSON, validation, database) are answered by their kind alone,
because most of them keep the object they failed on.
"""

from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from api.absent import told_at
from db.errors import TextmillError

RETRY_AFTER_SECONDS: Final = 1

_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refused(TextmillError):
    """A request that cannot be taken. ``param`` names the field of ours that is at fault."""

    def __init__(self, code: str, message: str, *, status: int = 400, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message, code=code, status=status)
        self.param = param
        self.retry_after = retry_after


def error_response(
    status: int, code: str, message: str, *, param: str | None = None, retry_after: int | None = None, allow: str | None = None
) -> JSONResponse:
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    headers = {} if allow is None else {"allow": allow}
    if status == 409:
        headers["x-should-retry"] = "false"  # clients take 409 for a lock and would ask twice more
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status_code=status, headers=headers)


def response_to(error: Exception, path: str = "") -> JSONResponse:
    """The answer to any exception; what is not known gets a constant 500. ``path``: where there was nothing."""
    match error:
        case Refused():
            return error_response(error.status, error.code, error.message, param=error.param, retry_after=error.retry_after)
        case TextmillError():
            return error_response(error.status, error.code, error.message)
        case HTTPException(status_code=404):
            return error_response(404, *told_at(path))
        case HTTPException(status_code=405):
            allowed = (error.headers or {}).get("Allow")
            message = f"This address does not take this method{f'; it takes {allowed}' if allowed else ''}. /docs/http lists the routes."
            return error_response(405, "method_not_allowed", message, allow=allowed)
        case HTTPException():
            return error_response(error.status_code, "bad_request", "The request cannot be read.")
        case RequestValidationError():
            return error_response(400, "invalid_field", "A parameter is missing or has the wrong form.", param=_field(error))
        case OperationalError() | PoolTimeout():
            return _unavailable()
        case DBAPIError() if error.connection_invalidated:
            return _unavailable()
        case _:
            return error_response(500, "internal_error", "Something went wrong here. The request id finds it in the log.")


def install(app: FastAPI) -> None:
    """What is expected is answered inside the application; the rest reaches the request log, which answers and records it."""
    for kind in (TextmillError, HTTPException, RequestValidationError, OperationalError, PoolTimeout):
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, error: Exception) -> JSONResponse:
    request.state.error_code = error.code if isinstance(error, TextmillError) else type(error).__name__
    return response_to(error, request.url.path)


def _unavailable() -> JSONResponse:
    message = "The store does not answer at the moment. Try again."
    return error_response(503, "store_unavailable", message, retry_after=RETRY_AFTER_SECONDS)


def _field(error: RequestValidationError) -> str | None:
    """Names of our own parameters only: the location of an unknown key is what the caller sent."""
    for fault in error.errors():
        place = fault.get("loc", ())
        if len(place) >= 2 and fault.get("type") != "extra_forbidden":
            return str(place[1])
    return None
