"""Files that only this user may read: secrets, addresses with a password in them. Written whole or not at all."""

import os
import secrets
from pathlib import Path
from typing import Final

from db.private_files import read_private

SECRET_BYTES: Final = 24  # 192 random bits: nothing to guess, and short enough for every server's limits


def write_private(path: Path, text: str) -> None:
    """Puts ``text`` and a line feed in a file of mode 0600; a reader sees the old content or the new. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_or_make(path: Path) -> str:
    """The secret in this file; where there is none, a new random one. Raises OSError, and SettingsError where others could read it."""
    try:
        if kept := read_private(path).strip():
            return kept
    except FileNotFoundError:
        pass
    made = secrets.token_urlsafe(SECRET_BYTES)
    write_private(path, made)
    return made
