"""The fields of JSON bodies, from the structs that read them."""

from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec

from api.reference.routes import all_routes, body_of, shown_path
from api.reference.tables import description, shown, table, type_words
from workers.tasks import TASKS


def requests() -> str:
    """Of every route that takes one."""
    sections = [
        f"### `{method} {shown_path(route)}`\n\n{_fields(kind)}"
        for route in all_routes()
        if (kind := body_of(route)) is not None
        for method in sorted(route.methods or ())
    ]
    return "\n\n".join(sections)


def tasks() -> str:
    """Of a row, by task and endpoint."""
    return "\n\n".join(
        f"### {task.name}: `{endpoint}`\n\n{_of_task(task.body_of(endpoint))}" for task in TASKS.values() for endpoint in task.endpoints
    )


def _of_task(kind: type[msgspec.Struct]) -> str:
    """Without defaults: a field that is left out takes the job's, and only then one of its own."""
    return table(("field", "type", "meaning"), ((field, words, meaning) for field, words, _, meaning in _rows(kind)))


def _fields(kind: type[msgspec.Struct]) -> str:
    return table(("field", "type", "default", "meaning"), _rows(kind))


def _rows(kind: type[msgspec.Struct]) -> Iterator[tuple[str, str, str, str]]:
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        hint: Any = hints[field.name]
        default = "needed" if field.required else shown(field.default)
        yield f"`{field.encode_name}`", type_words(hint), default, description(hint)
