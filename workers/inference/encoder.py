"""A loaded encoder: its engine, its micro-batcher, and the way from texts to what the model says to each of their sequences.

Most texts are one sequence; one that is longer than the model reads may be several. Texts of a job with the same tokens are asked about
once.
"""

import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from workers.arrays import Ids, Vectors
from workers.batches.batcher import Batcher, Served
from workers.batches.outcomes import BatchShare, FailedRow
from workers.engines.contract.engine import EncoderEngine
from workers.engines.contract.long_texts import Long
from workers.engines.encoders.windows import Pieces
from workers.inference.duplicates import Duplicates
from workers.models.zero_shot import LabelSpace
from workers.stages import StageSeconds, queued

_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class Read:
    """Texts as sequences. `tokens` and `truncated` a text; `failed` texts are not asked about."""

    sequences: list[Ids]
    pieces: Pieces
    tokens: list[int]
    truncated: list[bool]
    failed: dict[int, FailedRow]
    stages: StageSeconds = field(default_factory=StageSeconds)


@dataclass(frozen=True, slots=True)
class Answered:
    """`vectors`: one a sequence; `failed`: by text."""

    vectors: Vectors
    read: Read
    failed: dict[int, FailedRow]
    share: BatchShare


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Encoder:
    """Whoever has one may use it to the end: should the process find a better way meanwhile, this one stays until nobody has it."""

    model_id: str
    engine: EncoderEngine
    batcher: Batcher[Ids, Any, Vectors]
    duplicates: Duplicates
    labels: LabelSpace

    def answer(
        self,
        texts: Sequence[str],
        *,
        long: Sequence[Long] | None,
        stop: threading.Event | None,
        job: bytes | None,
        interactive: bool,
        tenant: Hashable,
    ) -> Answered:
        """What the model says to every sequence of every text. A text fails with the first of its sequences that does."""
        read = self._read(texts, long)
        sequences, stages, pieces = read.sequences, read.stages, read.pieces
        vectors = np.zeros((len(sequences), self.engine.dimensions), np.float32)
        asked = [place for index in range(len(texts)) if index not in read.failed for place in pieces.of(index)]
        groups = self._same(job, asked, [sequences[place] for place in asked])
        known = self.duplicates.find(list(groups)) if job is not None else {}
        for key, vector in known.items():
            vectors[groups[key]] = vector
        fresh = [key for key in groups if key not in known]
        ids = [sequences[groups[key][0]] for key in fresh]
        lengths = [len(one) for one in ids]
        served = wait_served(self.batcher.submit(ids, lengths, stop, interactive=interactive, tenant=tenant), stages)
        spoilt: dict[int, FailedRow] = {}
        good = _place(vectors, spoilt, [groups[key] for key in fresh], served.answers)
        if job is not None:
            kept = [fresh[at] for at in good]
            self.duplicates.keep(kept, vectors[[groups[key][0] for key in kept]])
            served.share.duplicate_rows = float(len(asked) - len(fresh))
        failed = dict(read.failed)
        for place in sorted(spoilt):
            failed.setdefault(pieces.text_of(place), spoilt[place])
        return Answered(vectors, read, failed, served.share)

    def _read(self, texts: Sequence[str], long: Sequence[Long] | None) -> Read:
        """Texts to sequences."""
        started = time.perf_counter()
        tokens = self.engine.tokenize(texts)
        sequences = [one.ids for one in tokens]
        read = Read(sequences, Pieces.singles(len(texts)), [len(one) for one in sequences], [one.truncated for one in tokens], {})
        cut = [] if long is None else [index for index, one in enumerate(tokens) if one.truncated and long[index].on_long != "truncate"]
        if cut:
            assert long is not None
            split: dict[int, list[Ids]] = {}
            for index in cut:
                if long[index].on_long == "refuse":
                    read.failed[index] = FailedRow("input_too_long")
                else:
                    split[index] = self.engine.windows(texts[index], long[index].stride)
                    read.tokens[index], read.truncated[index] = sum(map(len, split[index])), False
            parts = [split.get(index, [sequence]) for index, sequence in enumerate(sequences)]
            read.sequences = list(chain.from_iterable(parts))
            read.pieces = Pieces.split([len(own) for own in parts], [one.pool for one in long])
        read.stages.tokenise = time.perf_counter() - started
        return read

    def _same(self, job: bytes | None, indices: Sequence[int], texts: Sequence[Ids]) -> dict[bytes, list[int]]:
        """Indices that take the same answer, by key, in the order of their first. Without a job each stands alone."""
        if job is None:
            return {index.to_bytes(8): [index] for index in indices}
        groups: dict[bytes, list[int]] = {}
        for index, key in zip(indices, self.duplicates.keys(job, self.engine.model_version, texts), strict=True):
            if (places := groups.get(key)) is None:
                groups[key] = [index]
            else:
                places.append(index)
        return groups


def _place(
    vectors: Vectors, failed: dict[int, FailedRow], places: Sequence[list[int]], answers: Sequence[Vectors | FailedRow]
) -> list[int]:
    """Puts each answer in all its places, all of them at once: a numpy call a row would cost more than the row's whole way here.

    Returns which answers were good. The places of the others are in `failed`, and their vectors stay as they are.
    """
    for own, answer in zip(places, answers, strict=True):
        if isinstance(answer, FailedRow):
            failed.update(dict.fromkeys(own, answer))
    answered = [at for at, answer in enumerate(answers) if not isinstance(answer, FailedRow)]
    if not answered:
        return []
    found = np.concatenate([answers[at] for at in answered]).reshape(len(answered), -1)
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        for spoilt in np.flatnonzero(~finite).tolist():
            failed.update(dict.fromkeys(places[answered[spoilt]], FailedRow("non_finite_output")))
        answered = [at for at, is_good in zip(answered, finite.tolist(), strict=True) if is_good]
        found = found[finite]
    vectors[[places[at][0] for at in answered]] = found
    for at in answered:
        if len(places[at]) > 1:
            vectors[places[at][1:]] = vectors[places[at][0]]
    return answered


def wait_served(call: Future[Served[_Answer]], stages: StageSeconds) -> Served[_Answer]:
    """Waits for a call, and sorts the time that took into the lanes' and the queue's."""
    started = time.perf_counter()
    served = call.result()
    stages.model = served.share.model_seconds
    stages.queue = queued(time.perf_counter() - started, stages.model)
    return served
