"""Where the rows of a command come from: a file, stdin, or what was said on the command line."""

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from api.cli.terminal.exits import CommandError


@dataclass(frozen=True, slots=True)
class Source:
    """Rows to send. ``path`` None with ``content`` None is stdin."""

    path: Path | None
    content: bytes | None = None
    name: str = "stdin"
    fields: Mapping[str, str] = field(default_factory=dict)

    def stat(self) -> os.stat_result | None:
        """Which file it is, so that the output can be told from it."""
        if self.content is not None:
            return None
        return os.fstat(sys.stdin.fileno()) if self.path is None else self.path.stat()

    @contextmanager
    def open(self) -> Iterator[tuple[BinaryIO, int | None]]:
        """The bytes and how many there are, where that is known."""
        if self.content is not None:
            yield BytesIO(self.content), len(self.content)
            return
        if self.path is None:
            yield sys.stdin.buffer, None
            return
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise CommandError(f"The input cannot be read: {error.strerror}.") from None
        with file:
            about = os.fstat(file.fileno())
            yield file, about.st_size if stat.S_ISREG(about.st_mode) else None
