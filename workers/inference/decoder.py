"""A loaded decoder: its engine, the lanes that run it, and the way from prompts to what the model goes on to say."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from workers.arrays import Ids
from workers.batches.outcomes import BatchShare, FailedRow
from workers.batches.ticket import NOBODY, Ticket
from workers.engines.contract.decoding import Answer, DecoderEngine, DecoderRow, Generation
from workers.engines.contract.generation import GenerateRequest
from workers.grammars.compiling import TOO_COMPLEX, Unusable, code_of, fault, meets
from workers.grammars.grammar import Kind
from workers.grammars.masks import GrammarMask, Vocabulary
from workers.inference.continuous import ContinuousBatcher
from workers.logs import place_of
from workers.stages import StageSeconds, queued

if TYPE_CHECKING:
    from llguidance import LLMatcher

# What was made of a grammar, or the failure code of its rows. For an engine without a vocabulary it is tried out alone.
Matchers: TypeAlias = "Mapping[tuple[Kind, int], LLMatcher | str | None]"
LEAST_TOKENS: Final = 1
LONG_SECONDS: Final = 3600.0

log = logging.getLogger("textmill.engines")


class Answering:
    """Requests on their way, for one thread that takes the answers as they come. ``stages``: what was taken so far took."""

    def __init__(self, decoder: "Decoder", requests: Sequence[GenerateRequest], ticket: Ticket) -> None:
        began = time.perf_counter()
        matchers = _matchers(decoder.engine.vocabulary, requests)
        rows = [decoder.ready(request, matchers, ticket) for request in _sharing(requests)]
        self.stages = StageSeconds(tokenise=time.perf_counter() - began)
        self.share = BatchShare()
        self._failed = [(place, row) for place, row in enumerate(rows) if isinstance(row, FailedRow)]
        self._running = [(place, row) for place, row in enumerate(rows) if isinstance(row, DecoderRow)]
        self._batcher = decoder.batcher
        self._call = decoder.batcher.submit([row for _, row in self._running], ticket)

    @property
    def left(self) -> int:
        """Not taken yet."""
        return len(self._failed) + self._call.left

    def take(self, seconds: float) -> list[tuple[int, Generation | FailedRow]]:
        """Requests that ended since, by their place, after so long, or at once when none is left. A prompt that leaves no room for a token
        fails with prompt_too_long; one that brings nothing but space with empty_generation; one that is not what it must look like with
        unfinished_answer. Raises as an encoder's `answer` does."""
        began = time.perf_counter()
        ended, share = self._call.take(seconds)
        self.share.add(share)
        self.stages.add(StageSeconds(model=share.model_seconds, queue=queued(time.perf_counter() - began, share.model_seconds)))
        answers: list[tuple[int, Generation | FailedRow]] = [*self._failed]
        self._failed = []
        for index in ended:
            place, row = self._running[index]
            answers.append((place, _delivered(row, self._call.answers[index])))
        return answers

    def take_back(self) -> None:
        """What has not begun never does; it is answered by TAKEN_BACK."""
        self._batcher.take_back(self._call)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Decoder:
    engine: DecoderEngine
    batcher: ContinuousBatcher

    def begin(self, requests: Sequence[GenerateRequest], ticket: Ticket = NOBODY) -> Answering:
        """Tokenises, and does not wait for the model."""
        return Answering(self, requests, ticket)

    def answer(self, requests: Sequence[GenerateRequest], ticket: Ticket = NOBODY) -> list[Generation | FailedRow]:
        """In the order of ``requests``, when all have ended."""
        answering = self.begin(requests, ticket)
        answers = dict(answer for _ in iter(lambda: answering.left, 0) for answer in answering.take(LONG_SECONDS))
        return [answers[place] for place in range(len(requests))]

    def ready(self, request: GenerateRequest, matchers: Matchers, ticket: Ticket) -> DecoderRow | FailedRow:
        """The request, ready for the engine, and its ids in it; whatever it is that this fails on is its own, and no neighbour's."""
        try:
            return self._row(request, matchers, ticket)
        except MemoryError:
            raise
        except Exception as error:  # a fault of ours or of a tokenizer's, whose message may hold the prompt
            log.error("a prompt could not be read: %s at %s", type(error).__name__, place_of(error))
            return FailedRow("engine_error")

    def _row(self, request: GenerateRequest, matchers: Matchers, ticket: Ticket) -> DecoderRow | FailedRow:
        given, is_chat = bool(len(request.ids)), bool(request.messages)
        ids = self._ids(request)
        if isinstance(ids, FailedRow):
            return ids
        room = self.engine.max_tokens - len(ids)
        grammar, vocabulary = request.grammar, self.engine.vocabulary
        matcher = None if grammar is None else matchers[grammar.key]
        if isinstance(matcher, str):
            return FailedRow(matcher)
        if room < LEAST_TOKENS:
            return FailedRow("prompt_too_long")
        if vocabulary is not None:
            if given and int(ids.max()) >= vocabulary.size:
                return FailedRow(f"invalid_field:prompt:tokens of the model, which are below {vocabulary.size:,}")
            if max(request.sampling.logit_bias, default=0) >= vocabulary.size:
                return FailedRow(f"invalid_field:logit_bias:an object whose keys are tokens of the model, below {vocabulary.size:,}")
        # What the answer must look like ends it: nothing that would begin the next turn is in it.
        stop = request.stop + self.engine.chat_stop if is_chat and grammar is None else request.stop
        return DecoderRow(
            ids,
            min(request.max_tokens, room),
            request.sampling,
            stop,
            is_chat=is_chat,
            tenant=ticket.tenant,
            mask=None if matcher is None or vocabulary is None else GrammarMask(matcher.deep_copy(), vocabulary.end_ids),
            asked=request,
        )

    def _ids(self, request: GenerateRequest) -> Ids | FailedRow:
        ids: Ids | FailedRow
        if len(request.ids):
            ids = np.array(request.ids, dtype=np.int64)
        elif request.messages:
            ids = self.engine.tokenize_chat(request.messages)
        else:
            ids = self.engine.tokenize_prompt(request.prompt or "")
        if not isinstance(ids, FailedRow):
            request.ids = ids
        return ids


