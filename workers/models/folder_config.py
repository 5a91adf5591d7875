"""What the config.json of a Hugging Face folder says, for whoever only lists a model and for whoever loads it. Light: no torch.

Somebody else wrote it, perhaps by hand or by a program that broke off: each value is looked at before it is used.
"""

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

ROBERTA_LIKE: Final = frozenset({"roberta", "xlm-roberta", "camembert"})
_COUNT_FROM_PADDING: Final = ROBERTA_LIKE | {"mpnet"}
MAX_BYTES: Final = 16 << 20  # of a file that lists a few settings, and of a classifier perhaps 100,000 labels
MOST: Final = 1 << 20  # of layers, dimensions and places: no model comes near
ARCHITECTURES: Final = 16
_ATTENTIONS: Final = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")


class Unreadable(Exception):
    """A file that cannot be used; says which and why, and holds no value out of it."""


@dataclass(frozen=True, slots=True)
class FolderConfig:
    """The settings that a card is made of, within their bounds. ``positions`` None: the file says nothing of them. ``said``: all of it."""

    said: Mapping[str, Any]
    model_type: str
    labels: tuple[str, ...]
    width: int
    layers: int
    positions: int | None
    first_place: int
    shorter: tuple[int, ...] | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises Unreadable."""
        config = read_json(path)
        if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
            raise Unreadable(f"{path.name} names no model_type.")
        if any("/" in str(config.get(name)) for name in _ATTENTIONS):
            raise Unreadable(f"{path.name} names an attention on a hub, which is code.")
        architectures = config.get("architectures") or []
        if not isinstance(architectures, list) or len(architectures) > ARCHITECTURES:
            raise Unreadable(f"{path.name}: architectures is no list of names.")
        return cls(
            said=config,
            model_type=config["model_type"],
            labels=_labels(path, config),
            width=_number(path, config, "hidden_size", "dim", "n_embd", "d_model") or 768,
            layers=_number(path, config, "num_hidden_layers", "n_layers", "n_layer", "num_layers") or 12,
            positions=_number(path, config, "max_position_embeddings", "n_positions", "max_seq_len") or None,
            first_place=_first_place(path, config),
            shorter=_shorter(config),
        )


def _shorter(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Of a model of which one takes the first numbers of a vector alone, as vLLM reads it: those counts, or nothing for any."""
    listed = config.get("matryoshka_dimensions")
    if isinstance(listed, list) and listed and all(isinstance(one, int) and one > 0 for one in listed):
        return tuple(sorted(listed))
    return () if config.get("is_matryoshka") is True else None


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether the model is a sequence classifier, with labels of its own."""
    return any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ())


def read_labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a sequence classifier's outputs, in their order; empty for a model without a head."""
    if not is_classifier(config):
        return ()
    if names := config.get("id2label"):
        return tuple(str(names[place]) for place in sorted(names, key=int))
    return tuple(f"LABEL_{place}" for place in range(min(int(config.get("num_labels", 2)), MOST)))


def _labels(path: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return read_labels(config)
    except (TypeError, ValueError):
        raise Unreadable(f"{path.name}: id2label is no table of numbers and names.") from None


def first_place(config: Mapping[str, Any]) -> int:
    """The position of a text's first token. RoBERTa and its kin count from one after their padding token's."""
    return int(config.get("pad_token_id", 1)) + 1 if config["model_type"] in _COUNT_FROM_PADDING else 0


def _first_place(path: Path, config: Mapping[str, Any]) -> int:
    if config["model_type"] not in _COUNT_FROM_PADDING:
        return 0
    return first_place({**config, "pad_token_id": _number(path, config, "pad_token_id", unsaid=1)})


def read_json(path: Path) -> Any:
    """What a file of a model's folder holds. Raises Unreadable."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # reading a pipe would wait for ever
            raise Unreadable(f"{path.name} is no file.")
        if about.st_size > MAX_BYTES:
            raise Unreadable(f"{path.name} is larger than {MAX_BYTES >> 20} MiB.")
        return json.loads(path.read_text())
    except OSError:
        raise Unreadable(f"{path.name} is missing or cannot be read.") from None
    except RecursionError:
        raise Unreadable(f"{path.name} is nested too deeply.") from None
    except ValueError:
        raise Unreadable(f"{path.name} is not JSON.") from None


def read_limit(path: Path, key: str) -> int | None:
    """How many tokens a file beside the config allows; None where it says nothing of that, or there is none."""
    try:
        settings = read_json(path)
    except Unreadable:
        return None
    limit = settings.get(key) if isinstance(settings, dict) else None
    return limit if isinstance(limit, int) and limit > 1 else None


def _number(path: Path, config: Mapping[str, Any], *names: str, unsaid: int = 0) -> int:
    """The first of these that the file sets. Raises Unreadable."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST or value != int(value):
            raise Unreadable(f"{path.name}: {name} is no number that a model could have.")
        return int(value)
    return unsaid
