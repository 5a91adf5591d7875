"""A loaded decoder: its engine, its micro-batcher, and the way from prompts to what the model goes on to say."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from workers.batches.batcher import Batcher
from workers.batches.outcomes import BatchShare, FailedRow
from workers.batches.ticket import NOBODY, Ticket
from workers.engines.contract.engine import DecoderEngine, Generation
from workers.engines.contract.generation import GenerateRequest
from workers.stages import StageSeconds, queued


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Decoder:
    engine: DecoderEngine
    batcher: Batcher[GenerateRequest, list[GenerateRequest], Generation]

    def answer(
        self, requests: Sequence[GenerateRequest], ticket: Ticket = NOBODY
    ) -> tuple[list[Generation | FailedRow], BatchShare, StageSeconds]:
        """In the order of ``requests``, which are tokenised here. A prompt that leaves no room for a token fails with prompt_too_long; one
        that brings nothing but space with empty_generation. Blocks and raises as an encoder's `answer` does."""
        began = time.perf_counter()
        asked = [request for request in requests if self._tokenise(request, ticket)]
        stages = StageSeconds(tokenise=time.perf_counter() - began)
        began = time.perf_counter()
        call = self.batcher.submit(asked, [len(request.ids) + request.max_tokens for request in asked], ticket).result()
        stages.model = call.share.model_seconds
        stages.queue = queued(time.perf_counter() - began, stages.model)
        found = {id(request): answer for request, answer in zip(asked, call.answers, strict=True)}
        rows = [found.get(id(request), FailedRow("prompt_too_long")) for request in requests]
        empty = FailedRow("empty_generation")
        return [row if isinstance(row, FailedRow) or row.text.strip() else empty for row in rows], call.share, stages

    def _tokenise(self, request: GenerateRequest, ticket: Ticket) -> bool:
        """Makes the request ready for the engine. False where it leaves no room for a single new token."""
        if request.prompt is None:
            request.ids = self.engine.tokenize_chat(request.messages)
            request.stop += self.engine.chat_stop
        else:
            request.ids = self.engine.tokenize_prompt(request.prompt)
        room = self.engine.max_tokens - len(request.ids)
        request.max_tokens = min(request.max_tokens, room)
        request.abandoned = ticket.stop
        return room > 0
