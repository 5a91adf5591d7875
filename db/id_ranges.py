"""Ids that begin alike: what a person types of an id, as a range that an index of ids can look up."""

from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

LEAST_DIGITS: Final = 4  # fewer would name too many
SHORT_DIGITS: Final = 8  # of an id where it is shown to people and not taken by a program
_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class IdRange:
    """Both ends belong to it."""

    first: UUID
    last: UUID

    @classmethod
    def of(cls, prefix: str) -> Self:
        """``prefix``: hexadecimal digits, at most 32."""
        return cls(UUID(prefix.ljust(_DIGITS, "0")), UUID(prefix.ljust(_DIGITS, "f")))
