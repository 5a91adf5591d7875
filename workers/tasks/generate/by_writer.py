"""Rules and template writers in the place of a decoder: a row's requests are answered by what its columns and its text say."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from db.queue.row import WorkRow
from workers.batches.outcomes import BatchShare, FailedRow, Stopped
from workers.batches.ticket import Ticket
from workers.engines.contract.decoding import Generation
from workers.engines.contract.generation import GenerateRequest
from workers.inference.continuous import TAKEN_BACK
from workers.stages import StageSeconds
from workers.tasks.writers import Writer


class ByWriter:
    """As :class:`workers.inference.decoder.Decoder` is asked, and its own engine as far as answers tell of that. ``rows``: those that are
    asked about; each answer of a row has a seed of its own, and so has each try."""

    vocabulary: ClassVar[None] = None

    def __init__(self, writer: Writer, rows: Sequence[WorkRow]) -> None:
        self.writer = writer
        self.model_version = writer.version
        for row in rows:
            for request in row.ask.requests:
                seed = request.sampling.seed or 0
                request.sampling = replace(request.sampling, seed=seed, temperature=1.0 if writer.draws else 0.0)
                request.row = row

    @property
    def engine(self) -> "ByWriter":
        return self

    def begin(self, requests: Sequence[GenerateRequest], ticket: Ticket) -> "Writing":
        return Writing(self.writer, requests, ticket)


class Writing:
    """As :class:`workers.inference.decoder.Answering`: they are written while they are taken."""

    def __init__(self, writer: Writer, requests: Sequence[GenerateRequest], ticket: Ticket) -> None:
        self.share, self.stages = BatchShare(), StageSeconds()
        self._writer = writer
        self._requests = requests
        self._ticket = ticket
        self._at = 0
        self._is_taken_back = False

    @property
    def left(self) -> int:
        return len(self._requests) - self._at

    def take(self, seconds: float) -> list[tuple[int, Generation | FailedRow]]:
        """Raises Stopped."""
        answers: list[tuple[int, Generation | FailedRow]] = []
        began = now = time.perf_counter()
        while self.left and now - began < seconds:
            if self._ticket.stopped:
                raise Stopped
            answers.append((self._at, TAKEN_BACK if self._is_taken_back else self._answer(self._requests[self._at])))
            self._at += 1
            now = time.perf_counter()
        self.share.add(BatchShare(batches=1.0, model_seconds=now - began))
        self.stages.add(StageSeconds(model=now - began))
        return answers

    def take_back(self) -> None:
        self._is_taken_back = True

    def _answer(self, request: GenerateRequest) -> Generation | FailedRow:
        said = next((message.content for message in reversed(request.messages) if message.role == "user"), request.prompt or "")
        found = self._writer.write(request.row, said, seed=request.sampling.seed or 0)
        return FailedRow(found) if isinstance(found, str) else Generation(found.text, (), "stop", prompt_tokens=0, rule=found.rule)
