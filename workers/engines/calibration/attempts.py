"""Ways of running a model that ended the process which tried them: a library that meets an instruction or a kernel it cannot bear takes the
process along, and would do so at every start.

What is being tried stands in a file while it is; what still stands there later was never come back from. Once may have been somebody's
SIGKILL; twice it is taken for the way's own doing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from db.private_files import make_private_folder

MOST_DEATHS: Final = 1


class Attempts:
    """``path`` None: nothing is noted. For whoever holds the lock of the calibration."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def ended_processes(self, name: str) -> bool:
        return self._names().count(name) > MOST_DEATHS

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Around what may end the process. Whatever is raised is no such end."""
        self._write([*self._names(), name])
        try:
            yield
        finally:
            names = self._names()
            if name in names:
                names.remove(name)
            self._write(names)

    def _names(self) -> list[str]:
        try:
            return [] if self._path is None else self._path.read_text().splitlines()
        except OSError:
            return []

    def _write(self, names: list[str]) -> None:
        if self._path is None:
            return
        try:
            make_private_folder(self._path.parent)
            self._path.write_text("".join(f"{name}\n" for name in names))
        except OSError:  # a home that cannot be written to keeps no finding either
            return
