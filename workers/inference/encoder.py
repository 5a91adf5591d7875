"""A loaded encoder: its engine, its micro-batcher, and the way from texts to what the model says to each of their sequences.

Most texts are one sequence; one that is longer than the model reads may be several. Texts of a job with the same tokens are asked about
once.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from workers.arrays import Ids, Vectors
from workers.batches.batcher import Batcher
from workers.batches.outcomes import BatchShare, FailedRow
from workers.batches.ticket import NOBODY, Ticket
from workers.engines.contract.engine import EncoderEngine
from workers.engines.contract.long_texts import DEFAULT_POOL, DEFAULT_STRIDE, LongText
from workers.engines.encoders.windows import Pieces
from workers.inference.duplicates import Duplicates
from workers.models.zero_shot import LabelSpace
from workers.stages import StageSeconds, queued

Text = str | Sequence[int]


@dataclass(slots=True)
class Answered:
    """Texts as sequences (``pieces``: which are whose), and what the model said: ``vectors`` one a sequence.

    ``tokens`` and ``truncated`` a text; ``unknown``: texts of which the model knows not one token; ``failed``: by text, with the code of
    the first of its sequences that did.
    """

    sequences: list[Ids]
    pieces: Pieces
    tokens: list[int]
    truncated: list[bool]
    vectors: Vectors = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    failed: dict[int, str] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    share: BatchShare = field(default_factory=BatchShare)
    stages: StageSeconds = field(default_factory=StageSeconds)

    def good(self) -> list[int]:
        """Texts that did not fail."""
        return [index for index in range(len(self.tokens)) if index not in self.failed]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Encoder:
    """Whoever has one may use it to the end: should the process find a better way meanwhile, this one stays until nobody has it."""

    model_id: str
    engine: EncoderEngine
    batcher: Batcher[Ids, Any, Vectors]
    duplicates: Duplicates
    labels: LabelSpace

    def answer(self, texts: Sequence[Text], long: Sequence[LongText] | None = None, ticket: Ticket = NOBODY) -> Answered:
        """What the model says to every sequence of every text, which may come as its tokens. ``long``: what becomes of a text that is
        longer than the model reads, one a text; without it such a text is cut and marked.

        Blocks until all rows are done. Raises Stopped before the next batch of its rows once the ticket's ``stop`` is set, and EngineBroken
        where the process must end.
        """
        read = self._read(texts, long)
        asked = [place for index in read.good() for place in read.pieces.of(index)]
        read.vectors = np.zeros((len(read.sequences), self.engine.dimensions), np.float32)
        keys = self.duplicates.keys(ticket.job, self.engine.model_version, [read.sequences[place] for place in asked])
        groups: dict[bytes, list[int]] = {}  # places that take the same answer, by key, in the order of their first
        for place, key in zip(asked, keys, strict=True):
            if (same := groups.get(key)) is None:
                groups[key] = [place]
            else:
                same.append(place)
        known = self.duplicates.find(list(groups)) if ticket.job is not None else {}
        for key, vector in known.items():
            read.vectors[groups[key]] = vector
        fresh = [key for key in groups if key not in known]
        ids = [read.sequences[groups[key][0]] for key in fresh]
        began = time.perf_counter()
        call = self.batcher.submit(ids, [len(one) for one in ids], ticket).result()
        read.share = call.share
        read.stages.model = call.share.model_seconds
        read.stages.queue = queued(time.perf_counter() - began, read.stages.model)
        spoilt: dict[int, str] = {}
        good = _place(read.vectors, spoilt, [groups[key] for key in fresh], call.answers)
        if ticket.job is not None:
            kept = [fresh[at] for at in good]
            self.duplicates.keep(kept, read.vectors[[groups[key][0] for key in kept]])
            read.share.duplicate_rows = float(len(asked) - len(fresh))
        for place in sorted(spoilt):
            read.failed.setdefault(read.pieces.text_of(place), spoilt[place])
        read.share.truncated_rows = float(sum(read.truncated[index] for index in read.good()))
        return read

    def _take_tokens(self, read: Answered, index: int, ids: Sequence[int]) -> None:
        """A text that comes as the model's own tokens is neither cut nor read in windows."""
        own = self.engine.own_tokens(ids)
        if own is None:
            read.failed[index] = "invalid_field:input:tokens of the model's own tokenizer, with its marks at both ends"
        elif len(own) > self.engine.max_tokens:
            read.failed[index] = f"input_too_long:input:{self.engine.max_tokens}"
        else:
            read.sequences[index], read.tokens[index] = own, len(own)

    def _read(self, given: Sequence[Text], long: Sequence[LongText] | None) -> Answered:
        """Texts to sequences."""
        began = time.perf_counter()
        texts = [text if isinstance(text, str) else "" for text in given]
        sequences, truncated = self.engine.tokenize(texts)
        read = Answered(sequences, Pieces.singles(len(texts)), [len(one) for one in sequences], truncated)
        for index, text in enumerate(given):
            if not isinstance(text, str):
                self._take_tokens(read, index, text)
        whole = {None, "truncate"}
        if (unknown := self.engine.unknown_id) is not None:
            for index, ids in enumerate(sequences):
                if len(ids) > 2 and ids[1] == unknown and len(set(ids[1:-1].tolist())) == 1:
                    read.unknown.add(index)
        cut = [index for index, was in enumerate(truncated) if was and long is not None and long[index].on_long not in whole]
        if cut and long is not None:
            split: dict[int, list[Ids]] = {}
            for index in cut:
                if long[index].on_long == "refuse":
                    read.failed[index] = "input_too_long"
                else:
                    stride = long[index].stride
                    split[index] = self.engine.windows(texts[index], DEFAULT_STRIDE if stride is None else stride)
                    read.tokens[index], truncated[index] = sum(map(len, split[index])), False
            parts = [split.get(index, [sequence]) for index, sequence in enumerate(sequences)]
            read.sequences = list(chain.from_iterable(parts))
            read.pieces = Pieces.split([len(own) for own in parts], [one.pool or DEFAULT_POOL for one in long])
        read.stages.tokenise = time.perf_counter() - began
        return read


def _place(vectors: Vectors, failed: dict[int, str], places: Sequence[list[int]], answers: Sequence[Vectors | FailedRow]) -> list[int]:
    """Puts each answer in all its places, all of them at once: a numpy call a row would cost more than the row's whole way here.

    Returns which answers were good. The places of the others are in `failed`, and their vectors stay as they are.
    """
    for own, answer in zip(places, answers, strict=True):
        if isinstance(answer, FailedRow):
            failed.update(dict.fromkeys(own, answer.code))
    answered = [at for at, answer in enumerate(answers) if not isinstance(answer, FailedRow)]
    if not answered:
        return []
    found = np.concatenate([answers[at] for at in answered]).reshape(len(answered), -1)
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        for spoilt in np.flatnonzero(~finite).tolist():
            failed.update(dict.fromkeys(places[answered[spoilt]], "non_finite_output"))
        answered = [at for at, is_good in zip(answered, finite.tolist(), strict=True) if is_good]
        found = found[finite]
    vectors[[places[at][0] for at in answered]] = found
    for at in answered:
        if len(places[at]) > 1:
            vectors[places[at][1:]] = vectors[places[at][0]]
    return answered
