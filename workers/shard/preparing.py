"""Between opening and reading: what a job makes of its rows before its task reads them. A row that a step cannot prepare has failed, and
meets no later one. Nothing here runs a model or writes."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Final

import msgspec
from msgspec import Raw

from db.actors import Lease
from db.audit.damage import DAMAGED
from db.files.table import Table
from db.queue.row import WorkRow
from db.queue.shards import OPEN_BYTES, Opened
from workers.content.columns import KeptRow, columns_of
from workers.content.prompts import Prompt, Turn, Unfilled, columns_meant
from workers.logs import place_of
from workers.shard.masking import mask_rows
from workers.shard.names import StoredNames
from workers.shard.steps import take_step
from workers.tasks.body import TEXTS, TextPlace, text_place
from workers.tasks.steps import STEPS, told_beside
from workers.tasks.steps import Step as ChainStep
from workers.tasks.task import Task

Step = Callable[[Sequence[WorkRow]], None]  # of rows that have not failed
PREPARED: Final = frozenset({"prompt", "redact", "sources"})  # what of a spec asks for a step
ROWS_AT_ONCE: Final = 256

_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode

log = logging.getLogger("textmill.shard")


def prepare(task: Task[Any], lease: Lease, opened: Opened, names: StoredNames) -> list[WorkRow]:
    """The rows to go on with: all, or as many as may be held at once of what was made of them, and the others another time."""
    rows, spec = opened.rows, opened.spec
    steps: list[Step] = []
    if lease.reads_columns:
        steps.append(partial(_name_cells, opened.table))
    if (redact := spec.get("redact")) is not None:
        steps.append(partial(mask_rows, redact))  # before anything else reads them
    if spec.get("sources"):
        steps.append(partial(take_step, spec, lease.endpoint))
    if (address := spec.get("prompt")) is not None:
        place = text_place(task.body_of(lease.endpoint))
        most = None if task.whole else OPEN_BYTES
        steps.append(Filling(names.prompt(address), opened.table, ChainStep(spec), place, most))
    for step in steps:
        step([row for row in rows if row.code is None and row.payload is None])
    if not steps or task.whole:
        return rows
    sizes = accumulate(len(row.body or b"") for row in rows)
    return rows[: max(1, sum(size <= OPEN_BYTES for size in sizes))]


def _name_cells(table: Table | None, rows: Sequence[WorkRow]) -> None:
    if table is None:  # what there was when the job was made somebody took
        for row in rows:
            row.fail(DAMAGED)
        return
    for first in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[first : first + ROWS_AT_ONCE]
        for row, columns in zip(part, columns_of(table, [KeptRow(row.body, row.kept) for row in part]), strict=True):
            row.columns = columns


class Filling:
    """The prompt in the place of each row's text; what else its body asks for stays. ``prompt`` may be a failure code. Once it
    has made more than ``most`` bytes it leaves the rows that follow for another time."""

    def __init__(self, prompt: Prompt | str, table: Table | None, chain: ChainStep, place: TextPlace, most: int | None) -> None:
        self._most = most
        self._prompt = prompt
        self._chain = chain
        self._place = place
        columns = [] if table is None else table.names
        self._meant = {} if isinstance(prompt, str) else columns_meant(prompt.names, [*columns, *told_beside(columns, chain)])[0]

    def __call__(self, rows: Sequence[WorkRow]) -> None:
        made = 0
        for row in rows:
            if self._most is not None and made > self._most:
                return
            if isinstance(self._prompt, str):
                row.fail(self._prompt)
            elif row.columns is None or row.body is None:
                row.fail(DAMAGED)
            else:
                try:
                    self._fill(row, self._prompt, row.columns, row.body)
                except Unfilled as unfilled:
                    row.fail(unfilled.code)
                except Exception as error:  # a fault of ours, whose message may hold the row
                    log.error("a prompt could not be filled in: %s at %s", type(error).__name__, place_of(error))
                    row.fail("engine_error")
                made += len(row.body)

    def _fill(self, row: WorkRow, prompt: Prompt, columns: Mapping[str, Any], body: bytes) -> None:
        cells = columns
        if self._chain.before:
            cells = {STEPS: {step.name: self._chain.told(row, at) for at, step in enumerate(self._chain.before)}, **columns}
        given = {name: cells.get(column) for name, column in self._meant.items()}
        chars = sum(map(len, (body, row.kept or b"", *row.answers)))
        row.body = body_of(body, self._place, prompt.fill(given, chars, cells if prompt.reads_all else None))
        row.kept = row.columns = None  # each as long as the row


def body_of(body: bytes, place: TextPlace, turns: Sequence[Turn]) -> bytes:
    own = {name: raw for name, raw in _fields(body).items() if name not in TEXTS}  # a prompt comes in their place
    return _encode({**own, place.field: turns if place.is_chat else turns[0].content})
