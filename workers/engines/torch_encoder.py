"""A BERT-shaped sentence encoder in torch, packed: no token of padding is ever computed.

The tokens of a batch lie one after the other. Everything but attention works on them as one matrix [T, d]; attention runs once for each
length that occurs, over all sequences of that length. Queries, keys and values come from one fused product. Follows transformers'
BertModel (post-norm, exact GELU); pooling is the mean over tokens, in fp32, then unit length, as all-MiniLM-L6-v2 was trained.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from workers.engines.base import Tokens, Vectors
from workers.engines.packing import Packed
from workers.engines.plan import Format
from workers.engines.torch_errors import translated
from workers.models.registry import ModelCard

# Of a text of megabytes only the head is tokenised. Words are tokenised one by one, so where the head fills the model the ids are the same;
# where it does not (a novel's worth of spaces), the whole text is.
HEAD_CHARS_PER_TOKEN = 64


@dataclass(frozen=True, slots=True)
class _Affine:
    """Weight and bias of a linear layer [out, in] or of a layer norm [d]."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class _Layer:
    query_key_value: _Affine  # [3d, d]
    attention_output: _Affine
    attention_norm: _Affine
    up: _Affine
    down: _Affine
    output_norm: _Affine


class TorchEncoder:
    """Weights are read once and never written, so lanes share one instance. Sets torch to one thread for the process: lanes are the
    parallelism."""

    def __init__(self, card: ModelCard, folder: Path, *, device: str, number_format: Format) -> None:
        torch.set_num_threads(1)
        self.model_version = f"{card.id}@{card.files['model.safetensors'][:12]}+torch-packed-{number_format}"
        self.max_tokens = card.max_tokens
        self.dimensions = card.dimensions
        self._device = torch.device(device)
        config = json.loads((folder / "config.json").read_text())
        self._heads: int = config["num_attention_heads"]
        self._epsilon: float = config["layer_norm_eps"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        # One more than the model takes, so that a cut text is known from one that just fits. The end token is put back in `tokenize`.
        self._tokenizer.enable_truncation(card.max_tokens + 1)
        self._load(load_file(folder / "model.safetensors"), config["num_hidden_layers"], getattr(torch, number_format))

    def _load(self, stored: dict[str, Tensor], layers: int, dtype: torch.dtype) -> None:
        def placed(tensor: Tensor) -> Tensor:
            return tensor.to(device=self._device, dtype=dtype).contiguous()

        def affine(*names: str) -> _Affine:
            return _Affine(
                placed(torch.cat([stored[f"{name}.weight"] for name in names])),
                placed(torch.cat([stored[f"{name}.bias"] for name in names])),
            )

        embeddings = "embeddings"
        self._words = placed(stored[f"{embeddings}.word_embeddings.weight"])
        # Every token is of segment 0, so its segment embedding is folded into the positions.
        self._places = placed(stored[f"{embeddings}.position_embeddings.weight"] + stored[f"{embeddings}.token_type_embeddings.weight"][0])
        self._embedding_norm = affine(f"{embeddings}.LayerNorm")
        self._layers = [
            _Layer(
                query_key_value=affine(*(f"{layer}.attention.self.{part}" for part in ("query", "key", "value"))),
                attention_output=affine(f"{layer}.attention.output.dense"),
                attention_norm=affine(f"{layer}.attention.output.LayerNorm"),
                up=affine(f"{layer}.intermediate.dense"),
                down=affine(f"{layer}.output.dense"),
                output_norm=affine(f"{layer}.output.LayerNorm"),
            )
            for layer in (f"encoder.layer.{number}" for number in range(layers))
        ]

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        head_chars = self.max_tokens * HEAD_CHARS_PER_TOKEN
        encodings = self._tokenizer.encode_batch_fast([text[:head_chars] for text in texts])
        return [
            self._tokens(
                self._tokenizer.encode(text).ids if len(text) > head_chars and len(encoding.ids) <= self.max_tokens else encoding.ids
            )
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _tokens(self, ids: list[int]) -> Tokens:
        if len(ids) <= self.max_tokens:
            return Tokens(np.array(ids, dtype=np.int32), truncated=False)
        return Tokens(np.array([*ids[: self.max_tokens - 1], ids[-1]], dtype=np.int32), truncated=True)

    def run(self, packed: Packed) -> Vectors:
        with torch.inference_mode(), translated():
            pooled = self._pool(self._hidden(packed), packed)
            vectors: Vectors = np.empty((len(packed.order), self.dimensions), np.float32)
            vectors[packed.order] = pooled.cpu().numpy()
            return vectors

    def _hidden(self, packed: Packed) -> Tensor:
        """[T, d], the last layer's output for every token."""
        ids = torch.from_numpy(packed.ids).to(self._device, non_blocking=True)
        positions = torch.from_numpy(packed.positions).to(self._device, non_blocking=True)
        hidden = self._norm(self._words[ids] + self._places[positions], self._embedding_norm)
        for layer in self._layers:
            attended = _linear(self._attention(_linear(hidden, layer.query_key_value), packed), layer.attention_output)
            hidden = self._norm(attended.add_(hidden), layer.attention_norm)
            inner = functional.gelu(_linear(hidden, layer.up))
            hidden = self._norm(_linear(inner, layer.down).add_(hidden), layer.output_norm)
        return hidden

    def _attention(self, query_key_value: Tensor, packed: Packed) -> Tensor:
        """[T, 3d] -> [T, d]; each sequence sees itself only."""
        width = query_key_value.shape[1] // 3
        context = query_key_value.new_empty(query_key_value.shape[0], width)
        for group in packed.groups:
            rows = slice(group.start, group.start + group.count * group.length)
            # [count, length, 3, heads, d / heads] -> three of [count, heads, length, d / heads]
            split = query_key_value[rows].view(group.count, group.length, 3, self._heads, width // self._heads).permute(2, 0, 3, 1, 4)
            seen = functional.scaled_dot_product_attention(split[0], split[1], split[2])
            context[rows].view(group.count, group.length, self._heads, width // self._heads).copy_(seen.transpose(1, 2))
        return context

    def _pool(self, hidden: Tensor, packed: Packed) -> Tensor:
        """[n, d] in packed order, unit length."""
        means = [
            hidden[group.start : group.start + group.count * group.length].view(group.count, group.length, -1).float().mean(1)
            for group in packed.groups
        ]
        return functional.normalize(torch.cat(means), dim=1)

    def _norm(self, hidden: Tensor, norm: _Affine) -> Tensor:
        return functional.layer_norm(hidden, norm.weight.shape, norm.weight, norm.bias, self._epsilon)


def _linear(hidden: Tensor, layer: _Affine) -> Tensor:
    return functional.linear(hidden, layer.weight, layer.bias)
