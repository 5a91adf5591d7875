"""Running a classification by a decoder: it is asked for the label, and how likely each is to follow is read off its scores.

A model that answers is shown the list of labels, in one order or in several; one that only goes on with texts is not, unless there is more
to say of them. A long text is asked about in windows. Each is a prompt, whose scores are made logprobs over the labels. Those of the orders
are averaged, so that what a place in the list is worth cancels out.

Where they are calibrated, what a label gets behind texts that say nothing is taken off: T. Zhao et al., Calibrate Before Use (ICML 2021);
without a list that is the pointwise mutual information of A. Holtzman et al., Surface Form Competition (EMNLP 2021). Those texts are asked
about with the rows of each call, with which they share what they begin with; so nothing of one call is kept for another.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from db.queue.row import WorkRow
from workers.arrays import Ids, Vectors
from workers.batches.outcomes import FailedRow, Stopped
from workers.batches.ticket import Ticket
from workers.engines.contract.choices import AlikeChoices, Choices, Scored
from workers.engines.contract.decoding import Answer, Asking, DecoderRow
from workers.engines.contract.long_texts import DEFAULT_POOL, DEFAULT_STRIDE
from workers.engines.encoders.windows import Pieces
from workers.inference.encoder import Answered
from workers.logs import place_of
from workers.models import languages, zero_shot
from workers.stages import queued
from workers.tasks.classify.prompt import NOTHING, orders, question, written
from workers.tasks.classify.running import Form
from workers.tasks.classify.task import ClassifyBody
from workers.tasks.task import Group, Ran, Work

LEAST_ROOM: Final = 16  # tokens of a text: with less, its labels are to blame
LEAST_PART: Final = 0.25  # of what a prompt may have, for a text in windows: with less, the list is read over and over for a few words
MOST_TOKENS: Final = 1 << 22  # of all prompts of a row: some minutes of a small model, and 16 MB

log = logging.getLogger("textmill.engines")


class LabelList:
    """Labels as one model is asked for them: made once for all rows that have them. ``fault``: the failure code of all of these."""

    def __init__(self, asking: Asking, max_tokens: int, ask: ClassifyBody) -> None:
        self.labels = tuple(ask.labels or ())
        self.label_set = ask.label_set
        self.fault = ""
        self._asking = asking
        self._descriptions: Mapping[str, str] = ask.descriptions or {}
        self._is_listed = not asking.goes_on or bool(self._descriptions) or ask.rotations is not None
        self._orders = orders(self.labels, ask.rotations or 1)
        self._normalised = bool(ask.length_normalised)
        self._calibrated = asking.goes_on if ask.calibrated is None else ask.calibrated
        self.blank: Sequence[Sequence[Ids]] = ()  # of each text that says nothing the prompts
        self._bias: NDArray[np.float64] | float = 0.0  # [orders, labels]: what they get behind those texts
        answers, left = list[Ids](), max_tokens
        for label in self.labels:
            answers.append(asking.answer(written(label)))
            if (left := left - len(answers[-1])) < 0:  # and the list would be longer still
                self.fault = "labels_too_long"
                return
        try:
            self.choices = Choices(answers, asking.closing_ids)
        except AlikeChoices:
            self.fault = "labels_alike"
            return
        self._limit = max_tokens - self.choices.deepest
        empty = self._prompts("")
        if isinstance(empty, FailedRow):
            self.fault = empty.code
            return
        self._room = self._limit - _longest(empty)  # tokens of a text
        if self._room < LEAST_ROOM:
            self.fault = "labels_too_long"
        elif self._calibrated:
            self.blank = [prompts for prompts in map(self._prompts, NOTHING) if not isinstance(prompts, FailedRow)]

    def _prompts(self, text: str) -> list[Ids] | FailedRow:
        """One for each order, up to the first that is too long."""
        prompts = list[Ids]()
        for labels in self._orders:
            ids = self._asking.question(*question(labels if self._is_listed else (), self._descriptions, text))
            if isinstance(ids, FailedRow):
                return ids
            prompts.append(ids)
            if len(ids) > self._limit:
                break
        return prompts

    def read(self, ask: ClassifyBody, ticket: Ticket) -> "Reading | FailedRow":
        """The prompts of a text; the labels are never cut. Raises Stopped."""
        text = ask.input or ""
        prompts = self._prompts(text)
        if isinstance(prompts, FailedRow) or _longest(prompts) <= self._limit:
            return prompts if isinstance(prompts, FailedRow) else Reading([prompts], is_cut=False)
        if ask.on_long == "refuse":
            return FailedRow("input_too_long")
        in_windows, stride = ask.on_long == "chunk", DEFAULT_STRIDE if ask.stride is None else ask.stride
        if in_windows and self._room < self._limit * LEAST_PART:
            return FailedRow("labels_too_long")
        ends = self._asking.token_ends(text, None if in_windows else self._room)
        shared = min(stride, self._room // 2)
        expected = -(-(len(ends) - shared) // (self._room - shared))
        if in_windows and expected * len(self._orders) * self._limit > MOST_TOKENS:
            return FailedRow("too_many_windows")
        windows, first = list[list[Ids]](), 0
        while True:
            if ticket.stopped:
                raise Stopped
            found = self._window(text, ends, first)
            if isinstance(found, FailedRow):
                return found
            prompts, tokens = found
            windows.append(prompts)
            if not in_windows or first + tokens >= len(ends):
                return Reading(windows, is_cut=not in_windows)
            first += tokens - min(stride, tokens // 2)

    def _window(self, text: str, ends: Sequence[int], first: int) -> tuple[list[Ids], int] | FailedRow:
        """The prompts of as much of a text as there is room for, and how many of its tokens that is. By itself a piece may be other tokens
        than in the whole."""
        tokens = min(self._room, len(ends) - first)
        while tokens > 0:
            prompts = self._prompts(text[ends[first - 1] if first else 0 : ends[first + tokens - 1]])
            if isinstance(prompts, FailedRow):
                return prompts
            too_many = _longest(prompts) - self._limit
            if too_many <= 0:
                return prompts, tokens
            tokens -= too_many
        return FailedRow("labels_too_long")

    def calibrate(self, answers: Sequence[Answer | FailedRow]) -> None:
        """``answers``: to the prompts of ``blank``."""
        self.fault = _failed(answers) or ""
        if answers and not self.fault:
            self._bias = self._sums([one for one in answers if isinstance(one, Scored)]).mean(axis=0)

    def logprobs(self, scored: Sequence[Scored]) -> Vectors:
        """[windows, labels], each row over the labels, from what is held of each window in each order."""
        sums = self._sums(scored) - self._bias
        averaged: Vectors = (sums - np.logaddexp.reduce(sums, axis=2, keepdims=True)).mean(axis=1)
        return averaged

    def _sums(self, scored: Sequence[Scored]) -> NDArray[np.float64]:
        """[texts, orders, labels]: of each prompt, logprobs but for a number that its labels share."""
        sums = np.array([one.logprobs for one in scored]).reshape(-1, len(self._orders), len(self.labels))
        if self._normalised:
            sums /= self.choices.lengths
        return sums


@dataclass(frozen=True, slots=True)
class Reading:
    """``windows``: of each the prompts."""

    windows: Sequence[Sequence[Ids]]
    is_cut: bool

    @property
    def tokens(self) -> int:
        return sum(len(ids) for prompts in self.windows for ids in prompts)


def run(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
    began = time.perf_counter()
    decoder = work.runtime.decoder(group.model)
    engine, asking = decoder.engine, decoder.engine.asking
    lists: dict[tuple[object, ...], LabelList] = {}
    read: list[tuple[WorkRow, LabelList, Reading]] = []
    for row in rows:
        if work.ticket.stopped:
            raise Stopped
        own_reading = _read(lists, asking, engine.max_tokens, row.ask, work.ticket)
        if isinstance(own_reading, FailedRow):
            row.fail(own_reading.code)
        else:
            read.append((row, *own_reading))
    readings = [reading for _, _, reading in read]
    answered = Answered(
        [],
        Pieces.split([len(one.windows) for one in readings], [row.ask.pool or DEFAULT_POOL for row, _, _ in read]),
        [one.tokens for one in readings],
        [one.is_cut for one in readings],
    )
    used = list(dict.fromkeys(own for _, own, _ in read))
    asked_about = [*((own, own.blank) for own in used), *((own, reading.windows) for _, own, reading in read)]
    prompts = [(own, order, ids) for own, windows in asked_about for window in windows for order, ids in enumerate(window)]
    # Those of one list in one order follow each other: they begin alike, and what they begin with is kept for a while only.
    turns = sorted(range(len(prompts)), key=lambda at: (id(prompts[at][0]), prompts[at][1]))
    asked = [DecoderRow(ids, 1, tenant=work.ticket.tenant, choices=own.choices) for own, _, ids in (prompts[turn] for turn in turns)]
    asked_at = time.perf_counter()
    call = decoder.batcher.submit(asked, work.ticket).result()
    answered.share, answered.stages.model = call.share, call.share.model_seconds
    answered.stages.queue = queued(time.perf_counter() - asked_at, call.share.model_seconds)
    sealed_at = time.perf_counter()
    found_at = dict(zip(turns, call.answers, strict=True))
    found = (found_at[at] for at in range(len(prompts)))
    for own in used:
        own.calibrate(list(islice(found, sum(map(len, own.blank)))))
    forms: dict[LabelList, Form] = {}
    for place, (row, own, reading) in enumerate(read):
        answers = list(islice(found, sum(map(len, reading.windows))))
        if failed := own.fault or _failed(answers):
            row.fail(failed)
            continue
        scored = [one for one in answers if isinstance(one, Scored)]
        if own not in forms:
            forms[own] = Form(
                work.lease.job_id, model=group.named, model_version=engine.model_version, labels=own.labels, label_set=own.label_set
            )
        scores = zero_shot.softmax(answered.pieces.pool(own.logprobs(scored), [place]))[0]
        forms[own].fill(row, answered, place, scores.tolist(), int(scores.argmax()))
        answered.share.cached_tokens += sum(one.cached_tokens for one in scored)
        answered.share.truncated_rows += reading.is_cut
    answered.share.foreign_rows += languages.foreign_to(group.card, (row.ask.input for row, _, _ in read if row.code is None))
    answered.stages.tokenise, answered.stages.seal = asked_at - began, time.perf_counter() - sealed_at
    return Ran(engine.model_version, answered.share, answered.stages)


def _read(
    lists: dict[tuple[object, ...], LabelList], asking: Asking | None, max_tokens: int, ask: ClassifyBody, ticket: Ticket
) -> tuple[LabelList, Reading] | FailedRow:
    """Whatever it is that this fails on is the row's own, and no neighbour's. ``lists``: by what is the same object, since rows of one job
    are not compared label by label, and by what they hold."""
    if asking is None:
        return FailedRow("no_label_scores")
    same = id(ask.labels), id(ask.descriptions), ask.label_set, ask.rotations, ask.length_normalised, ask.calibrated
    try:
        if same not in lists:
            alike = tuple(ask.labels or ()), frozenset((ask.descriptions or {}).items()), *same[2:]
            lists[same] = lists.get(alike) or lists.setdefault(alike, LabelList(asking, max_tokens, ask))
        own = lists[same]
        reading = FailedRow(own.fault) if own.fault else own.read(ask, ticket)
    except (MemoryError, Stopped):
        raise
    except Exception as error:  # a fault of ours or of a tokenizer's, whose message may hold the text
        log.error("a text could not be read: %s at %s", type(error).__name__, place_of(error))
        return FailedRow("engine_error")
    return reading if isinstance(reading, FailedRow) else (own, reading)


def _longest(prompts: Sequence[Ids]) -> int:
    return max(map(len, prompts))


def _failed(answers: Sequence[Answer | FailedRow]) -> str | None:
    return next((one.code for one in answers if isinstance(one, FailedRow)), None)
