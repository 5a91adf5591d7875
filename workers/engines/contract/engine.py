"""What an engine is. Here an encoder's, which turns token ids into vectors; a decoder's is :mod:`workers.engines.contract.decoding`.

It knows nothing of jobs, labels or files, keeps no state between batches, and may be called from several lanes at once. Light: no torch.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from workers.arrays import Ids, Vectors


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

    def own_tokens(self, ids: Sequence[int]) -> Ids | None:
        """A text that comes as tokens, or None where this model's tokenizer has not made them: its marks are not around them, or there are
        no such tokens. Thread-safe."""

    def windows(self, text: str, stride: int) -> list[Ids]:
        """A whole text, as sequences that the model takes, which overlap by ``stride`` tokens. Thread-safe."""

    def prepare(self, batch: Sequence[Ids]) -> Any:
        """Off the device's path. Thread-safe."""

    def run(self, prepared: Any) -> Vectors:
        """[n, dimensions], in the order of the batch: unit vectors or logits. Raises OutOfMemory; a row the model spoilt holds NaN."""
