"""The encoders that this house runs with code of its own, read into one shape: BERT and its kin (RoBERTa, XLM-R, DistilBERT, MiniLM).

All of them are the same machine: embeddings of words and places, post-norm layers of attention and feed-forward, and at the end either the
mean or the first token as a sentence vector, or a head of two linear layers over the first token as a classifier. They differ in the names
of their weights, in where positions start, and in the activation. What is not of this shape is left to transformers (see
`transformers_encoder.py`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from workers.engines.folders.files import broken, fitting, read_config, read_settings, weight_files
from workers.models.folder_config import ROBERTA_LIKE, first_place, read_labels

Pooling = Literal["mean", "first"]
Activation = Literal["gelu", "gelu_tanh", "relu"]
ACTIVATIONS: dict[str, Activation] = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}


@dataclass(frozen=True, slots=True)
class Affine:
    """Weight and bias of a linear layer [out, in] or of a layer norm [d]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    query_key_value: Affine  # [3d, d]
    attention_output: Affine
    attention_norm: Affine
    up: Affine
    down: Affine
    output_norm: Affine


@dataclass(frozen=True, slots=True)
class ClassifierHead:
    """`logits = out · act(dense · first token)`."""

    dense: Affine
    activation: Literal["tanh", "relu"]
    out: Affine


@dataclass(frozen=True, slots=True)
class Architecture:
    """Weights in fp32. `places` [max positions, d] holds what is added to the n-th token, segment 0 included."""

    heads: int
    epsilon: float
    activation: Activation
    words: Tensor  # [vocabulary, d]
    places: Tensor
    embedding_norm: Affine
    layers: tuple[Layer, ...]
    pooling: Pooling
    head: ClassifierHead | None
    labels: tuple[str, ...]  # of the head, in the order of its outputs

    @property
    def width(self) -> int:
        return self.words.shape[1]

    @property
    def outputs(self) -> int:
        """Numbers a text is answered with: labels of a classifier, dimensions of a sentence vector."""
        return len(self.labels) if self.head is not None else self.width


class NotOfThisShape(Exception):
    """The model is of another family, or a variant of one that the code here does not compute."""


