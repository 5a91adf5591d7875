"""Keys and tokens: by the prefixes that issuers give them, blocks of private keys, and what is assigned to a name such as ``api_key``."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from workers.redaction.span import Span

_PREFIXED: Final = re.compile(
    r"[A-Zaegnsxp](?<![A-Za-z0-9_-].)(?:"
    r"(?<=A)(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9])"  # AWS
    r"|(?<=A)Iza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"  # Google
    r"|(?<=g)h[pousr]_[A-Za-z0-9]{36,255}"  # GitHub
    r"|(?<=g)ithub_pat_[A-Za-z0-9_]{22,255}"
    r"|(?<=g)lpat-[A-Za-z0-9_-]{20,255}"  # GitLab
    r"|(?<=x)(?:ox[abeoprs]|app)-[A-Za-z0-9-]{10,255}"  # Slack
    r"|(?<=[sp])k_(?:live|test)_[A-Za-z0-9]{16,255}"  # Stripe
    r"|(?<=r)k_(?:live|test)_[A-Za-z0-9]{16,255}"
    r"|(?<=s)k-[A-Za-z0-9_-]{20,255}"  # OpenAI, Anthropic
    r"|(?<=n)pm_[A-Za-z0-9]{36}"
    r"|(?<=p)ypi-[A-Za-z0-9_-]{50,255}"
    r"|(?<=e)yJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # a JWT, of any length: no sign of it can be its dots
    r")",
    re.DOTALL,
)
_ASSIGNED: Final = re.compile(r"(?:[:=][ \t]{0,3}|[Bb](?i:earer) )[\"']?")
_VALUE: Final = re.compile(r"[^\s\"'`,;&<>()\[\]{}]{8,512}")
_NAME: Final = re.compile(
    r"(?:api[_-]?key|access[_-]?key|secret|token|passwor[dt]|passwd|pwd|kennwort|mot de passe|contraseña|wachtwoord)[\"']?[ \t]{0,3}\Z",
    re.IGNORECASE,
)
_NAME_CHARS: Final = 20
_BEGIN: Final = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END: Final = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
LEAST_BITS: Final = 2.75  # Shannon's entropy of a character: words and dates have less, and so has 12341234


def find_keys(text: str) -> Iterator[Span]:
    for found in _PREFIXED.finditer(text):
        yield Span("key", found.start(), found.end())
    yield from _assigned(text)
    if "-----BEGIN " in text:
        yield from _blocks(text)


def _assigned(text: str) -> Iterator[Span]:
    end = 0
    for sign in _ASSIGNED.finditer(text):
        is_named = sign[0][0] in "Bb" or _NAME.search(text[max(0, sign.start() - _NAME_CHARS) : sign.start()])
        if is_named and sign.end() >= end and (value := _VALUE.match(text, sign.end())) and _is_random(value[0]):
            end = value.end()
            yield Span("key", value.start(), end)


def _blocks(text: str) -> Iterator[Span]:
    """One that is cut goes to the text's end."""
    begin = _BEGIN.search(text)
    while begin:
        end = _END.search(text, begin.end())
        yield Span("key", begin.start(), end.end() if end else len(text))
        begin = _BEGIN.search(text, end.end()) if end else None


def _is_random(value: str) -> bool:
    """And no name in a program, which has no digits."""
    if not (any(map(str.isalpha, value)) and any(map(str.isdigit, value))):
        return False
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts) >= LEAST_BITS
