"""What the encoders have in common that compute an `Architecture` themselves, whatever library multiplies for them."""

from pathlib import Path

from workers.engines.encoders.architecture import Architecture
from workers.engines.encoders.encoding import Encoding
from workers.models.card import ModelCard


class HouseEncoder(Encoding):
    """Texts to token ids, and the facts of the model. `way` is how it is run, and goes into the model's version.

    Raises TextmillError "model_broken" where the tokenizer does not fit the weights."""

    def __init__(self, card: ModelCard, folder: Path, made: Architecture, way: str) -> None:
        super().__init__(folder, max_tokens=min(card.max_tokens, made.places.shape[0]), vocabulary=made.words.shape[0])
        self.model_version = f"{card.weights_version}+{way}"
        self.dimensions = made.outputs
        self.labels = made.labels
