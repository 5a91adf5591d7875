"""Embedding: its body, and how it is read. Light."""

import struct
from base64 import b64decode
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from workers.tasks.body import LongBody
from workers.tasks.classify.task import extent_values
from workers.tasks.reading import text_fault
from workers.tasks.task import LONG_TEXT, Columns, Task

MAX_INPUTS: Final = 2_048  # OpenAI's bound


Dimensions = Annotated[int, Meta(ge=1)]
Texts = Annotated[str | list[str] | None, Meta(description="The text, or up to 2,048 of them, which are answered with a vector each.")]


class EmbedBody(LongBody, forbid_unknown_fields=True, kw_only=True):
    input: Texts = None  # type: ignore[assignment]  # of all tasks this one takes several texts
    dimensions: Annotated[Dimensions | None, Meta(description="Those that the model has; others are refused.")] = None
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Meta(description="`base64` is little-endian float32; `float` by default.")
    ] = None
    user: Annotated[object, Meta(description="Taken, whatever it is, and left aside.")] = None

    @property
    def texts(self) -> Sequence[str]:
        return [self.input] if isinstance(self.input, str) else self.input or ()


class _Vector(msgspec.Struct):
    embedding: list[float] | str

    def numbers(self) -> list[float]:
        """Also of base64, which is of little-endian float32."""
        if not isinstance(self.embedding, str):
            return self.embedding
        packed = b64decode(self.embedding)
        return list(struct.unpack(f"<{len(packed) // 4}f", packed))


class _Answer(msgspec.Struct):
    data: list[_Vector]
    truncated: bool = False
    chunks: int = 1
    all_unknown: bool = False


class Embed(Task[EmbedBody]):
    name = "embed"
    endpoints = ("/v1/embeddings",)
    body = EmbedBody
    laid = ("model", "input", "dimensions", "encoding_format", "on_long", "pool", "stride")
    columns: ClassVar[Columns] = {"embedding": "vector", **LONG_TEXT}

    def ask(self, body: EmbedBody, defaults: EmbedBody, endpoint: str) -> EmbedBody | str:
        if not isinstance(body.input, list):
            return text_fault(body.input) or body
        if not 0 < len(body.input) <= MAX_INPUTS:
            return f"invalid_field:input:text, or a list of 1 to {MAX_INPUTS:,} texts"
        faults = (text_fault(text, f"input[{place}]") for place, text in enumerate(body.input))
        return next((code for code in faults if code is not None), body)

    def values(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        read = msgspec.json.decode(answer, type=_Answer)
        found: dict[str, Any] = {"embedding": read.data[0].numbers()}
        if len(read.data) > 1:  # a table has one vector a row
            found = {"embedding": None, "embeddings": [one.numbers() for one in read.data]}
        return {**found, **extent_values(read)}


TASK: Final = Embed()
