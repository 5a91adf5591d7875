"""What the config.json of a Hugging Face folder says, for whoever only lists a model and for whoever loads it. Light: no torch."""

from collections.abc import Mapping
from typing import Any, Final

ROBERTA_LIKE: Final = frozenset({"roberta", "xlm-roberta", "camembert"})
_COUNT_FROM_PADDING: Final = ROBERTA_LIKE | {"mpnet"}


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether the model is a sequence classifier, with labels of its own."""
    return any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ())


def first_place(config: Mapping[str, Any]) -> int:
    """The position of a text's first token. RoBERTa and its kin count from one after their padding token's."""
    return int(config.get("pad_token_id", 1)) + 1 if config["model_type"] in _COUNT_FROM_PADDING else 0
