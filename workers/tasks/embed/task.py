"""Embedding: its body, and how it is read. Light."""

import struct
from base64 import b64decode
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, cast

import msgspec
from msgspec import Meta

from workers.tasks.body import LongBody, Token
from workers.tasks.classify.task import extent_values
from workers.tasks.reading import text_fault
from workers.tasks.task import LONG_TEXT, Columns, Task

MAX_INPUTS: Final = 2_048  # OpenAI's bound


Dimensions = Annotated[int, Meta(ge=1)]
Text = str | list[int]
Texts = Annotated[
    str | list[str | Token | list[Token]] | None,
    Meta(
        description="The text, or up to 2,048 of them, which are answered with a vector each; or its tokens, or a list of those, as the"
        " model's own tokenizer numbers them, with its marks at both ends."
    ),
]


class EmbedBody(LongBody, forbid_unknown_fields=True, kw_only=True):
    input: Texts = None  # type: ignore[assignment]  # of all tasks this one takes several texts
    dimensions: Annotated[
        Dimensions | None,
        Meta(description="Those that the model has; or fewer, of a model that was trained to be cut to them. Others are refused."),
    ] = None
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Meta(description="`base64` is little-endian float32; `float` by default.")
    ] = None
    user: Annotated[object, Meta(description="Taken, whatever it is, and left aside.")] = None

    @property
    def texts(self) -> Sequence[Text]:
        """Each a text, or its tokens."""
        given = self.input or ()
        if isinstance(given, str):
            return [given]
        return [cast("list[int]", given)] if given and isinstance(given[0], int) else cast("list[Text]", given)


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
        texts = body.texts
        if not 0 < len(texts) <= MAX_INPUTS:
            return f"invalid_field:input:text, or a list of 1 to {MAX_INPUTS:,} texts"
        if len({type(one) for one in body.input}) > 1:
            return "invalid_field:input:texts, or tokens, and not both in one list"
        faults = (_fault(text, f"input[{place}]") for place, text in enumerate(texts))
        return next((code for code in faults if code is not None), body)

    def values(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        read = msgspec.json.decode(answer, type=_Answer)
        found: dict[str, Any] = {"embedding": read.data[0].numbers()}
        if len(read.data) > 1:  # a table has one vector a row
            found = {"embedding": None, "embeddings": [one.numbers() for one in read.data]}
        return {**found, **extent_values(read)}


def _fault(text: Text, field: str) -> str | None:
    if isinstance(text, str):
        return text_fault(text, field)
    return None if text else f"empty_input:{field}"


TASK: Final = Embed()
