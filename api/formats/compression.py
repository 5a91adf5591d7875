"""gzip and zstd: the bytes of a compressed file as they were, in flat memory, and bounded by what comes out."""

import io
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from pyarrow.lib import CompressedInputStream, PythonFile

from api.errors import Refused
from api.formats.names import codec_of

FREE_BYTES: Final = 8 << 20  # may come out of however little; unpacked ahead, so that a bomb is refused before a row is made of it
MAX_RATIO: Final = 100  # beyond that: texts come to 3 to 20, the same line again and again to 1,000
READ_BYTES: Final = 1 << 16


def unpacked(chunks: Iterable[bytes], codec: str, max_bytes: int) -> Iterator[bytes]:
    """Of all parts of a file that was joined of several. Raises Refused for what is cut, damaged, or a bomb; and what ``chunks`` raise."""
    source = _Source(chunks)
    size = given = 0
    ahead: deque[bytes] = deque()
    try:
        with _opened(source, codec) as stream:
            while chunk := stream.read(READ_BYTES):
                size += len(chunk)
                if size > max_bytes or (size > FREE_BYTES and size > MAX_RATIO * source.read_bytes):
                    most = f"{max_bytes >> 20} MiB, or {MAX_RATIO} times its size"
                    message = f"The file unpacks to more than {most}. Send it uncompressed, or in parts."
                    raise Refused("file_too_large", message, status=413, param="file")
                ahead.append(chunk)
                while size - given > FREE_BYTES:
                    given += len(ahead[0])
                    yield ahead.popleft()
    except OSError:  # of the codec: its message is of no use to a person
        message = f"The {codec} file is cut or damaged: `{codec} -t FILE` tests it. Send it again, or uncompressed."
        raise Refused("compressed_file", message, param="file") from None
    yield from ahead


def beginning(head: bytes, max_bytes: int) -> bytes:
    """What a file's first bytes begin with, unpacked where they are compressed; as far as it can be read."""
    codec = codec_of(head)
    if codec is None:
        return head[:max_bytes]
    found = bytearray()
    with suppress(OSError), _opened(_Source([head]), codec) as stream:
        while len(found) < max_bytes and (chunk := stream.read(min(READ_BYTES, max_bytes - len(found)))):
            found += chunk
    return bytes(found)


def _opened(source: "_Source", codec: str) -> "_Gzip | CompressedInputStream":
    return _Gzip(source) if codec == "gzip" else CompressedInputStream(PythonFile(source, mode="r"), codec)


class _Gzip(io.RawIOBase):
    """Parts one behind the other, and zero bytes behind each (of a tape, of a disk's blocks), which gzip(1) takes and Arrow does not.
    Raises OSError."""

    def __init__(self, source: "_Source") -> None:
        self._source = source
        self._begin(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Some bytes, as many as that at most; none at the end."""
        try:
            while self._held or self._fill():
                if self._part.eof:
                    self._begin(self._held.lstrip(b"\0"))
                elif unpacked := self._unpack(size):
                    return unpacked
        except zlib.error:
            raise OSError("damaged") from None
        if not self._part.eof:
            raise OSError("cut")
        return b""

    def _begin(self, held: bytes) -> None:
        """Behind a part that has ended: zero bytes alone begin no other."""
        self._held = held
        if held or not hasattr(self, "_part"):
            self._part = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def _fill(self) -> bool:
        self._held = self._source.read(READ_BYTES)
        return bool(self._held)

    def _unpack(self, size: int) -> bytes:
        unpacked = self._part.decompress(self._held, max(size, 0))
        self._held = self._part.unused_data if self._part.eof else self._part.unconsumed_tail
        return unpacked


class _Source(io.RawIOBase):
    """Chunks as a file to read from. ``read_bytes``: so many were."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        while not self._held and (chunk := next(self._chunks, None)) is not None:
            self._held = chunk
        taken = self._held if size < 0 else self._held[:size]
        self._held = self._held[len(taken) :]
        self.read_bytes += len(taken)
        return taken
