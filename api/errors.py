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

from db.errors import TextmillError

RETRY_AFTER_SECONDS: Final = 1

_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_HTTP_MESSAGES: Final = {
    404: ("not_found", "There is nothing at this address; /docs/http lists the routes."),
    405: ("method_not_allowed", "This address does not take this method."),
}


class Refused(TextmillError):
    """A request that cannot be taken. ``param`` names the field of ours that is at fault."""

    def __init__(self, code: str, message: str, *, status: int = 400, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message, code=code, status=status)
        self.param = param
        self.retry_after = retry_after


def error_response(status: int, code: str, message: str, *, param: str | None = None, retry_after: int | None = None) -> JSONResponse:
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    headers = {}
    if status == 409:
        headers["x-should-retry"] = "false"  # clients take 409 for a lock and would ask twice more
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status_code=status, headers=headers)


def response_to(error: Exception) -> JSONResponse:
    """The answer to any exception; what is not known gets a constant 500."""
    match error:
        case Refused():
            return error_response(error.status, error.code, error.message, param=error.param, retry_after=error.retry_after)
        case TextmillError():
            return error_response(error.status, error.code, error.message)
        case HTTPException():
            code, message = _HTTP_MESSAGES.get(error.status_code, ("bad_request", "The request cannot be read."))
            return error_response(error.status_code, code, message)
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
    return response_to(error)


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
