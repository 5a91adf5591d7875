"""The checks of a job, from the structs that read them."""

from typing import get_type_hints

import msgspec

from api.reference.tables import shown, table, type_words
from workers.content.checks import KINDS, Check


def part() -> str:
    return table(("`check`", "fields", "passes what"), [(f"`{name}`", _fields(kind), kind.means) for name, kind in KINDS.items()])


def _fields(kind: type[Check]) -> str:
    hints = get_type_hints(kind, include_extras=True)
    told = []
    for field in msgspec.structs.fields(kind):
        default = "" if field.required or field.default is None else f", {shown(field.default)} by default"
        told.append(f"`{field.encode_name}`: {type_words(hints[field.name])}{default}")
    return "; ".join(told)
