"""Before the rows of a step are read: which of them it is for, and what they say by then."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from db.queue.row import WorkRow
from workers.logs import place_of
from workers.tasks.steps import Step

log = logging.getLogger("textmill.shard")


def take_step(spec: Mapping[str, Any], rows: Sequence[WorkRow]) -> None:
    """Of a job that reads what others made of its rows: those that it is not for are skipped, and the others get what they are read by."""
    step = Step(spec)
    for row in rows:
        if row.code is None:
            try:
                step.take(row)
            except Exception as error:  # a fault of ours, whose message may hold the row
                log.error("a row's step could not be taken: %s at %s", type(error).__name__, place_of(error))
                row.fail("engine_error")
