"""Before the rows of a step are read: which of them it is for, and what they say by then."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from db.queue.row import WorkRow
from workers.logs import place_of
from workers.tasks.body import TEXTS
from workers.tasks.steps import Step

_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode

log = logging.getLogger("textmill.shard")


def take_step(spec: Mapping[str, Any], endpoint: str, rows: Sequence[WorkRow]) -> None:
    """Of a job that reads what others made of its rows: those that it is not for are skipped, and the others get what they are read by. Of
    a line that is for another step's endpoint that is its text alone: what else it asks for, it asks of that step."""
    step = Step(spec)
    for row in rows:
        if row.code is None:
            try:
                step.take(row)
                if row.payload is None and row.body is not None and row.endpoint not in {None, endpoint}:
                    row.body, row.endpoint = _text_alone(row.body), None
            except Exception as error:  # a fault of ours, whose message may hold the row
                log.error("a row's step could not be taken: %s at %s", type(error).__name__, place_of(error))
                row.fail("engine_error")


def _text_alone(body: bytes) -> bytes:
    try:
        fields = _fields(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body  # its reading says what is wrong with it
    return _encode({name: raw for name, raw in fields.items() if name in TEXTS})
