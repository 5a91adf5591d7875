"""The fields of JSON bodies, from the structs that read them."""

from collections.abc import Iterator
from typing import Any, Final, get_type_hints

import msgspec

from api.reference.routes import all_routes, body_of
from api.reference.tables import description, shown, table, type_words
from workers.tasks import TASKS

MEANINGS: Final = {
    "model": "A model of `GET /v1/models`; otherwise the first that does the task.",
    "classify.model": "A model of `GET /v1/models`, or `head:NAME`; otherwise the first that does the task.",
    "train.model": "Left aside: the job names the encoder.",
    "input": "The text.",
    "generate.input": "The text of a plain row: the user's turn behind the messages, or the prompt.",
    "label": "What the row is known to be. Left aside: one file may serve training too.",
    "train.label": "What the row is known to be, of at most 1,000 characters.",
    "labels": "At least two, each once, of at most 1,000 characters; at most `TEXTMILL_MAX_LABELS`. Not with a head.",
    "label_set": "The name of a stored set, in place of `labels`.",
    "templates": "1 to 32 sentences with `{}` where the label goes, such as `news about {}`.",
    "on_long": "A text longer than the model reads: cut it (as by default), fail the row, or read it in windows.",
    "pool": "How the windows of a text become one answer; `mean` by default.",
    "stride": "Tokens that a window shares with the one before it; 32 by default, half a window at most.",
    "encoding_format": "`base64` is little-endian float32; `float` by default.",
    "user": "Taken, and left aside.",
    "messages": "Each with `role` (`system`, `developer`, `user`, `assistant`), `content` and maybe `name`. Chat only.",
    "prompt": "The text to go on with. `/v1/completions` only.",
    "max_tokens": "The longest answer; 256 by default, and never more than the model has room for behind the prompt.",
    "max_completion_tokens": "The newer name of `max_tokens`; it goes before that.",
    "temperature": "0, as by default, always takes the likeliest token.",
    "top_p": "Draw from the likeliest tokens that make up this probability together.",
    "seed": "Makes sampling repeatable on the same machine.",
    "stop": "Up to four texts at which the answer ends.",
    "n": "One answer a row.",
}  # where the struct does not say it; of one task alone, by ``task.field``


def requests() -> str:
    """Of every route that takes one."""
    sections = [
        f"### `{method} {route.path}`\n\n{_fields(kind)}"
        for route in all_routes()
        if (kind := body_of(route)) is not None
        for method in sorted(route.methods or ())
    ]
    return "\n\n".join(sections)


def tasks() -> str:
    """Of a row, by task."""
    return "\n\n".join(
        f"### {task.name}: {', '.join(f'`{endpoint}`' for endpoint in task.endpoints)}\n\n{_of_task(task.name, task.body)}"
        for task in TASKS.values()
    )


def _of_task(task: str, kind: type[msgspec.Struct]) -> str:
    """Without defaults: a field that is left out takes the job's, and only then one of its own."""
    rows = (
        (field, words, meaning or MEANINGS.get(f"{task}.{field.strip('`')}") or MEANINGS.get(field.strip("`"), ""))
        for field, words, _, meaning in _rows(kind)
    )
    return table(("field", "type", "meaning"), rows)


def _fields(kind: type[msgspec.Struct]) -> str:
    return table(("field", "type", "default", "meaning"), _rows(kind))


def _rows(kind: type[msgspec.Struct]) -> Iterator[tuple[str, str, str, str]]:
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        hint: Any = hints[field.name]
        default = "needed" if field.required else shown(field.default)
        yield f"`{field.encode_name}`", type_words(hint), default, description(hint)
