"""What `textmill doctor` finds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: whether it is in order, what was found, and what to do. Holds paths and numbers, never a secret."""

    check: str
    ok: bool
    found: str
    todo: str = ""
