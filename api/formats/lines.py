"""Bytes to lines, with a cap: a line of 100 MB is counted, not held."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from api.errors import Refused
from api.formats.compression import unpacked
from api.formats.limits import FileLimits
from api.formats.names import codec_of

UTF8_BOM: Final = b"\xef\xbb\xbf"
SNIFF_BYTES: Final = 264  # as far as the mark of a tar archive
TAR_MARK_AT: Final = 257
UTF16_BYTES: Final = 4  # of two letters
BEGINNING_BYTES: Final = 4096  # of a line that is too long: some columns, and an id

_SPREADSHEET: Final = "The file is a spreadsheet, or an archive: save it as “CSV UTF-8” in its own program, or unpack it, and send that."
_NOT_TEXT: Final = (
    (b"PK\x03\x04", "compressed_file", _SPREADSHEET),
    (b"PK\x05\x06", "compressed_file", "The file is an empty archive."),
    (b"7z\xbc\xaf\x27\x1c", "compressed_file", "The file is an archive. Unpack it, and send the files in it."),
    (b"\x04\x22\x4d\x18", "compressed_file", "The file is lz4-compressed. Send it uncompressed, or with gzip or zstd."),
    (b"ARROW1", "wrong_format", "The file is Feather. Write it as Parquet, and send that."),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "compressed_file", _SPREADSHEET),
    (b"\xfd7zXZ\x00", "compressed_file", "The file is xz-compressed. Send it uncompressed, or with gzip or zstd."),
    (b"%PDF-", "wrong_format", "The file is a PDF: `pdftotext FILE FILE.txt` makes plain lines of it."),
    (
        b"PAR1",
        "wrong_format",
        "The file is Parquet: set the form field format to `parquet`, and send it without gzip or zstd around it.",
    ),
    (b"\xff\xfe", "not_utf8", "The file is UTF-16 or UTF-32. Save it as UTF-8."),
    (b"\xfe\xff", "not_utf8", "The file is UTF-16. Save it as UTF-8."),
    (b"\x00\x00\xfe\xff", "not_utf8", "The file is UTF-32. Save it as UTF-8."),
)
END_RECORD_BYTES: Final = 128
_END_MARK: Final = re.compile(rb"\x1a[\x1a\r\n]*\Z")
_BZIP2: Final = re.compile(rb"BZh[1-9]1AY&SY")


def text_chunks(chunks: Iterable[bytes], limits: FileLimits) -> Iterator[bytes]:
    """The same bytes, unpacked where they are compressed, without a UTF-8 byte order mark. Raises Refused where the first bytes show that
    this is no UTF-8 text."""
    head, stream = _begun(chunks)
    if (codec := codec_of(head)) is not None:
        head, stream = _begun(unpacked(chain([head], stream), codec, limits.max_text_bytes))
        if codec_of(head) is not None:
            raise Refused("compressed_file", "The file is compressed twice. Unpack it once, and send that.", param="file")
    _check_is_text(head)
    yield from _without_end_mark(chain([head.removeprefix(UTF8_BOM)], stream))


def _without_end_mark(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Programs of DOS's time write Control-Z behind the last line, some fill a record with it. Elsewhere it is content."""
    held = b""
    for chunk in chunks:
        whole = held + chunk if held else chunk
        found = _END_MARK.search(whole, max(0, len(whole) - END_RECORD_BYTES))
        held = whole[found.start() :] if found else b""
        yield whole[: found.start()] if found else whole


def _begun(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first SNIFF_BYTES or more, and what follows them."""
    head = b""
    stream = iter(chunks)
    for chunk in stream:
        head += chunk
        if len(head) >= SNIFF_BYTES:
            break
    return head, stream


def _check_is_text(head: bytes) -> None:
    for magic, code, message in _NOT_TEXT:
        if head.startswith(magic):
            raise Refused(code, message, param="file")
    if _BZIP2.match(head):
        raise Refused("compressed_file", "The file is bzip2-compressed. Send it uncompressed, or with gzip or zstd.", param="file")
    if head[TAR_MARK_AT:].startswith(b"ustar") and b"\x00" in head[:TAR_MARK_AT]:
        raise Refused("compressed_file", "The file is a tar archive. Unpack it, and send the files in it.", param="file")
    # ASCII text in UTF-16 without a mark has a zero in every second byte.
    if len(head) >= UTF16_BYTES and ((head[0] == 0 and head[2] == 0) or (head[1] == 0 and head[3] == 0)):
        raise Refused("not_utf8", "The file looks like UTF-16. Save it as UTF-8.", param="file")


def old_line_ends(line: bytes, suffix: str) -> str | None:
    """What to say of a file whose only line shows that its lines end in a carriage return alone; None where it does not."""
    if b"\r" not in line.rstrip(b"\r"):
        return None
    return f"The file's lines end in a carriage return alone: `tr '\\r' '\\n' < FILE > FILE.{suffix}` makes lines of it that can be read."


class LongLine(bytes):
    """The beginning of a line that is longer than a line may be: its id may stand there."""


def split_lines(chunks: Iterable[bytes], max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """(1-based number, line without its line feed) for each line, blank ones too; a :class:`LongLine` of one that is longer than
    ``max_line_bytes``.

    Only line feed ends a line: U+2028 and a lone carriage return are content. Holds one line and one chunk at most.
    """
    number = 0
    held: list[bytes] = []
    held_bytes = 0
    overlong: LongLine | None = None
    for chunk in chunks:
        pieces = chunk.split(b"\n")
        rest = pieces.pop()
        for piece in pieces:
            number += 1
            if overlong is not None:
                yield number, overlong
            elif held_bytes + len(piece) > max_line_bytes:
                yield number, _beginning(held, piece)
            elif held:
                held.append(piece)
                yield number, b"".join(held)
            else:
                yield number, piece
            if held_bytes:
                held.clear()
                held_bytes = 0
                overlong = None
        if rest and overlong is None:
            held_bytes += len(rest)
            if held_bytes > max_line_bytes:
                overlong = _beginning(held, rest)
                held.clear()
            else:
                held.append(rest)
    if held_bytes:
        yield number + 1, b"".join(held) if overlong is None else overlong


def _beginning(held: Iterable[bytes], piece: bytes) -> LongLine:
    return LongLine(b"".join(part[:BEGINNING_BYTES] for part in (*held, piece))[:BEGINNING_BYTES])
