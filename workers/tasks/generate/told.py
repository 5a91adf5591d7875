"""What the shapes of an answer are filled from, whichever endpoint's they are. Light."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from workers.tasks.generate.body import GenerateAsk

if TYPE_CHECKING:
    from workers.engines.contract.decoding import Generation
    from workers.grammars.masks import Vocabulary

LEAST_LOGPROB: Final = -9999.0  # of a token that a mask or a bias rules out: JSON has no minus infinity


class Usage(NamedTuple):
    """In tokens. ``cached``: of the prompts, those that no answer computed."""

    prompt: int = 0
    said: int = 0
    cached: int = 0

    @classmethod
    def of(cls, ask: GenerateAsk, said: "Sequence[Sequence[Generation]]") -> "Usage":
        """A prompt counts once, however many answers it got: by its ids, or as its server counted it."""
        counted = [answers[0].prompt_tokens for answers in said]
        return cls(
            sum(len(request.ids) if own is None else own for request, own in zip(ask.requests, counted, strict=True)),
            sum(len(one.ids) for answers in said for one in answers),
            sum(min(one.cached_tokens for one in answers) for answers in said),
        )

    def plus(self, other: "Usage") -> "Usage":
        return Usage(*(own + more for own, more in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class Told:
    """``said``: of each prompt its answers. ``number``: of the row, in hex, its job's before it; ``created``: Unix seconds. ``used``: by
    all tries; ``tries``: how many it took, of a job with checks; ``rule``: what decided, of rules and templates."""

    ask: GenerateAsk
    said: "Sequence[Sequence[Generation]]"
    number: str
    created: int
    model: str
    model_version: str
    fingerprint: str
    vocabulary: "Vocabulary | None"
    used: Usage
    tries: int | None = None
    rule: str | None = None

    def id(self, kind: str) -> str:
        return f"{kind}_{self.number}"

    def facts(self) -> dict[str, Any]:
        return {
            "created": self.created,
            "model": self.model,
            "model_version": self.model_version,
            "system_fingerprint": self.fingerprint,
            **({} if self.tries is None else {"tries": self.tries}),
            **({} if self.rule is None else {"rule": self.rule}),
        }

    def usage(self) -> dict[str, Any]:
        prompt, said, cached = self.used
        return {
            "prompt_tokens": prompt,
            "completion_tokens": said,
            "total_tokens": prompt + said,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def text_of(self, said: "Generation") -> str:
        return text_of(self.ask, said)

    def token(self, token: int) -> str:
        return self._bytes(token).decode(errors="replace")

    def logprobs_of(self, said: "Generation") -> list[dict[str, Any]]:
        """As chats have them."""
        return [
            {**self._one(one.token, one.logprob), "top_logprobs": [self._one(*likely) for likely in one.top]} for one in said.logprobs or ()
        ]

    def _one(self, token: int, logprob: float) -> dict[str, Any]:
        return {"token": self.token(token), "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(self._bytes(token))}

    def _bytes(self, token: int) -> bytes:
        return b"" if self.vocabulary is None else self.vocabulary.token_bytes(token)


def text_of(ask: GenerateAsk, said: "Generation") -> str:
    """Of an answer that must look like something, as it is."""
    return said.text.strip() if ask.requests[0].grammar is None else said.text
