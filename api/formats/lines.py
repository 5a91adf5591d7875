"""Bytes to lines, with a cap: a line of 100 MB is counted, not held."""

from collections.abc import Iterable, Iterator
from typing import Final

from api.errors import Refused

UTF8_BOM: Final = b"\xef\xbb\xbf"
SNIFF_BYTES: Final = 4

_NOT_TEXT: Final = (
    (b"\x1f\x8b", "compressed_file", "The file is gzip-compressed. Send it uncompressed."),
    (b"PK\x03\x04", "compressed_file", "The file is a ZIP archive (or a spreadsheet). Send plain JSON lines, CSV or Parquet."),
    (b"\x28\xb5\x2f\xfd", "compressed_file", "The file is zstd-compressed. Send it uncompressed."),
    (b"PAR1", "wrong_format", "The file is Parquet. Send it with purpose=rows or purpose=train and format=parquet."),
    (b"\xff\xfe", "not_utf8", "The file is UTF-16 or UTF-32. Save it as UTF-8."),
    (b"\xfe\xff", "not_utf8", "The file is UTF-16. Save it as UTF-8."),
    (b"\x00\x00\xfe\xff", "not_utf8", "The file is UTF-32. Save it as UTF-8."),
)


def text_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes without a UTF-8 byte order mark. Raises Refused where the first bytes show that this is no UTF-8 text."""
    head = b""
    stream = iter(chunks)
    for chunk in stream:
        head += chunk
        if len(head) >= SNIFF_BYTES:
            break
    for magic, code, message in _NOT_TEXT:
        if head.startswith(magic):
            raise Refused(code, message, param="file")
    # ASCII text in UTF-16 without a mark has a zero in every second byte.
    if len(head) >= SNIFF_BYTES and ((head[0] == 0 and head[2] == 0) or (head[1] == 0 and head[3] == 0)):
        raise Refused("not_utf8", "The file looks like UTF-16. Save it as UTF-8.", param="file")
    yield head.removeprefix(UTF8_BOM)
    yield from stream


def split_lines(chunks: Iterable[bytes], max_line_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """(1-based number, line without its line feed) for each line, blank ones too; None for a line longer than ``max_line_bytes``.

    Only line feed ends a line: U+2028 and a lone carriage return are content. Holds one line and one chunk at most.
    """
    number = 0
    held: list[bytes] = []
    held_bytes = 0
    overlong = False
    for chunk in chunks:
        pieces = chunk.split(b"\n")
        rest = pieces.pop()
        for piece in pieces:
            number += 1
            if overlong or held_bytes + len(piece) > max_line_bytes:
                yield number, None
            elif held:
                held.append(piece)
                yield number, b"".join(held)
            else:
                yield number, piece
            if held_bytes or overlong:
                held.clear()
                held_bytes = 0
                overlong = False
        if rest and not overlong:
            held_bytes += len(rest)
            if held_bytes > max_line_bytes:
                held.clear()
                overlong = True
            else:
                held.append(rest)
    if held_bytes:
        yield number + 1, None if overlong else b"".join(held)
