"""A loaded decoder: its engine, the lanes that run it, and the way from prompts to what the model goes on to say."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from workers.batches.outcomes import BatchShare, FailedRow
from workers.batches.ticket import NOBODY, Ticket
from workers.engines.contract.decoding import DecoderEngine, DecoderRow, Generation
from workers.engines.contract.generation import GenerateRequest
from workers.inference.continuous import ContinuousBatcher
from workers.stages import StageSeconds, queued


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Decoder:
    engine: DecoderEngine
    batcher: ContinuousBatcher

    def answer(
        self, requests: Sequence[GenerateRequest], ticket: Ticket = NOBODY
    ) -> tuple[list[Generation | FailedRow], BatchShare, StageSeconds]:
        """In the order of ``requests``, which are tokenised here. A prompt that leaves no room for a token fails with prompt_too_long; one
        that brings nothing but space with empty_generation. Blocks and raises as an encoder's `answer` does."""
        began = time.perf_counter()
        rows = [self._row(request, ticket) for request in requests]
        stages = StageSeconds(tokenise=time.perf_counter() - began)
        began = time.perf_counter()
        call = self.batcher.submit([row for row in rows if row is not None], ticket).result()
        stages.model = call.share.model_seconds
        stages.queue = queued(time.perf_counter() - began, stages.model)
        answers = iter(call.answers)
        found = [FailedRow("prompt_too_long") if row is None else next(answers) for row in rows]
        empty = FailedRow("empty_generation")
        return [row if isinstance(row, FailedRow) or row.text.strip() else empty for row in found], call.share, stages

    def _row(self, request: GenerateRequest, ticket: Ticket) -> DecoderRow | None:
        """The request, ready for the engine, and its ids in it. None where it leaves no room for a single new token."""
        is_chat = request.prompt is None
        request.ids = self.engine.tokenize_chat(request.messages) if is_chat else self.engine.tokenize_prompt(request.prompt or "")
        room = self.engine.max_tokens - len(request.ids)
        if room <= 0:
            return None
        stop = request.stop + self.engine.chat_stop if is_chat else request.stop
        return DecoderRow(
            request.ids,
            min(request.max_tokens, room),
            request.sampling,
            stop,
            is_chat=is_chat,
            tenant=ticket.tenant,
            asked=request,
        )
