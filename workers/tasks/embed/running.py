"""Running an embedding: what the encoder says to each text, as it is."""

import base64
import time
from collections.abc import Sequence
from itertools import chain
from typing import Final

import msgspec
import numpy as np

from db.queue.row import WorkRow
from workers.arrays import Vectors
from workers.engines.contract.long_texts import DEFAULT_POOL
from workers.inference.encoder import Answered, Encoder
from workers.models import languages, zero_shot
from workers.tasks.task import Group, Ran, Work

VECTOR_DIGITS: Final = 8  # of a unit vector's parts: below what float32 tells apart

_encode: Final = msgspec.json.Encoder().encode


def run(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
    encoder = work.runtime.encoder(group.model)
    texts = [row.ask.texts for row in rows]
    long = [row.ask for row, own in zip(rows, texts, strict=True) for _ in own]
    answered = encoder.answer(list(chain.from_iterable(texts)), long, work.ticket)
    began = time.perf_counter()
    vectors, version = vectors_of(encoder, answered), encoder.engine.model_version
    spoilt = set(np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist())
    end = 0
    for row, own in zip(rows, texts, strict=True):
        places = range(end, end := end + len(own))
        failed = next((answered.failed[place] for place in places if place in answered.failed), None)
        if not _has(group, encoder.engine.dimensions, row.ask.dimensions):
            row.fail(f"invalid_field:dimensions:{_choices(group, encoder.engine.dimensions)}")
        elif failed is not None:
            row.fail(failed)
        elif not spoilt.isdisjoint(places):
            row.fail("non_finite_output")
        else:
            payload = _payload(row, group.named, version, vectors, answered, places)
            row.complete(payload, sum(answered.tokens[place] for place in places))
    first = (row.ask.texts[0] for row in rows if row.code is None)
    answered.share.foreign_rows += languages.foreign_to(group.card, (text for text in first if isinstance(text, str)))
    answered.stages.seal = time.perf_counter() - began
    return Ran(version, answered.share, answered.stages)


def _has(group: Group, own: int, wanted: int | None) -> bool:
    """Whether the model has vectors of so many numbers, or was trained to have its own cut to them."""
    shorter = None if group.card is None else group.card.shorter
    return wanted in (None, own) or (shorter is not None and wanted is not None and (wanted in shorter or (not shorter and wanted < own)))


def _choices(group: Group, own: int) -> str:
    shorter = None if group.card is None else group.card.shorter
    if shorter is None:
        return f"{own}, which is what the model has"
    return f"one of {', '.join(map(str, sorted({*shorter, own})))}" if shorter else f"at most {own}"


def vectors_of(encoder: Encoder, answered: Answered) -> Vectors:
    """[texts, d]: of unit length (a classifier's logits stay what they are); the row of a failed text is zero."""
    if not answered.pieces.chunked:
        return answered.vectors
    vectors = answered.pieces.pool(answered.vectors, range(len(answered.tokens)))
    vectors = vectors if encoder.engine.labels else zero_shot.unit(vectors)
    vectors[list(answered.failed)] = 0.0
    return vectors


def _payload(row: WorkRow, model: str, model_version: str, vectors: Vectors, answered: Answered, places: range) -> bytes:
    """``places``: of the row's texts. ``chunks``: of the text with most of them."""
    own = vectors[list(places)]
    if row.ask.dimensions is not None and row.ask.dimensions < own.shape[1]:
        own = zero_shot.unit(own[:, : row.ask.dimensions])
    values = [_value(vector, row.ask.encoding_format) for vector in own]
    chunks = max(answered.pieces.count_of(place) for place in places)
    tokens = sum(answered.tokens[place] for place in places)
    return _encode(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": value} for index, value in enumerate(values)],
            "model": model,
            "model_version": model_version,
            "truncated": any(answered.truncated[place] for place in places),
            **({"all_unknown": True} if answered.unknown.issuperset(places) else {}),
            **({"chunks": chunks, "pool": row.ask.pool or DEFAULT_POOL} if chunks > 1 else {}),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _value(vector: Vectors, encoding_format: str | None) -> str | list[float]:
    """base64 is of little-endian float32: what the openai client asks for by default."""
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    rounded: list[float] = np.round(vector.astype(np.float64), VECTOR_DIGITS).tolist()
    return rounded