def read_pooling(folder: Path) -> Pooling:
    """What sentence-transformers wrote beside the model, or the mean over tokens. Raises TextmillError "model_broken"."""
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        return "mean"
    asked = read_settings(folder, path)
    chosen = {name for name, on in asked.items() if name.startswith("pooling_mode_") and on is True} if isinstance(asked, dict) else set()
    if chosen == {"pooling_mode_cls_token"}:
        return "first"
    if chosen == {"pooling_mode_mean_tokens"}:
        return "mean"
    raise broken(folder, "1_Pooling/config.json asks for a pooling other than the mean or the first token.")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of all safetensors files. Raises TextmillError "model_broken"."""
    return {name: tensor for file in weight_files(folder) for name, tensor in load_file(file).items()}


def read(folder: Path) -> Architecture:
    """Raises NotOfThisShape, or TextmillError "model_broken" where a weight is missing, misshapen or not finite."""
    config = read_config(folder)
    reader = _READERS.get(config["model_type"])
    if reader is None or config.get("position_embedding_type", "absolute") != "absolute":
        raise NotOfThisShape
    with fitting(folder):
        return reader(_Weights(folder, read_weights(folder)), config)


class _Weights:
    """Tensors by name, whatever prefix the model class put before them."""

    def __init__(self, folder: Path, stored: dict[str, Tensor]) -> None:
        self.folder = folder
        self._stored = {re.sub(r"^(bert|roberta|distilbert)\.", "", name): tensor for name, tensor in stored.items()}

    def tensor(self, name: str) -> Tensor:
        try:
            found = self._stored[name].float()
        except KeyError:
            raise broken(self.folder, f"the weight {name} is missing.") from None
        if not torch.isfinite(found).all():
            raise broken(self.folder, f"the weight {name} holds numbers that are not finite.")
        return found

    def affine(self, *names: str) -> Affine:
        """Several layers of the same input become one product."""
        try:
            return Affine(
                torch.cat([self.tensor(f"{name}.weight") for name in names]), torch.cat([self.tensor(f"{name}.bias") for name in names])
            )
        except RuntimeError:
            raise broken(self.folder, f"the weights of {names[0]} do not fit each other.") from None


def _read_bert(weights: _Weights, config: dict[str, Any]) -> Architecture:
    roberta = config["model_type"] in ROBERTA_LIKE
    places = weights.tensor("embeddings.position_embeddings.weight") + weights.tensor("embeddings.token_type_embeddings.weight")[0]
    labels = read_labels(config)
    head = None
    if labels:
        dense, out = ("classifier.dense", "classifier.out_proj") if roberta else ("pooler.dense", "classifier")
        head = ClassifierHead(weights.affine(dense), "tanh", weights.affine(out))
    names = ("attention.self.query", "attention.self.key", "attention.self.value")
    return Architecture(
        heads=_number(weights, config, "num_attention_heads"),
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        activation=_activation(config.get("hidden_act", "gelu")),
        words=weights.tensor("embeddings.word_embeddings.weight"),
        places=places[first_place(config) :],
        embedding_norm=weights.affine("embeddings.LayerNorm"),
        layers=tuple(
            Layer(
                query_key_value=weights.affine(*(f"{layer}.{name}" for name in names)),
                attention_output=weights.affine(f"{layer}.attention.output.dense"),
                attention_norm=weights.affine(f"{layer}.attention.output.LayerNorm"),
                up=weights.affine(f"{layer}.intermediate.dense"),
                down=weights.affine(f"{layer}.output.dense"),
                output_norm=weights.affine(f"{layer}.output.LayerNorm"),
            )
            for layer in (f"encoder.layer.{number}" for number in range(_number(weights, config, "num_hidden_layers")))
        ),
        pooling=read_pooling(weights.folder),
        head=head,
        labels=labels,
    )


def _read_distilbert(weights: _Weights, config: dict[str, Any]) -> Architecture:
    labels = read_labels(config)
    return Architecture(
        heads=_number(weights, config, "n_heads"),
        epsilon=1e-12,
        activation=_activation(config.get("activation", "gelu")),
        words=weights.tensor("embeddings.word_embeddings.weight"),
        places=weights.tensor("embeddings.position_embeddings.weight"),
        embedding_norm=weights.affine("embeddings.LayerNorm"),
        layers=tuple(
            Layer(
                query_key_value=weights.affine(*(f"{layer}.attention.{name}" for name in ("q_lin", "k_lin", "v_lin"))),
                attention_output=weights.affine(f"{layer}.attention.out_lin"),
                attention_norm=weights.affine(f"{layer}.sa_layer_norm"),
                up=weights.affine(f"{layer}.ffn.lin1"),
                down=weights.affine(f"{layer}.ffn.lin2"),
                output_norm=weights.affine(f"{layer}.output_layer_norm"),
            )
            for layer in (f"transformer.layer.{number}" for number in range(_number(weights, config, "n_layers")))
        ),
        pooling=read_pooling(weights.folder),
        head=ClassifierHead(weights.affine("pre_classifier"), "relu", weights.affine("classifier")) if labels else None,
        labels=labels,
    )


_READERS: dict[str, Callable[[_Weights, dict[str, Any]], Architecture]] = {
    "bert": _read_bert,
    "roberta": _read_bert,
    "xlm-roberta": _read_bert,
    "camembert": _read_bert,
    "distilbert": _read_distilbert,
}


def _activation(name: str) -> Activation:
    if name not in ACTIVATIONS:
        raise NotOfThisShape
    return ACTIVATIONS[name]


def _number(weights: _Weights, config: dict[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or value < 1:
        raise broken(weights.folder, f"config.json has no {name}.")
    return value
