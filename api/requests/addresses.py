"""Addresses that hold a key are refused on every route, however they are spelt: an address ends in logs and histories."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import error_response

# A key of ours, or a parameter by which other services take theirs.
_KEY: Final = re.compile(
    rb"tm_[A-Za-z0-9_-]{20,}|(?:^|[?&;])(?:(?:x[-_])?api[-_]?key|key|token|access[-_]?token|(?:x[-_])?auth(?:orization)?|bearer)=",
    re.IGNORECASE,
)
_MOST_LAYERS: Final = 4  # of percent signs about percent signs: no client writes more, and each takes a look at all of the address
_CODE: Final = "key_in_url"
_MESSAGE: Final = "An API key goes in the Authorization header, never in the address. Revoke this key."


class NoKeys:
    """Stands before all routes, also those that ask for no key and those that there are not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (holds_key(scope["raw_path"]) or holds_key(scope["query_string"])):
            scope["state"]["error_code"] = _CODE
            await error_response(400, _CODE, _MESSAGE)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def holds_key(sent: bytes) -> bool:
    """Of a path or query as it came. True, too, of one that is encoded too often to be looked through."""
    for _ in range(_MOST_LAYERS):
        if _KEY.search(sent):
            return True
        plain = unquote_to_bytes(sent)
        if plain == sent:
            return False
        sent = plain
    return True
