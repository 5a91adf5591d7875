"""What a decoder is asked: chats, prompts, and how to continue them. Light: no numpy, because the front reads bodies into it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from workers.arrays import Ids


DEFAULT_OUTPUT_TOKENS: Final = 256


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    name: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


@dataclass(slots=True)
class GenerateRequest:
    """A prompt, and how to continue it: either ``messages`` (a chat) or ``prompt``, until it is tokenised into ``ids``.

    `temperature` 0 is greedy; `seed` makes sampling repeatable for this row
    alone. A batch of long answers takes minutes, so an engine looks at `abandoned` between steps and gives the row up once it is set; what
    it then answers for the row is not read.
    """

    ids: "Ids" = cast("Ids", ())  # noqa: RUF009 - nothing is called
    max_tokens: int = DEFAULT_OUTPUT_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    abandoned: threading.Event | None = None
    messages: Sequence[Message] = ()
    prompt: str | None = None
    model: str | None = None


def before_stop(text: str, stops: Sequence[str]) -> str:
    """Up to the first of ``stops`` in it."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]
