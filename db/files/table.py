"""What a table is that was uploaded."""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

INT64: Final = range(-(2**63), 2**63)


class Table(msgspec.Struct, frozen=True, omit_defaults=True):
    """``form``: how a row's cells are kept: ``cells`` as a list in the order of ``names``, ``fields`` as an object. ``text``: the column
    whose value is the row's text. ``kinds``: what fields hold, by name. ``schema``: Arrow's own, of a Parquet file."""

    form: Literal["cells", "fields"]
    names: list[str]
    text: str | None = None
    kinds: dict[str, str] = {}
    schema: bytes | None = None


def unique(names: Iterable[str]) -> list[str]:
    """The same, with ``_2``, ``_3`` … behind those that were there before."""
    told: dict[str, None] = {}
    times: dict[str, int] = {}
    for name in names:
        found = name
        while found in told:
            times[name] = times.get(name, 1) + 1
            found = f"{name}_{times[name]}"
        told[found] = None
    return list(told)
