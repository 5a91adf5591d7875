"""A LoRA adapter, merged into the weights of a model: W + scale · B · A, in fp32 (Hu et al. 2021; rank-stabilised: Kalajdzievski 2023)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from workers.engines.folders.files import broken, check_whole
from workers.models.adapters import WEIGHTS, Lora
from workers.models.folder_config import Unreadable

PREFIX: Final = "base_model.model."  # which PEFT writes before each name
DOWN, UP = "lora_A", "lora_B"


def merge(model: Any, folder: Path) -> None:
    """``model`` is changed. Raises TextmillError "model_broken" where the adapter is none of this model, or is more than plain LoRA."""
    try:
        lora = Lora.read(folder)
    except Unreadable as error:
        raise broken(folder, str(error)) from None
    with torch.no_grad():
        for name, down, up in _pairs(folder, lora.rank):
            layer = _layer(model, folder, name)
            product = up.float() @ down.float()
            added = product.T if isinstance(layer, Conv1D) else product
            if added.shape != layer.weight.shape:
                raise broken(folder, f"{WEIGHTS}: {name} is of another shape than in the model.")
            layer.weight.copy_(layer.weight.float() + lora.scale * added.to(layer.weight.device))


def _pairs(folder: Path, rank: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Of each layer its name, and A [rank, in] and B [out, rank]."""
    if not (folder / WEIGHTS).is_file():
        raise broken(folder, f"there is no {WEIGHTS} (pickled weights are never loaded).")
    check_whole(folder, folder / WEIGHTS)
    found: dict[str, dict[str, Tensor]] = {}
    for name, weight in load_file(folder / WEIGHTS).items():
        layer, kind = _split(name)
        if kind is None:
            raise broken(folder, f"{WEIGHTS} holds weights other than lora_A and lora_B, which is not done here.")
        if weight.dim() != 2 or not bool(torch.isfinite(weight).all()):
            raise broken(folder, f"{WEIGHTS} holds a weight that is no matrix, or numbers that are not finite.")
        found.setdefault(layer, {})[kind] = weight
    if not found:
        raise broken(folder, f"{WEIGHTS} holds no weights.")
    for layer, pair in sorted(found.items()):
        if len(pair) < 2 or not pair[DOWN].shape[0] == pair[UP].shape[1] == rank:
            raise broken(folder, f"{WEIGHTS}: the two matrices of a layer are not of the rank that is said (r), or one is missing.")
        yield layer, pair[DOWN], pair[UP]


def _split(name: str) -> tuple[str, str | None]:
    """ "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight" -> ("model.layers.0.mlp.up_proj", "lora_A")."""
    parts = name.removeprefix(PREFIX).split(".")
    for kind in (DOWN, UP):
        if kind in parts and parts[-1] == "weight":
            return ".".join(parts[: parts.index(kind)]), kind
    return name, None


def _layer(model: Any, folder: Path, name: str) -> Any:
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        raise broken(folder, f"{WEIGHTS} names a layer that the model does not have: is the adapter another model's?") from None
    if not isinstance(layer, nn.Linear | Conv1D):
        raise broken(folder, f"{WEIGHTS} changes a layer that is not linear, which is not done here.")
    if layer is model.get_output_embeddings() and layer.weight is model.get_input_embeddings().weight:
        raise broken(folder, f"{WEIGHTS} changes the head, which is tied to the embeddings: that is not done here.")
    return layer
