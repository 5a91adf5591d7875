"""What became of each row of a job, in the order of the input.

The API keeps answers and failures in two files; both are sorted by row, so that they are merged here as they stream, in flat memory.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from api.client import Batch, Client

TASK_OF: Final = {
    "/v1/classifications": "classify",
    "/v1/chat/completions": "generate",
    "/v1/completions": "generate",
    "/v1/embeddings": "embed",
    "/v1/heads": "train",
}


class Outcome(msgspec.Struct, frozen=True):
    """``line`` is the row's line (or record) in the input, from 1. A row has either ``values`` or a failure's ``code`` and ``message``."""

    line: int
    id: str | None
    values: dict[str, object] = {}
    code: str | None = None
    message: str | None = None


class _Fault(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw


class _Line(msgspec.Struct):
    custom_id: str | None = None
    line: int | None = None
    response: _Response | None = None
    error: _Fault | None = None


class _FaultBody(msgspec.Struct):
    error: _Fault


class _Classification(msgspec.Struct):
    label: str
    scores: dict[str, float]
    truncated: bool = False
    chunks: int = 1


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Embedding(msgspec.Struct):
    data: list[_Vector]
    truncated: bool = False
    chunks: int = 1


def _classification(body: bytes | msgspec.Raw) -> dict[str, object]:
    answer = msgspec.json.decode(body, type=_Classification)
    return {
        "label": answer.label,
        "score": answer.scores.get(answer.label),
        "scores": answer.scores,
        **_extent(answer),
    }


def _completion(body: bytes | msgspec.Raw) -> dict[str, object]:
    answer = msgspec.json.decode(body, type=_Completion)
    choice = answer.choices[0]
    text = choice.message.content if choice.message is not None else choice.text
    return {
        "text": text or "",
        "finish_reason": choice.finish_reason,
        "input_tokens": answer.usage.prompt_tokens,
        "output_tokens": answer.usage.completion_tokens,
    }


def _embedding(body: bytes | msgspec.Raw) -> dict[str, object]:
    answer = msgspec.json.decode(body, type=_Embedding)
    return {"embedding": answer.data[0].embedding, **_extent(answer)}


def _extent(answer: _Classification | _Embedding) -> dict[str, object]:
    """Of a text longer than the model reads: that it was cut, or read in so many windows."""
    return {**({"truncated": True} if answer.truncated else {}), **({"chunks": answer.chunks} if answer.chunks > 1 else {})}


def _anything(body: bytes | msgspec.Raw) -> dict[str, object]:
    return {"answer": msgspec.json.decode(body)}


READERS: Final[dict[str, Callable[[bytes | msgspec.Raw], dict[str, object]]]] = {
    "classify": _classification,
    "generate": _completion,
    "embed": _embedding,
}
_decode_line: Final = msgspec.json.Decoder(_Line).decode


def parse_outcome(line: bytes, task: str) -> Outcome:
    """A line of an output or an error file."""
    read = _decode_line(line)
    place = read.line or 0
    if read.response is None:
        fault = read.error or _Fault()
        return Outcome(place, read.custom_id, code=fault.code or "unknown", message=fault.message)
    if read.response.status_code >= 400:
        fault = msgspec.json.decode(read.response.body, type=_FaultBody).error
        return Outcome(place, read.custom_id, code=fault.code or "unknown", message=fault.message)
    return Outcome(place, read.custom_id, values=READERS.get(task, _anything)(read.response.body))


def read_outcomes(client: "Client", batch: "Batch", *, errors_only: bool = False) -> Iterator[Outcome]:
    """Every row that is done so far. Raises what the client raises."""
    task = TASK_OF.get(batch.endpoint, "")

    def stream(file_id: str | None) -> Iterator[Outcome]:
        if file_id is not None:
            for line in client.lines(file_id):
                yield parse_outcome(line, task)

    failures = stream(batch.error_file)
    if errors_only:
        return failures
    return heapq.merge(stream(batch.output_file), failures, key=lambda outcome: outcome.line)
