"""The fields of a row's body that several tasks know."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, NamedTuple

import msgspec
from msgspec import Meta

from workers.engines.contract.long_texts import OnLong, Pool, Stride

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every task knows. Each field says what it means: the reference takes it from here. ``turns``: which field has the messages;
    ``plain``: what names of a row that names no endpoint are called here."""

    turns: ClassVar[str | None] = "messages"
    plain: ClassVar[Mapping[str, str]] = {}

    model: Annotated[
        Name | None,
        Meta(
            description="A model of `GET /v1/models`, heads too (`head:NAME@2` for the second version); otherwise the first that does the"
            " task. In training the job names it."
        ),
    ] = None
    input: Annotated[str | None, Meta(description="The text; in generation the user's turn behind the messages, or the prompt.")] = None
    label: Annotated[
        str | None,
        Meta(description="What the row is known to be, in 1,000 characters. Read in training alone: one file may serve several jobs."),
    ] = None


class LongBody(Body, forbid_unknown_fields=True, kw_only=True):
    """Of a text that may be longer than the model reads."""

    on_long: Annotated[
        OnLong | None, Meta(description="A text longer than the model reads: cut it (as by default), fail the row, or read it in windows.")
    ] = None
    pool: Annotated[Pool | None, Meta(description="How the windows of a text become one answer; `mean` by default.")] = None
    stride: Annotated[
        Stride | None, Meta(description="Tokens that a window shares with the one before it; 32 by default, half a window at most.")
    ] = None


TEXTS: Final = frozenset({"input", "messages", "prompt"})  # in which a body may have its row's text


class TextPlace(NamedTuple):
    """Where a body has a row's text. ``is_chat``: as messages."""

    field: str
    is_chat: bool


def text_place(kind: type[Body]) -> TextPlace:
    fields = kind.__struct_fields__
    if kind.turns in fields:
        return TextPlace(kind.turns, is_chat=True)
    return TextPlace("prompt" if "prompt" in fields else "input", is_chat=False)
