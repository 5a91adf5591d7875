"""A loaded decoder: its engine, the lanes that run it, and the way from prompts to what the model goes on to say."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from workers.batches.outcomes import BatchShare, FailedRow
from workers.batches.ticket import NOBODY, Ticket
from workers.engines.contract.decoding import DecoderEngine, DecoderRow, Generation
from workers.engines.contract.generation import GenerateRequest
from workers.inference.continuous import ContinuousBatcher
from workers.stages import StageSeconds, queued

LONG_SECONDS: Final = 3600.0


class Answering:
    """Requests on their way, for one thread that takes the answers as they come. ``stages``: what was taken so far took."""

    def __init__(self, decoder: "Decoder", requests: Sequence[GenerateRequest], ticket: Ticket) -> None:
        began = time.perf_counter()
        rows = [decoder.row(request, ticket) for request in requests]
        self.stages = StageSeconds(tokenise=time.perf_counter() - began)
        self.share = BatchShare()
        self._too_long = [place for place, row in enumerate(rows) if row is None]
        self._places = [place for place, row in enumerate(rows) if row is not None]
        self._batcher = decoder.batcher
        self._call = decoder.batcher.submit([row for row in rows if row is not None], ticket)

    @property
    def left(self) -> int:
        """Not taken yet."""
        return len(self._too_long) + self._call.left

    def take(self, seconds: float) -> list[tuple[int, Generation | FailedRow]]:
        """Requests that ended since, by their place, after so long, or at once when none is left. A prompt that leaves no room for a token
        fails with prompt_too_long; one that brings nothing but space with empty_generation. Raises as an encoder's `answer` does."""
        began = time.perf_counter()
        ended, share = self._call.take(seconds)
        self.share.add(share)
        self.stages.add(StageSeconds(model=share.model_seconds, queue=queued(time.perf_counter() - began, share.model_seconds)))
        too_long, self._too_long = self._too_long, []
        answers: list[tuple[int, Generation | FailedRow]] = [(place, FailedRow("prompt_too_long")) for place in too_long]
        return answers + [(self._places[index], _not_empty(self._call.answers[index])) for index in ended]

    def take_back(self) -> None:
        """What has not begun never does; it is answered by TAKEN_BACK."""
        self._batcher.take_back(self._call)


def _not_empty(answer: Generation | FailedRow) -> Generation | FailedRow:
    return answer if isinstance(answer, FailedRow) or answer.text.strip() else FailedRow("empty_generation")


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

    def row(self, request: GenerateRequest, ticket: Ticket) -> DecoderRow | None:
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
