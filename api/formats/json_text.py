"""Why a line is not the JSON we can take, as a failure code. The decoders' own messages may quote the line, so they stop here."""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Final

import msgspec

MAX_TOKENS: Final = 10_000  # in which an id is looked for: it stands at the line's beginning
MAX_DEPTH: Final = 64  # no body of ours nests deeper than 4; a bound well below any decoder's own limit

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{\]}]', re.DOTALL)  # the closing quote is optional: linear on any input
_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_NON_FINITE: Final = re.compile(rb"[:\[,]\s*-?(?:NaN|Infinity)\s*[,\]}]")
_VALUE: Final = re.compile(rb'\s*:\s*("(?:[^"\\\x00-\x1f]|\\.)*+"|-?\d[\d.eE+-]*+)\s*[,}]')
# In a text with all digits as zeros, since a pattern that begins with a literal is found by memchr and another byte by byte.
_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"123456789E", b"000000000e")
_HUGE_EXPONENT: Final = re.compile(rb"0e\+?000")


def is_object(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def is_deep(text: bytes) -> bool:
    """Whether valid JSON nests deeper than MAX_DEPTH. Almost every line is settled by two counts in C."""
    if text.count(b"{") + text.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        if first in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif first in b"}]":
            depth -= 1
    return False


def is_non_finite(text: bytes) -> bool:
    """Whether valid JSON holds a number that no double can hold (1e999)."""
    if _HUGE_EXPONENT.search(text.translate(_DIGITS_AS_ZEROS)) is None:
        return False
    try:
        msgspec.json.decode(text)
    except msgspec.ValidationError:
        return True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return False


class Members(list[tuple[str, object]]):
    """Of an object in JSON, in order, also those of which a decoder takes only the last."""

    @classmethod
    def of(cls, text: bytes) -> "Members":
        """Of the outermost; none where there is none."""
        try:
            found = json.loads(text, object_pairs_hook=cls, parse_int=str)
        except (ValueError, RecursionError):
            return cls()
        return found if isinstance(found, cls) else cls()

    def repeated(self, names: Collection[str]) -> str | None:
        """The first of ``names`` that is there twice."""
        seen = Counter(name for name, _ in self)
        return next((name for name in seen if seen[name] > 1 and name in names), None)


def may_repeat(text: bytes, fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a name may be twice in an object, of which ``fields`` were decoded: only then it has quotes that are in none of them. Nearly
    all are settled by two counts."""
    return text.count(b":") != len(fields) and text.count(b'"') != 2 * len(fields) + b"".join(fields.values()).count(b'"')


def legible_member(text: bytes, name: str) -> msgspec.Raw | None:
    """The value of the outermost object's member ``name`` where it is a string or a number, although the rest of the text is not JSON.

    Looked for among the tokens of the first depth; where a stray quote has put those out of step, anywhere, if it is there once. A name
    that a text spells has its quotes escaped and is not taken for one.
    """
    wanted = b'"%b"' % name.encode()
    depth = 0
    for token in islice(_TOKEN.finditer(text), MAX_TOKENS):
        spelled = token.group()
        if spelled in (b"{", b"["):
            depth += 1
        elif spelled in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and spelled == wanted and (value := _VALUE.match(text, token.end())) is not None:
            return _legible(value.group(1))
    found = set(re.findall(re.escape(wanted) + _VALUE.pattern, text))
    return _legible(found.pop()) if len(found) == 1 else None


def _legible(value: bytes) -> msgspec.Raw | None:
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return msgspec.Raw(value)


def malformed_code(text: bytes) -> str:
    """The code of text that is not JSON, by what people most often send."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return "invalid_utf8"
    if b"\x00" in text:
        return "nul_character"
    if _LONE_SURROGATE.search(text):
        return "lone_surrogate"
    if _NON_FINITE.search(text):
        return "non_finite_number"
    return "invalid_json"
