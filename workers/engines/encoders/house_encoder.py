"""What the encoders have in common that compute an `Architecture` themselves, whatever library multiplies for them."""

from collections.abc import Sequence
from pathlib import Path

from workers.arrays import Ids
from workers.engines.contract.engine import Tokens
from workers.engines.encoders.architecture import Architecture
from workers.engines.encoders.encoding import Encoding
from workers.models.card import ModelCard


class HouseEncoder:
    """Texts to token ids, and the facts of the model. `way` is how it is run, and goes into the model's version.

    Raises TextmillError "model_broken" where the tokenizer does not fit the weights."""

    def __init__(self, card: ModelCard, folder: Path, made: Architecture, way: str) -> None:
        self.model_version = f"{card.weights_version}+{way}"
        self.max_tokens = min(card.max_tokens, made.places.shape[0])
        self.dimensions = made.outputs
        self.labels = made.labels
        self._encoding = Encoding(folder, max_tokens=self.max_tokens, vocabulary=made.words.shape[0])

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        return self._encoding(texts)

    def windows(self, text: str, stride: int) -> list[Ids]:
        return self._encoding.windows(text, stride)
