"""gzip and zstd: the bytes of a compressed file as they were, in flat memory, and bounded by what comes out."""

import io
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
        with CompressedInputStream(PythonFile(source, mode="r"), codec) as stream:
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
    with suppress(OSError), CompressedInputStream(PythonFile(_Source([head]), mode="r"), codec) as stream:
        while len(found) < max_bytes and (chunk := stream.read(min(READ_BYTES, max_bytes - len(found)))):
            found += chunk
    return bytes(found)


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
