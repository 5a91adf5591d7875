"""Running a classification by rules: no model sees the rows."""

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from db.queue.row import WorkRow
from workers.batches.outcomes import BatchShare, Stopped
from workers.stages import StageSeconds
from workers.tasks.reading import MAX_LABEL_CHARS
from workers.tasks.task import Group, Ran, Work

_encode: Final = msgspec.json.Encoder().encode


def run(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
    writer = group.writer
    assert writer is not None
    began = time.perf_counter()
    same = {"object": "classification", "model": group.named, "model_version": writer.version}
    rest = {"truncated": False, "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}}
    for row in rows:
        if work.ticket.stopped:
            raise Stopped
        found = writer.write(row, row.ask.input or "")
        if isinstance(found, str):
            row.fail(found)
        elif len(found.text) > MAX_LABEL_CHARS:
            row.fail("answer_too_long")
        else:
            label = {"label": found.text, "scores": {found.text: 1.0}, "rule": found.rule}
            row.complete(_encode({"id": f"cls_{work.lease.job_id.hex}{row.idx:08x}", **same, **label, **rest}), 0)
    seconds = time.perf_counter() - began
    return Ran(writer.version, BatchShare(batches=1.0, model_seconds=seconds), StageSeconds(model=seconds))
