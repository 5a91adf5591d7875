"""A row as definitions see it: its cells by column, each a text, a number, or nothing. Columns may hold JSON of any kind."""

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

_NUMBER: Final = re.compile(r"\s*[+-]?(?:[0-9]{1,300}(?:\.[0-9]{0,300})?|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,3})?\s*")


class Row(msgspec.Struct, gc=False):
    """What a definition may look at. Of a writer that draws, ``draw``: the next number of [0, 1); ``variant``: which of its text it
    took."""

    cells: Mapping[str, Any]
    text: str = ""
    draw: Callable[[], float] | None = None
    variant: int = 0


def text_of(cell: Any) -> str:
    """Nothing is the empty text; numbers and truth values are as JSON writes them, and so is what is nested."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Decimal):
        return str(cell)
    return "" if cell is None else msgspec.json.encode(cell).decode()


def number_of(cell: Any) -> int | float | Decimal | None:
    """Of a number, and of a text that is one in digits, with a point where it is a fraction (`1200`, `-3.5`, `1e3`); None of all else, of
    `1,200` too, which is one number to some and another to others."""
    if isinstance(cell, str):
        if _NUMBER.fullmatch(cell) is None:
            return None
        try:
            return int(cell)
        except ValueError:
            cell = float(cell)
    if isinstance(cell, bool) or not isinstance(cell, int | float | Decimal):
        return None
    return cell if isinstance(cell, int) or math.isfinite(cell) else None


def is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and (not cell or cell.isspace()))
