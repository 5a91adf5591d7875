"""Addresses that hold a key are refused on every route, however they are spelt: an address ends in logs and histories."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import error_response

# A key of ours, whole: names of heads and label sets stand in paths, and `atm_withdrawals` begins like one. 256 random bits have letters of
# both cases.
_KEY: Final = re.compile(rb"(?<![A-Za-z0-9_-])tm_(?=[a-z0-9_-]*[A-Z])(?=[A-Z0-9_-]*[a-z])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
# A parameter by which other services take theirs.
_PARAMETER: Final = re.compile(
    rb"(?:^|[?&;])(?:(?:x[-_])?api[-_]?key|key|token|access[-_]?token|(?:x[-_])?auth(?:orization)?|bearer)=", re.IGNORECASE
)
_MOST_LAYERS: Final = 4  # of percent signs about percent signs: no client writes more, and each takes a look at all of the address
_CODE: Final = "key_in_url"
_MESSAGE: Final = "An API key goes in the Authorization header, never in the address. Revoke this key."


class NoKeys:
    """Stands before all routes, also those that ask for no key and those that there are not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (path_holds_key(scope["raw_path"]) or query_holds_key(scope["query_string"])):
            scope["state"]["error_code"] = _CODE
            await error_response(400, _CODE, _MESSAGE)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def path_holds_key(sent: bytes) -> bool:
    """Of a path as it came. True, too, of one that is encoded too often to be looked through."""
    return _holds(sent, _KEY)


def query_holds_key(sent: bytes) -> bool:
    """The same of a query."""
    return _holds(sent, _KEY, _PARAMETER)


def _holds(sent: bytes, *patterns: re.Pattern[bytes]) -> bool:
    for _ in range(_MOST_LAYERS):
        if any(pattern.search(sent) for pattern in patterns):
            return True
        plain = unquote_to_bytes(sent)
        if plain == sent:
            return False
        sent = plain
    return True
