"""Models that an operator put on this machine: each folder below TEXTMILL_MODEL_FOLDERS that holds a Hugging Face encoder in safetensors.

A folder NAME becomes the model "local:NAME", an encoder (classify by label names, embed) or, where its architecture is a sequence
classifier, a classifier with labels of its own. Only the operator names folders; a request can only name a model. Light: config.json is
read here, weights are not.
"""

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from workers.models.card import ModelCard
from workers.models.folder_config import first_place, is_classifier

VARIABLE: Final = "TEXTMILL_MODEL_FOLDERS"
PREFIX: Final = "local:"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
MOST_TOKENS: Final = 8192  # of one text, whatever the model's positions would allow
CHARS_PER_TOKEN: Final = 4.5
CORE_FLOPS: Final = 50e9  # a first guess, until the dispatcher has measured


def local_models() -> list[ModelCard]:
    """In the order of their names. A folder without a readable config.json is no model."""
    root = os.environ.get(VARIABLE)
    if not root:
        return []
    try:
        names = sorted(folder.name for folder in Path(root).expanduser().iterdir())
    except OSError:
        return []
    return [card for name in names if (card := local_model(PREFIX + name)) is not None]


def local_model(model_id: str) -> ModelCard | None:
    """The one of that id ("local:NAME"), or None."""
    root, name = os.environ.get(VARIABLE), model_id.removeprefix(PREFIX)
    if not root or not NAME.fullmatch(name):
        return None
    folder = Path(root).expanduser() / name
    try:
        return _card(folder, (folder / "config.json").stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=256)
def _card(folder: Path, _changed_ns: int) -> ModelCard | None:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or "model_type" not in config:
        return None
    classifier = is_classifier(config)
    width = int(config.get("hidden_size") or config.get("dim") or 768)
    layers = int(config.get("num_hidden_layers") or config.get("n_layers") or 12)
    return ModelCard(
        id=f"{PREFIX}{folder.name}",
        kind="encoder",
        tasks=("classify",) if classifier else ("classify", "embed"),
        licence="see the model's folder",
        upstream="",
        source_package="",
        source_version="",
        max_tokens=_max_tokens(folder, config),
        dimensions=width,
        speed_chars_per_second=max(10, int(CORE_FLOPS / (24 * layers * width**2) * CHARS_PER_TOKEN)),
        own_labels=classifier,
        folder=folder,
    )


def _max_tokens(folder: Path, config: dict[str, Any]) -> int:
    """The least of what the positions, the tokenizer and sentence-transformers' own limit allow."""
    places = int(config.get("max_position_embeddings") or MOST_TOKENS) - first_place(config)
    limits = [places, MOST_TOKENS]
    for name, key in (("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")):
        try:
            limit = json.loads((folder / name).read_text()).get(key)
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(limit, int) and limit > 1:
            limits.append(limit)
    return min(limits)
