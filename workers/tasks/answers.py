"""The JSON body of a row's answer, in the shapes clients of the OpenAI API know. Bytes leave, ready to be sealed.

Answers are deterministic: a row that is run again (a worker died before it could write) gets the same id. A number that is not finite never
becomes an answer: the functions raise :class:`NotFinite`, and the row fails.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.engines.contract.long_texts import Pool

SCORE_DIGITS: Final = 6
VECTOR_DIGITS: Final = 8  # of a unit vector's parts: below what float32 tells apart

_encode: Final = msgspec.json.Encoder().encode


class NotFinite(ValueError):
    """The model answered NaN or infinity."""

    def __init__(self) -> None:
        super().__init__("The model's answer is not a finite number.")


def answer_id(prefix: str, job_id: UUID, idx: int) -> str:
    """``cls_<hex>``: the job's id and the row's place in it."""
    return f"{prefix}{job_id.hex}{idx:08x}"


class Extent(NamedTuple):
    """How much of a text an answer is about: its beginning only, or all of it, in so many windows, pooled."""

    truncated: bool
    chunks: int
    pool: Pool


class ClassificationForm:
    """What the answers of one model over one list of labels have in common, written once; a row's own numbers are put in.

    Half the time of encoding each row's dictionary, at five labels. ``labels`` are distinct.
    """

    def __init__(self, *, model: str, model_version: str, labels: Sequence[str]) -> None:
        self._labels = [_encode(label).decode() for label in labels]
        head = f',"object":"classification","model":{_quoted(model)},"model_version":{_quoted(model_version)},"label":'
        scores = ",".join(f"{_escaped(label)}:%.{SCORE_DIGITS}f" for label in self._labels)
        usage = '"usage":{"input_tokens":%d,"output_tokens":0,"total_tokens":%d}'
        self._form = '{"id":"%s"' + head + '%s,"scores":{' + scores + '},"truncated":%s,' + usage + "}"

    def fill(self, *, answer: str, winner: int, scores: Sequence[float], extent: "Extent", input_tokens: int) -> bytes:
        """``scores`` in the order of the labels; ``winner``: the place of the label that is the answer."""
        if not math.isfinite(sum(scores)):
            raise NotFinite
        cut = "true" if extent.truncated else "false"
        if extent.chunks > 1:
            cut += f',"chunks":{extent.chunks},"pool":"{extent.pool}"'
        return (self._form % (answer, self._labels[winner], *scores, cut, input_tokens, input_tokens)).encode()


def embedding(*, model: str, model_version: str, vector: NDArray[np.float32], as_base64: bool, extent: Extent, input_tokens: int) -> bytes:
    """``as_base64``: little-endian float32, which is what the openai client asks for by default."""
    if not np.isfinite(vector).all():
        raise NotFinite
    value: str | list[float]
    if as_base64:
        value = base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    else:
        value = np.round(vector.astype(np.float64), VECTOR_DIGITS).tolist()
    return _encode(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": value}],
            "model": model,
            "model_version": model_version,
            "truncated": extent.truncated,
            **({"chunks": extent.chunks, "pool": extent.pool} if extent.chunks > 1 else {}),
            "usage": {"prompt_tokens": input_tokens, "total_tokens": input_tokens},
        }
    )


def chat_completion(
    *, answer: str, model: str, model_version: str, created: int, text: str, finish_reason: str, input_tokens: int, output_tokens: int
) -> bytes:
    """``created``: Unix seconds."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    return _completion("chat.completion", answer, model, model_version, created, choice, input_tokens, output_tokens)


def text_completion(
    *, answer: str, model: str, model_version: str, created: int, text: str, finish_reason: str, input_tokens: int, output_tokens: int
) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return _completion("text_completion", answer, model, model_version, created, choice, input_tokens, output_tokens)


def training_row(*, answer: str, model: str, model_version: str, labels: Sequence[str], example_count: int) -> bytes:
    """What a row of a training file gets: the head it helped to make."""
    return _encode(
        {
            "id": answer,
            "object": "training_row",
            "model": model,
            "model_version": model_version,
            "label_count": len(labels),
            "example_count": example_count,
        }
    )


def _quoted(text: str) -> str:
    return _escaped(_encode(text).decode())


def _escaped(text: str) -> str:
    """For a form that is filled with ``%``."""
    return text.replace("%", "%%")


def _completion(
    kind: str,
    answer: str,
    model: str,
    model_version: str,
    created: int,
    choice: Mapping[str, object],
    input_tokens: int,
    output_tokens: int,
) -> bytes:
    return _encode(
        {
            "id": answer,
            "object": kind,
            "created": created,
            "model": model,
            "model_version": model_version,
            "choices": [choice],
            "usage": {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": input_tokens + output_tokens},
        }
    )
