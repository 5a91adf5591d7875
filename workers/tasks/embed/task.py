"""Embedding: its body, and how it is read. Light."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from workers.tasks.body import LongBody
from workers.tasks.classify.task import extent_values
from workers.tasks.reading import lay_under, text_fault
from workers.tasks.task import Columns, Group, Names, Ran, Task, Work

if TYPE_CHECKING:
    from db.queue.row import WorkRow


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
    columns: ClassVar[Columns] = {"embedding": "vector"}

    def ask(self, body: EmbedBody, defaults: EmbedBody, endpoint: str) -> EmbedBody | str:
        lay_under(body, defaults, "model", "input", "encoding_format", "on_long", "pool", "stride")
        return text_fault(body.input) or body

    def place(self, row: "WorkRow", names: Names) -> Group | str:
        whole = row.cost
        group = super().place(row, names)
        if row.ask.on_long == "chunk":
            row.cost = whole
        return group

    def run(self, work: Work, group: Group, rows: "Sequence[WorkRow]") -> Ran:
        from workers.tasks.embed.running import run

        return run(work, group, rows)

    def values(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        read = msgspec.json.decode(answer, type=_Answer)
        return {"embedding": read.data[0].embedding, **extent_values(read)}


TASK: Final = Embed()
