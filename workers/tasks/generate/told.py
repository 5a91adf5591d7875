"""What the shapes of an answer are filled from, whichever endpoint's they are. Light."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from workers.tasks.generate.body import GenerateAsk

if TYPE_CHECKING:
    from workers.engines.contract.decoding import Generation
    from workers.grammars.masks import Vocabulary

LEAST_LOGPROB: Final = -9999.0  # of a token that a mask or a bias rules out: JSON has no minus infinity


@dataclass(frozen=True, slots=True)
class Told:
    """``said``: of each prompt its answers. ``number``: of the row, in hex, its job's before it; ``created``: Unix seconds."""

    ask: GenerateAsk
    said: "Sequence[Sequence[Generation]]"
    number: str
    created: int
    model: str
    model_version: str
    fingerprint: str
    vocabulary: "Vocabulary | None"

    def id(self, kind: str) -> str:
        return f"{kind}_{self.number}"

    def facts(self) -> dict[str, Any]:
        return {
            "created": self.created,
            "model": self.model,
            "model_version": self.model_version,
            "system_fingerprint": self.fingerprint,
        }

    def usage(self) -> dict[str, Any]:
        """A prompt counts once, however many answers it got: by its ids, or as its server counted it. ``cached_tokens`` of it are those
        that no answer computed."""
        counted = [answers[0].prompt_tokens for answers in self.said]
        prompt = sum(len(request.ids) if own is None else own for request, own in zip(self.ask.requests, counted, strict=True))
        said = sum(len(one.ids) for answers in self.said for one in answers)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": said,
            "total_tokens": prompt + said,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    @property
    def cached_tokens(self) -> int:
        return sum(min(one.cached_tokens for one in answers) for answers in self.said)

    def text_of(self, said: "Generation") -> str:
        """Of an answer that must look like something, as it is."""
        return said.text.strip() if self.ask.requests[0].grammar is None else said.text

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
