"""What an answer must look like, as it was asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["json", "regex", "choice", "grammar"]


@dataclass(frozen=True, slots=True)
class Grammar:
    """``source``: of "json" a JSON schema, as an object or its text; of "choice" the texts; else a text. ``field``: the public name of the
    field that asked for it."""

    kind: Kind
    source: str | Mapping[str, Any] | Sequence[str]
    field: str

    @property
    def key(self) -> tuple[Kind, int]:
        """Equal for rows that take the job's: they share the source, and are not compared sign by sign."""
        return self.kind, id(self.source)
