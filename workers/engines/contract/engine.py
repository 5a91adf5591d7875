"""What an engine is: the shapes that cross between the runtime, the batcher and whatever runs a model.

An engine turns token ids into vectors (encoder) or more token ids (decoder). It knows nothing of tenants, jobs, labels or files, keeps no
state between batches, and may be called from several lanes at once. Everything here is light: no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workers.arrays import Ids, Vectors
from workers.batches.outcomes import FailedRow
from workers.engines.contract.generation import GenerateRequest, Message


@dataclass(frozen=True, slots=True)
class Generation:
    """`ids` are the new tokens only. `finish_reason` is "stop" (end token or stop string) or "length"."""

    text: str
    ids: list[int]
    finish_reason: str


class Engine(Protocol):
    @property
    def model_version(self) -> str:
        """Model, digest of its weights, and how they were run: stored with every result."""

    @property
    def max_tokens(self) -> int:
        """The longest sequence the model takes, special tokens included."""


class EncoderEngine(Engine, Protocol):
    """What `prepare` makes of a batch is the engine's own affair: it goes from the feeder's thread to `run` on a lane's, unread."""

    @property
    def dimensions(self) -> int:
        """Numbers a text is answered with."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Of a sequence classifier, one for each number of an answer, which then is a logit. Empty for a sentence encoder."""

    @property
    def unknown_id(self) -> int | None:
        """The token that stands for what the vocabulary lacks; None where it lacks nothing."""

    @property
    def padded(self) -> bool:
        """Whether a batch costs its longest row times its rows."""

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Ids], list[bool]]:
        """Special tokens included; cuts at `max_tokens`, and says of each text whether it did. Thread-safe."""

    def windows(self, text: str, stride: int) -> list[Ids]:
        """A whole text, as sequences that the model takes, which overlap by ``stride`` tokens. Thread-safe."""

    def prepare(self, batch: Sequence[Ids]) -> Any:
        """Off the device's path. Thread-safe."""

    def run(self, prepared: Any) -> Vectors:
        """[n, dimensions], in the order of the batch: unit vectors or logits. Raises OutOfMemory; a row the model spoilt holds NaN."""


class DecoderEngine(Engine, Protocol):
    @property
    def chat_stop(self) -> tuple[str, ...]:
        """What ends an answer to chat messages besides the model's end token."""

    def tokenize_chat(self, messages: Sequence[Message]) -> Ids: ...

    def tokenize_prompt(self, prompt: str) -> Ids: ...

    def generate(self, batch: Sequence[GenerateRequest]) -> list[Generation | FailedRow]:
        """Of tokenised requests, in the order given. Raises OutOfMemory; a row the model spoilt is a FailedRow, its neighbours go on."""
