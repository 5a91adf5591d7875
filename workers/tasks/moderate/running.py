"""Running a moderation: what a head or a classifier says to each text, by OpenAI's categories."""

import math
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from db.queue.row import WorkRow
from workers.models import languages, zero_shot
from workers.tasks.classify.running import SCORE_DIGITS, brought_labels, pooled_logits, version_of
from workers.tasks.moderate.task import CATEGORIES, UNFIT, moderates
from workers.tasks.task import Group, Ran, Work

_encode: Final = msgspec.json.Encoder().encode


def run(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
    encoder = work.runtime.encoder(group.model)
    texts = [row.ask.texts for row in rows]
    long = [row.ask.body for row, own in zip(rows, texts, strict=True) for _ in own]
    answered = encoder.answer(list(chain.from_iterable(texts)), long, work.ticket)
    began, version = time.perf_counter(), version_of(group, encoder)
    brought = brought_labels(group, encoder)
    labels, logits = brought if brought is not None else ((), None)
    end = 0
    for row, own in zip(rows, texts, strict=True):
        places = range(end, end := end + len(own))
        failed = next((answered.failed[place] for place in places if place in answered.failed), None)
        if logits is None or not moderates(labels):
            row.fail(UNFIT)
        elif failed is not None:
            row.fail(failed)
        else:
            scores = zero_shot.softmax(pooled_logits(answered, places, logits)).tolist()
            if not math.isfinite(sum(map(sum, scores))):
                row.fail("non_finite_output")
                continue
            tokens = sum(answered.tokens[place] for place in places)
            chunks = max(answered.pieces.count_of(place) for place in places)
            answer = {
                "id": f"modr_{work.lease.job_id.hex}{row.idx:08x}",
                "model": group.named,
                "model_version": version,
                "results": [_result(dict(zip(labels, one, strict=True))) for one in scores],
                "truncated": any(answered.truncated[place] for place in places),
                **({"chunks": chunks} if chunks > 1 else {}),
                "usage": {"input_tokens": tokens, "output_tokens": 0, "total_tokens": tokens},
            }
            row.complete(_encode(answer), tokens)
    answered.share.foreign_rows += languages.foreign_to(group.card, (row.ask.texts[0] for row in rows if row.code is None))
    answered.stages.seal = time.perf_counter() - began
    return Ran(version, answered.share, answered.stages)


def _result(scores: dict[str, float]) -> dict[str, Any]:
    """A text is of the category whose score is the highest, if that is one; of those that the model does not know nothing is said to have
    been looked at."""
    winner = max(scores, key=lambda label: scores[label])
    return {
        "flagged": winner in CATEGORIES,
        "categories": {name: name == winner for name in CATEGORIES},
        "category_scores": {name: round(scores.get(name, 0.0), SCORE_DIGITS) for name in CATEGORIES},
        "category_applied_input_types": {name: ["text"] if name in scores else [] for name in CATEGORIES},
    }
