"""IP addresses, as :mod:`ipaddress` reads them. A version of four numbers is told from one by the word before it alone."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from workers.redaction.span import Span

_FOUR: Final = re.compile(r"[0-9](?<![0-9A-Za-z.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![0-9A-Za-z]|\.[0-9])", re.DOTALL)
_SIX: Final = re.compile(
    r"(?<![0-9A-Za-z:.])[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{0,34}(?:\.[0-9]{1,3}){0,3}(?![0-9A-Za-z:]|\.[0-9])"
)
_VERSION: Final = re.compile(r"(?:version|ver\.?|release|build|firmware)[: ]{0,2}\Z", re.IGNORECASE)
_VERSION_CHARS: Final = 12
_LOOPBACK: Final = "::1"


def find_ips(text: str) -> Iterator[Span]:
    for found in _FOUR.finditer(text):
        if _is_address(found[0]) and not _VERSION.search(text[max(0, found.start() - _VERSION_CHARS) : found.start()]):
            yield Span("ip", found.start(), found.end())
    if text.count(":") > 1:
        for found in _SIX.finditer(text):
            value = found[0].removesuffix(":") if not found[0].endswith("::") else found[0]
            if _is_telling(value) and _is_address(value):
                yield Span("ip", found.start(), found.start() + len(value))


def _is_telling(value: str) -> bool:
    """``a::b`` is an address too, and more often code."""
    groups = [group for group in value.split(":") if group]
    return value == _LOOPBACK or (len(groups) > 1 and any(sign.isdigit() for sign in value))


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
