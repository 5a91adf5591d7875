"""E-mail addresses as they are written in texts: no quoted local parts, and a domain with a top level that is a word."""

import re
from collections.abc import Iterator
from typing import Final

from workers.redaction.span import Span

MAX_LOCAL: Final = 64  # RFC 5321
_LOCAL_BACKWARDS: Final = re.compile(rf"[\w.+%'-]{{1,{MAX_LOCAL}}}")
_DOMAIN: Final = re.compile(r"(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.){1,8}(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,24})(?![\w-])", re.IGNORECASE)


def find_emails(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL_BACKWARDS.match(text[max(0, at - MAX_LOCAL) : at][::-1])
        domain = _DOMAIN.match(text, at + 1) if local else None
        if local and domain and (name := local[0][::-1].lstrip(".'-")):
            yield Span("email", at - len(name), domain.end())
        at = text.find("@", at + 1)
