"""Running an embedding: what the encoder says to each text, as it is."""

import base64
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from db.queue.row import WorkRow
from workers.arrays import Vectors
from workers.engines.contract.long_texts import DEFAULT_POOL
from workers.inference.encoder import Answered, Encoder
from workers.models import zero_shot
from workers.tasks.task import Group, Ran, Work

VECTOR_DIGITS: Final = 8  # of a unit vector's parts: below what float32 tells apart

_encode: Final = msgspec.json.Encoder().encode


def run(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
    encoder = work.runtime.encoder(group.model)
    answered = encoder.answer([row.ask.input for row in rows], [row.ask for row in rows], work.ticket)
    began = time.perf_counter()
    vectors, version = vectors_of(encoder, answered), encoder.engine.model_version
    for place, row in enumerate(rows):
        if place in answered.failed:
            row.fail(answered.failed[place])
        elif not np.isfinite(vectors[place]).all():
            row.fail("non_finite_output")
        else:
            row.complete(_payload(row, group.named, version, vectors[place], answered, place), answered.tokens[place])
    answered.stages.seal = time.perf_counter() - began
    return Ran(version, answered.share, answered.stages)


def vectors_of(encoder: Encoder, answered: Answered) -> Vectors:
    """[texts, d]: of unit length (a classifier's logits stay what they are); the row of a failed text is zero."""
    if not answered.pieces.chunked:
        return answered.vectors
    vectors = answered.pieces.pool(answered.vectors, range(len(answered.tokens)))
    vectors = vectors if encoder.engine.labels else zero_shot.unit(vectors)
    vectors[list(answered.failed)] = 0.0
    return vectors


def _payload(row: WorkRow, model: str, model_version: str, vector: Vectors, answered: Answered, place: int) -> bytes:
    """base64 is of little-endian float32: what the openai client asks for by default."""
    value: str | list[float]
    if row.ask.encoding_format == "base64":
        value = base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    else:
        value = np.round(vector.astype(np.float64), VECTOR_DIGITS).tolist()
    chunks, tokens = answered.pieces.count_of(place), answered.tokens[place]
    return _encode(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": value}],
            "model": model,
            "model_version": model_version,
            "truncated": answered.truncated[place],
            **({"chunks": chunks, "pool": row.ask.pool or DEFAULT_POOL} if chunks > 1 else {}),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
