"""JSON of a job's row that is stored in the clear, held against what is written here: who alters the database puts anything there."""

import sys
from typing import Annotated, Any, Final

import msgspec

_Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]


class _Fault(msgspec.Struct):
    code: str
    line: int | None = None
    rows: int | None = None


KINDS: Final[dict[str, Any]] = {"errors": list[_Fault] | None, "metrics": dict[str, _Finite] | None}  # by column


def checked(column: str, stored: Any) -> tuple[Any, bool]:
    """What is stored, where it is of the column's kind, else None; and whether it is."""
    try:
        msgspec.convert(stored, KINDS[column])
    except msgspec.ValidationError:
        return None, False
    return stored, True
