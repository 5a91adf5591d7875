"""Before anything else of a job that masks reads its rows: what is sensitive in them is masked."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from db.queue.row import WorkRow
from workers.content.masks import JobMasks, Unmaskable
from workers.logs import place_of

log = logging.getLogger("textmill.shard")


def mask_rows(redact: Mapping[str, Any], rows: Sequence[WorkRow]) -> None:
    """``redact``: of the job's spec. A row that cannot be masked has failed: no model sees it."""
    masks = JobMasks(redact)
    for row in rows:
        if row.code is None and row.body is not None:
            try:
                _mask(masks, row, row.body)
            except Unmaskable as unmaskable:
                row.fail(unmaskable.code)
            except Exception as error:  # a fault of ours, whose message may hold the row
                log.error("a row could not be masked: %s at %s", type(error).__name__, place_of(error))
                row.fail("engine_error")


def _mask(masks: JobMasks, row: WorkRow, body: bytes) -> None:
    own = masks.of_row(body, row.kept)
    row.body = own.body(body)
    row.columns = None if row.columns is None else own.columns(row.columns)
    row.answers = tuple(masks.of_answer(answer) for answer in row.answers)
