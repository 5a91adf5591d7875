"""What a mutant is, and how it is put into a source."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guard taken out. ``edits``: (text as it stands, text instead) in ``file``; each must stand there exactly once. ``tests``: some of
    these must go red."""

    id: str
    guard: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]

    def applied(self, source: str) -> str:
        """Raises ValueError where the source is not what the mutant was written for."""
        for old, new in self.edits:
            if (found := source.count(old)) != 1:
                raise ValueError(f"{self.id}: {found} places in {self.file} for {old!r}")
            source = source.replace(old, new)
        return source

    def apply_to(self, tree: Path) -> str:
        """Changes the file under ``tree`` and returns its text as it was."""
        path = tree / self.file
        original = path.read_text()
        path.write_text(self.applied(original))
        return original
