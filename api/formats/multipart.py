"""multipart/form-data as a stream: parts come one by one while the body arrives. Nothing is spooled to a file.

Only the low-level parser of python-multipart is used; its form classes write large parts to the disk.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.errors import Refused

MAX_PARTS: Final = 64
MAX_FIELD_BYTES: Final = 64 << 10  # of one form field that is not the file
MAX_HEADER_BYTES: Final = 8 << 10


@dataclass(slots=True)
class Part:
    """``filename`` is None for a plain field. ``chunks`` must be read to its end before the next part is asked for."""

    name: str
    filename: str | None
    chunks: Iterator[bytes]

    def text(self) -> str:
        """A field's whole value. Raises Refused."""
        value = b""
        for chunk in self.chunks:
            value += chunk
            if len(value) > MAX_FIELD_BYTES:
                raise Refused("invalid_form", f"A form field may have {MAX_FIELD_BYTES >> 10} KiB.")
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Refused("invalid_form", "A form field is not UTF-8.") from None


_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_EXTENDED: Final = re.compile(rb";[ \t]*filename\*[ \t]*=[ \t]*(utf-8|iso-8859-1)'[^';]*'([^;\s]+)", re.IGNORECASE)
_PART_END: Final = object()
_BODY_END: Final = object()


class Form:
    """The parts of one body.

    Parameters
    ----------
    content_type: the request's header, for the boundary.
    chunks: the body as it arrives.

    Raises Refused for a body that is not multipart, breaks off, or has too many parts.
    """

    def __init__(self, content_type: str, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._events: deque[object] = deque()  # dict (a part's headers), bytes, _PART_END, _BODY_END
        self._headers: dict[bytes, bytes] = {}
        self._name = bytearray()
        self._value = bytearray()
        self._parser = self._new_parser(content_type)

    def parts(self) -> Iterator[Part]:
        count = 0
        while (event := self._next_event()) is not _BODY_END:
            if isinstance(event, dict):
                count += 1
                if count > MAX_PARTS:
                    raise Refused("invalid_form", f"A form may have {MAX_PARTS} fields.")
                yield self._part(event)

    def _new_parser(self, content_type: str) -> MultipartParser:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Refused("invalid_form", "The body must be multipart/form-data with a boundary.")
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": lambda: self._events.append(dict(self._headers)),
                    "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                    "on_part_end": lambda: self._events.append(_PART_END),
                    "on_end": lambda: self._events.append(_BODY_END),
                },
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError:
            raise Refused("invalid_form", "The boundary of the multipart body is too long.") from None

    def _next_event(self) -> object:
        while not self._events:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise Refused("upload_cut", "The upload broke off before the end of the form. Nothing was kept; send it again.")
            try:
                self._parser.write(chunk)
            except FormParserError:  # its message quotes bytes of the body
                raise Refused("invalid_form", "The multipart body is malformed.") from None
        return self._events.popleft()

    def _part(self, headers: dict[bytes, bytes]) -> Part:
        disposition = headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        filename = options.get(b"filename")
        return Part(
            name=options.get(b"name", b"").decode(errors="replace"),
            filename=_extended_name(disposition) or (None if filename is None else _plain_name(filename)),
            chunks=self._part_chunks(),
        )

    def _part_chunks(self) -> Iterator[bytes]:
        while (event := self._next_event()) is not _PART_END:
            if isinstance(event, bytes):
                yield event

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()


def _extended_name(disposition: bytes) -> str | None:
    """What ``filename*=UTF-8''t%C3%A9.csv`` says (RFC 8187). RFC 7578 forbids it in a form, and clients send it all the same, alone or
    beside a name in quotes that only mail would decode."""
    found = _EXTENDED.search(_QUOTED.sub(b"", disposition))
    return None if found is None else unquote(found[2].decode("latin-1"), found[1].decode(), "replace")


def _plain_name(filename: bytes) -> str:
    """Browsers and HTTP clients percent-encode these three in a quoted name, and nothing else (WHATWG)."""
    text = filename.decode(errors="replace")
    for escape, character in (("%22", '"'), ("%0D", "\r"), ("%0A", "\n")):
        text = text.replace(escape, character)
    return text
