"""What a table is that was uploaded."""

from typing import Literal

import msgspec


class Table(msgspec.Struct, frozen=True, omit_defaults=True):
    """``form``: how a row's cells are kept: ``cells`` as a list in the order of ``names``, ``fields`` as an object. ``text``: the column
    whose value is the row's text. ``kinds``: what fields hold, by name. ``schema``: Arrow's own, of a Parquet file."""

    form: Literal["cells", "fields"]
    names: list[str]
    text: str | None = None
    kinds: dict[str, str] = {}
    schema: bytes | None = None
