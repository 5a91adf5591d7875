"""A decoder that a server runs: prompts go there as they are, and it does what slots are for."""

import queue
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Final, NoReturn

import numpy as np

from workers.arrays import Ids
from workers.batches.outcomes import EngineAway, FailedRow
from workers.engines.contract.decoding import Asking, DecoderRow, Finished, Generation, Room
from workers.engines.contract.generation import GenerateRequest, Message
from workers.engines.servers.line import Line, Request
from workers.engines.servers.shapes import COMPLETIONS, NOTHING_MORE, completion_asked, completion_said, refusal
from workers.engines.servers.source import Source
from workers.grammars.masks import Vocabulary

CHARS_PER_TOKEN: Final = 4  # of a guess that orders turns: what a row really took, its server says
STEP_SECONDS: Final = 0.05  # that a step waits for an answer: as long as a new row may wait for its place
OF_VLLM: Final = {"min_tokens": 1}  # an answer that ends before it has said anything is none
ANY: Final = 1 << 40  # the server knows its own limits


class ServerDecoder:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._line = Line(source.entry, source.wire, lambda path: _control(source, path), source.on_hang)
        weakref.finalize(self, source.end, self._line)

    @property
    def model_version(self) -> str:
        return self._source.version

    max_tokens = ANY
    vocabulary: Vocabulary | None = None
    chat_stop: tuple[str, ...] = ()
    asking: Asking | None = None  # a server tells the logprobs of the likeliest tokens, among which a label need not be

    def tokenize_chat(self, messages: Sequence[Message]) -> Ids:
        return _guessed(sum(len(message.content) for message in messages))

    def tokenize_prompt(self, prompt: str) -> Ids:
        return _guessed(len(prompt))

    def slots(self) -> "ServerSlots":
        return ServerSlots(self, self._source, self._line)


class ServerSlots:
    def __init__(self, decoder: ServerDecoder, source: Source, line: Line) -> None:
        self._decoder = decoder  # whose end is the line's: it lives as long as somebody has slots of it
        self._source = source
        self._line = line
        self._rows: dict[DecoderRow, Request] = {}
        self._ended: queue.SimpleQueue[tuple[DecoderRow, Generation | FailedRow | EngineAway]] = queue.SimpleQueue()
        self._away: EngineAway | None = None

    def room(self) -> Room:
        """A few more than are under way, so that the line never waits for this thread."""
        width = self._line.width
        return Room(max(0, width + width // 4 + 1 - len(self._rows)), ANY)

    def kv_tokens(self) -> None:
        """The server has them."""

    def add(self, rows: Sequence[DecoderRow]) -> None:
        is_vllm = self._source.entry.engine == "vllm"
        for row in rows:
            if (cannot := _unsupported(row, is_vllm=is_vllm)) is not None:
                self._rows[row] = _UNASKED
                self._ended.put((row, FailedRow(f"unsupported_field:{cannot}")))
                continue
            path, body = completion_asked(row, self._source.entry.named, OF_VLLM if is_vllm else NOTHING_MORE)
            self._rows[row] = request = Request(path, body, self._read, refusal, partial(self._on_answer, row))
            self._line.ask(request)

    def cancel(self, row: DecoderRow) -> None:
        if (request := self._rows.pop(row, None)) is not None and request is not _UNASKED:
            self._line.cancel(request)

    def step(self) -> Sequence[Finished]:
        finished: list[Finished] = []
        for row, answer in self._came():
            if isinstance(answer, EngineAway):
                self._away = answer
            elif row in self._rows:
                del self._rows[row]
                finished.append(Finished(row, answer))
        if self._away is not None and not finished:
            self._leave(self._away)
        return finished

    def _leave(self, away: EngineAway) -> NoReturn:
        for row in list(self._rows):
            self.cancel(row)
        self._away = None
        raise EngineAway(away.seconds)

    def _on_answer(self, row: DecoderRow, answer: Generation | FailedRow | EngineAway) -> None:
        self._ended.put((row, answer))

    def _came(self) -> list[tuple[DecoderRow, Generation | FailedRow | EngineAway]]:
        if self._away is not None:
            return []
        try:
            came = [self._ended.get(timeout=STEP_SECONDS)]
        except queue.Empty:
            return []
        while not self._ended.empty():
            came.append(self._ended.get_nowait())
        return came

    def _read(self, reply: bytes) -> tuple[Generation | FailedRow, float]:
        answer, said_by, size = completion_said(reply)
        return answer if isinstance(answer, FailedRow) else self._source.signed(answer, said_by), size


_UNASKED: Final = Request("", b"", lambda _reply: (None, 0.0), refusal, lambda _answer: None)


def _unsupported(row: DecoderRow, *, is_vllm: bool) -> str | None:
    """The public name of a field that this server cannot do, if the row has one."""
    if row.sampling.top_logprobs is not None:  # they name tokens, which only the server knows
        return "logprobs"
    grammar = None if row.asked is None else row.asked.grammar
    # A JSON schema has a place in OpenAI's API. Another server than vLLM may leave any other form aside, unsaid.
    return grammar.field if grammar is not None and grammar.kind != "json" and not is_vllm else None


def _guessed(chars: int) -> Ids:
    return np.zeros(max(1, chars // CHARS_PER_TOKEN), np.int32)


def _control(source: Source, path: str) -> Request:
    request = GenerateRequest(prompt="1") if path == COMPLETIONS else GenerateRequest(messages=[Message("user", "1")])
    path, body = completion_asked(DecoderRow(_guessed(1), 1, asked=request), source.entry.named)
    return Request(path, body, lambda reply: completion_said(reply)[::2], refusal, lambda _answer: None, is_control=True)
