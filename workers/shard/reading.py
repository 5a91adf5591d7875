"""From the opened rows of a shard to the groups that one call of a model can take. Nothing here runs a model or writes."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from db.actors import Lease
from db.audit.damage import DAMAGED
from db.queue.row import WorkRow
from workers.logs import place_of
from workers.tasks.reading import InvalidDefaults, Reader
from workers.tasks.task import Group, Names, Task

CHARS_PER_TOKEN: Final = 6  # a generous guess: text beyond the model's window costs (almost) nothing

log = logging.getLogger("textmill.shard")

Grouped = list[tuple[Group, list[WorkRow]]]


def read_rows(task: Task[Any], lease: Lease, spec: Mapping[str, Any], rows: Sequence[WorkRow], names: Names, *, max_labels: int) -> Grouped:
    """Rows by group, in the order of the groups' first rows, each in the file's order. Those that cannot run have failed."""
    try:
        reader = Reader(task, lease.endpoint, spec.get("defaults") or {}, model=lease.model, max_labels=max_labels)
    except InvalidDefaults as fault:
        for row in rows:
            row.fail(row.code or fault.code)
        return []
    groups: dict[str, tuple[Group, list[WorkRow]]] = {}
    for row in rows:
        if row.code is not None or row.payload is not None:
            continue
        if row.endpoint is not None and row.endpoint != lease.endpoint:
            row.fail("url_mismatch")
            continue
        try:  # whatever it is that the reading of a row fails on is its own, and no neighbour's
            row.ask = reader.ask(row.body, plain=row.endpoint is None) if row.body is not None else DAMAGED
        except Exception as error:  # a fault of ours, whose message may hold the row
            log.error("a row could not be read: %s at %s", type(error).__name__, place_of(error))
            row.ask = "engine_error"
        group = row.ask if isinstance(row.ask, str) else task.place(row.ask, names)
        if isinstance(group, str):
            row.fail(group)
            continue
        row.cost = len(row.body or b"")
        if group.card is not None and group.card.max_tokens and getattr(row.ask, "on_long", None) != "chunk":
            texts = len(getattr(row.ask, "texts", (None,)))
            row.cost = min(row.cost, texts * group.card.max_tokens * CHARS_PER_TOKEN)
        if group.card is not None and group.card.kind == "decoder":
            row.cost = task.decoder_cost(row.ask, row.cost)
        groups.setdefault(group.named, (group, []))[1].append(row)
    return list(groups.values())
