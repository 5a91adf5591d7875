"""LoRA adapters that an operator put on this machine: a folder as PEFT writes it (adapter_config.json, adapter_model.safetensors), in the
folder of its model or beside it below TEXTMILL_MODEL_FOLDERS.

Over the decoder MODEL the folder NAME is the model "MODEL@NAME". It is merged into the weights when it is loaded, so each is a model of its
own in memory. What is more than low-rank matrices added to linear layers is refused by name. Light: no torch.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from workers.models.card import ModelCard
from workers.models.folder_config import Unreadable, read_json
from workers.models.folders import NAME, VARIABLE, why_changeable

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
MOST_RANK: Final = 4_096

# Settings that change nothing of what is merged.
_ASIDE: Final = frozenset(
    {"auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out", "inference_mode", "layers_pattern"}
    | {
        "layers_to_transform",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "target_modules",
        "task_type",
    }
    | {"loftq_config", "eva_config", "r", "lora_alpha", "use_rslora", "peft_type", "bias", "init_lora_weights"}
)
# Those of PEFT that change more; any other that is set is refused without its name.
_REFUSED: Final = frozenset(
    {"use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias", "layer_replication", "megatron_config", "use_qalora"}
    | {"trainable_token_indices", "target_parameters", "alora_invocation_tokens", "arrow_config", "corda_config", "use_bdlora"}
)
# How the matrices began; others (PiSSA, OLoRA, LoftQ) change the weights below, which are not the model's any more.
_BEGINNINGS: Final = (None, True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, slots=True)
class Lora:
    """``rank``: of the matrices; ``scale``: of their product; ``base``: the last part of what the adapter calls its model."""

    rank: int
    scale: float
    base: str

    @classmethod
    def read(cls, folder: Path) -> "Lora":
        """Raises Unreadable."""
        said = read_json(folder / CONFIG)
        if not isinstance(said, dict) or said.get("peft_type") != "LORA":
            raise Unreadable(f"{CONFIG}: it is no LoRA adapter (peft_type).")
        for name, value in said.items():
            if name not in _ASIDE and value:
                raise Unreadable(f"{CONFIG}: {name if name in _REFUSED else 'a setting that is not known'} is not done here.")
        if said.get("bias", "none") != "none":
            raise Unreadable(f"{CONFIG}: bias is not done here.")
        if said.get("init_lora_weights") not in _BEGINNINGS:
            raise Unreadable(f"{CONFIG}: init_lora_weights changes the model's own weights, which is not done here.")
        rank = _number(said, "r")
        scale = _number(said, "lora_alpha") / (math.sqrt(rank) if said.get("use_rslora") is True else rank)
        base = said.get("base_model_name_or_path")
        return cls(int(rank), scale, base.rstrip("/").rpartition("/")[2] if isinstance(base, str) else "")


def _number(said: Mapping[str, Any], name: str) -> float:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_RANK**2:
        raise Unreadable(f"{CONFIG}: {name} is no number that an adapter could have.")
    return float(value)


def takes_adapters(card: ModelCard) -> bool:
    """Whether this process runs it and can merge into it."""
    return card.kind == "decoder" and card.server is None and not card.openvino and (card.folder is not None or bool(card.source_package))


def adapter_of(base: ModelCard, name: str) -> ModelCard | None:
    """The model "BASE@NAME", or None where there is no such adapter."""
    if not takes_adapters(base) or not NAME.fullmatch(name):
        return None
    for place in _places(base):
        folder = place / name
        try:
            changed = (folder / CONFIG).stat().st_mtime_ns, folder.stat().st_ctime_ns
        except OSError:
            continue
        found = _read(folder, *changed)
        damaged = base.damaged or (found if isinstance(found, str) else "")
        return replace(base, id=f"{base.id}@{name}", adapter=folder, damaged=damaged, tasks=() if damaged else base.tasks)
    return None


def adapters_of(base: ModelCard) -> list[ModelCard]:
    """Those in its folder, and of those beside it the ones that say they are this model's; in the order of their names."""
    names: set[str] = set()
    for place in _places(base) if takes_adapters(base) else ():
        try:
            found = [folder.name for folder in place.iterdir() if (folder / CONFIG).is_file()]
        except OSError:
            continue
        names.update(name for name in found if place == base.folder or _belongs(place / name, base))
    return [card for name in sorted(names) if (card := adapter_of(base, name)) is not None]


def _places(base: ModelCard) -> list[Path]:
    root = os.environ.get(VARIABLE)
    return [place for place in (base.folder, Path(root).expanduser() if root else None) if place is not None]


def _belongs(folder: Path, base: ModelCard) -> bool:
    try:
        called = Lora.read(folder).base
    except Unreadable:
        return False
    return called != "" and called in (base.folder.name if base.folder is not None else "", base.upstream.rpartition("/")[2])


@lru_cache(maxsize=256)
def _read(folder: Path, _config_changed_ns: int, _folder_changed_ns: int) -> Lora | str:
    """Or why it cannot be used."""
    try:
        if (why := why_changeable(folder)) is not None:
            return why
        return Lora.read(folder)
    except Unreadable as error:
        return str(error)
    except OSError as error:
        return f"Its folder cannot be looked at: {error.strerror or 'the operating system refused'}."
