"""Embedding: its body, and how it is read. Light."""

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from workers.tasks.body import LongBody
from workers.tasks.classify.task import extent_values
from workers.tasks.reading import text_fault
from workers.tasks.task import Columns, Task


class EmbedBody(LongBody, forbid_unknown_fields=True, kw_only=True):
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Meta(description="`base64` is little-endian float32; `float` by default.")
    ] = None
    user: Annotated[str | None, Meta(description="Taken, and left aside.")] = None


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Vector]
    truncated: bool = False
    chunks: int = 1


class Embed(Task[EmbedBody]):
    name = "embed"
    endpoints = ("/v1/embeddings",)
    body = EmbedBody
    laid = ("model", "input", "encoding_format", "on_long", "pool", "stride")
    columns: ClassVar[Columns] = {"embedding": "vector"}

    def ask(self, body: EmbedBody, defaults: EmbedBody, endpoint: str) -> EmbedBody | str:
        return text_fault(body.input) or body

    def values(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        read = msgspec.json.decode(answer, type=_Answer)
        return {"embedding": read.data[0].embedding, **extent_values(read)}


TASK: Final = Embed()
