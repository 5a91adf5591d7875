"""Fitting a head to the rows of a whole file, and storing it."""

from collections.abc import Sequence
from typing import Final

import msgspec

from db.catalogue import heads
from db.errors import TextmillError
from db.jobs.versions import address_of
from db.queue.row import WorkRow
from workers.batches.outcomes import BatchShare
from workers.batches.ticket import Ticket
from workers.stages import StageSeconds
from workers.tasks.embed.running import vectors_of
from workers.tasks.task import HEAD_PREFIX, Group, Ran, Work
from workers.training.head import TrainedHead, fit_head, is_too_large

# What the rows of a training file can be told; anything else is the worker's trouble, and tried again.
FAILURES: Final = {"too_few_labels", "too_few_examples"}

_encode: Final = msgspec.json.Encoder().encode


def run(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
    """A text that the model could not embed, and an example of a label that is left out, fails; the head is fitted to the others."""
    encoder = work.runtime.encoder(group.model)
    version = encoder.engine.model_version
    # Before any text is embedded: the model is a classifier itself, or the head would be too large.
    refused = "model_task_mismatch" if encoder.engine.labels else "too_large_head" if is_too_large([row.ask.label for row in rows]) else ""
    if refused:
        for row in rows:
            row.fail(refused)
        return Ran(version, BatchShare(), StageSeconds())
    answered = encoder.answer([row.ask.input for row in rows], None, Ticket(work.ticket.stop, work.lease.tenant_id))
    good = answered.good()
    try:
        trained = fit_head(vectors_of(encoder, answered)[good], [rows[place].ask.label for place in good])
    except TextmillError as error:
        if error.code not in FAILURES:
            raise
        for row in rows:
            row.fail(error.code)
        return Ran(version, answered.share, answered.stages)
    trained.card.update(base=group.model, base_version=version, skipped=len(answered.failed))
    stored = _store(work, group.model, trained)
    left_out = trained.left_out
    examples = sum(rows[place].ask.label not in left_out for place in good)
    for place, row in enumerate(rows):
        if place in answered.failed:
            row.fail(answered.failed[place])
        elif row.ask.label in left_out:
            row.fail("rare_label")
        else:
            row.complete(_payload(work, trained, stored, row, examples), 0)
    return Ran(stored.digest, answered.share, answered.stages)


def _store(work: Work, base: str, trained: TrainedHead) -> heads.StoredHead:
    if work.lease.head_id is None:
        raise TextmillError("This training job names no head to store; create it again.", code="engine_error")
    return heads.store_head(
        work.store,
        work.lease,
        head_id=work.lease.head_id,
        name=_name(work),
        base=base,
        card=trained.card,
        weights=trained.weights,
    )


def _payload(work: Work, trained: TrainedHead, stored: heads.StoredHead, row: WorkRow, examples: int) -> bytes:
    labels = trained.card["labels"]
    return _encode(
        {
            "id": f"trn_{work.lease.job_id.hex}{row.idx:08x}",
            "object": "training_row",
            "model": f"{HEAD_PREFIX}{address_of(_name(work), stored.version)}",
            "model_version": stored.digest,
            "label_count": len(labels) if isinstance(labels, list) else 0,
            "example_count": examples,
        }
    )


def _name(work: Work) -> str:
    return str(work.spec.get("head_name", ""))
