"""An encoder, or a classifier with labels of its own, that a server runs: texts go there as they are, some in a request.

What stands for a text's tokens is its UTF-8, four bytes a number, which is also about as many as there are tokens: the server's own count
is of a whole request, so the tokens of a row are an estimate.
"""

import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

import numpy as np

from workers.arrays import Ids, Vectors
from workers.batches.outcomes import EngineAway, FailedRow, RowsRefused
from workers.batches.policy import Policy
from workers.engines.servers.line import Line, Request
from workers.engines.servers.shapes import classes_asked, classes_said, embeddings_asked, embeddings_said, refusal
from workers.engines.servers.source import Source

EMBEDDINGS: Final = "/embeddings"
CLASSES: Final = "//classify"  # vLLM's, at the server's root
LANES: Final = 32  # that wait for an answer each; how many are under way at once, the line decides
POLICY: Final = Policy(budget_tokens=16_384, padded=False, max_rows=64, window_rows=2_048)  # of a request
BYTES_PER_TOKEN: Final = 4


class ServerEncoder:
    """Raises EngineAway where its dimensions must be asked of a server that is away."""

    max_tokens = 1 << 40  # the server knows its own limits
    unknown_id: int | None = None
    padded = False

    def __init__(self, source: Source) -> None:
        self._source = source
        self.labels = source.entry.labels
        self._asking = asking = _Asking(source)  # which the line holds, and not this encoder: it would never be let go
        self._line = Line(source.entry, source.wire, lambda _path: asking.request(["1"], Future(), is_control=True), source.on_hang)
        weakref.finalize(self, source.end, self._line)
        if asking.dimensions is None:
            asking.dimensions = self.run(["1"]).shape[1]
        self.dimensions = asking.dimensions

    @property
    def model_version(self) -> str:
        return self._source.version

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Ids], list[bool]]:
        return [_packed(text) for text in texts], [False] * len(texts)

    def own_tokens(self, ids: Sequence[int]) -> Ids | None:
        """Only the server knows its tokens."""
        return None

    def windows(self, text: str, stride: int) -> list[Ids]:
        return [_packed(text)]

    def prepare(self, batch: Sequence[Ids]) -> list[str]:
        return [ids.tobytes().rstrip(b"\0").decode() for ids in batch]

    def run(self, texts: list[str]) -> Vectors:
        """Raises EngineAway, or RowsRefused where the server does not take one of the texts."""
        answer: Future[Vectors | FailedRow | EngineAway] = Future()
        self._line.ask(self._asking.request(texts, answer))
        found = answer.result()
        if isinstance(found, EngineAway):
            raise EngineAway(found.seconds)
        if isinstance(found, FailedRow):
            raise RowsRefused(found.code)
        return found


class _Asking:
    """``dimensions`` None: not known yet."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._labels = source.entry.labels
        self.dimensions = len(self._labels) or source.entry.dimensions

    def request(self, texts: list[str], answer: "Future[Vectors | FailedRow | EngineAway]", *, is_control: bool = False) -> Request:
        model = self._source.entry.named
        path, body = (CLASSES, classes_asked(texts, model)) if self._labels else (EMBEDDINGS, embeddings_asked(texts, model))

        def read(reply: bytes) -> tuple[Vectors, float]:
            if self._labels:
                vectors, said_by = classes_said(reply, len(texts), len(self._labels))
            else:
                vectors, said_by = embeddings_said(reply, len(texts), self.dimensions)
            self._source.said(said_by)
            return vectors, float(sum(map(len, texts)))

        return Request(path, body, read, refusal, answer.set_result, is_control=is_control)


def _packed(text: str) -> Ids:
    data = text.encode()
    packed: Ids = np.frombuffer(data + b"\0" * (-len(data) % BYTES_PER_TOKEN), np.int32)
    return packed
