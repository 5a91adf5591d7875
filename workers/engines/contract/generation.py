"""What a decoder is asked: chats, prompts, and how to continue them. Light: no numpy, because the front reads bodies into it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import Meta

from workers.grammars.grammar import Grammar

if TYPE_CHECKING:
    from workers.arrays import Ids


DEFAULT_OUTPUT_TOKENS: Final = 256


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    name: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn: greedily at ``temperature`` 0; else of the ``top_k`` likeliest (0: all), of the likeliest that make up
    ``top_p`` together, of none that is less than ``min_p`` times as likely as the likeliest.

    Logits are changed first: by ``logit_bias``; by ``repetition_penalty``, which divides those of tokens in prompt or answer that are above
    zero and multiplies the others; and by what a token loses for having been said (``presence_penalty``) and for each time
    (``frequency_penalty``). ``seed`` makes drawing repeatable for this row alone. ``top_logprobs``: how many of the likeliest are told at
    each token; None: no logprobs at all.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    top_logprobs: int | None = None

    @property
    def changes_logits(self) -> bool:
        return bool(self.logit_bias) or (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)


@dataclass(slots=True)
class GenerateRequest:
    """A prompt, and how to continue it: either ``messages`` (a chat) or ``prompt``, until it is tokenised into ``ids``; or these from the
    beginning, in the model's own tokens. ``grammar``: what the answer must look like. ``row``: what it is of, where that is asked for."""

    ids: "Ids" = cast("Ids", ())  # noqa: RUF009 - nothing is called
    max_tokens: int = DEFAULT_OUTPUT_TOKENS
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    messages: Sequence[Message] = ()
    prompt: str | None = None
    grammar: Grammar | None = None
    row: Any = None


def before_stop(text: str, stops: Sequence[str]) -> str:
    """Up to the first of ``stops`` in it."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]