def _sharing(requests: Sequence[GenerateRequest]) -> Iterator[GenerateRequest]:
    """Each as it is; of those that follow each other with one prompt, as several answers of a row do, the first one's tokens are all's."""
    before: GenerateRequest | None = None
    for request in requests:
        if before is not None and not len(request.ids) and request.prompt is before.prompt and request.messages is before.messages:
            request.ids = before.ids
        yield request
        before = request


def _matchers(vocabulary: Vocabulary | None, requests: Sequence[GenerateRequest]) -> Matchers:
    """One for each grammar among them: rows with the job's share it."""
    made: dict[tuple[Kind, int], LLMatcher | str | None] = {}
    for request in requests:
        if (grammar := request.grammar) is not None and grammar.key not in made:
            try:
                made[grammar.key] = fault(grammar) if vocabulary is None else vocabulary.matcher(grammar)
            except Unusable as unusable:
                made[grammar.key] = code_of(grammar, unusable.reason)
    return made


def _delivered(row: DecoderRow, said: Answer | FailedRow) -> Generation | FailedRow:
    """The answer as it may be given, whichever engine made it."""
    if not isinstance(said, Generation):
        return said if isinstance(said, FailedRow) else FailedRow("engine_error")  # nobody asked for choices
    grammar = None if row.asked is None else row.asked.grammar
    if isinstance(row.mask, GrammarMask) and row.mask.failed and grammar is not None:
        return FailedRow(code_of(grammar, TOO_COMPLEX))
    if not said.text.strip():
        return FailedRow("empty_generation")
    if grammar is None:
        return said
    try:
        return said if meets(grammar, said.text) else FailedRow("unfinished_answer")
    except Unusable as unusable:
        return FailedRow(code_of(grammar, unusable.reason))
