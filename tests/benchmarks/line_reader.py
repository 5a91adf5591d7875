"""Lines as a file that an upload can read from."""

from collections.abc import Iterator


class LineReader:
    """Bytes of the lines as they are asked for, without holding them."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines

    def read(self, size: int) -> bytes:
        """A little more than ``size``; nothing at the end."""
        parts = []
        while size > 0 and (line := next(self._lines, None)) is not None:
            parts.append(line)
            size -= len(line)
        return b"".join(parts)
