"""Gemma 3 out of a GGUF file, as what transformers and tokenizers load: bf16 safetensors, config.json, tokenizer.json.

Weights are de-quantised and rounded to bf16, which is finer than the four to eight bits they come from. Two things differ between the
formats: GGUF stores RMSNorm weights as the factor itself, Gemma's code as the factor less one; and the head is tied to the embedding in
both, so it is not written. Queries and keys need no permutation (both rotate halves). The output is the same byte for byte on every
machine, so that the registry can pin it: for that, and to stream bf16 without torch, the safetensors file is laid out here.

transformers reads the file too (5.23, ``gguf_file=`` and de-quantised, with the accelerate package), and what it saves is the same byte for
byte; it takes 39 s of CPU and 2.9 GB of memory for it, this file 8 s and 0.45 GB.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from workers.models.gguf_file import GgufFile, StoredTensor, Value, read_head

SLIDING_LAYERS_PER_FULL = 5
SLIDING_ROPE_BASE = 10_000.0  # GGUF names the base of the full-attention layers only
CHUNK_VALUES = 8 * 2**20

_OUTSIDE_LAYERS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_IN_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NORMAL, _CONTROL, _USER_DEFINED, _BYTE = 1, 3, 4, 6  # token types


def convert(data: bytes, folder: Path) -> None:
    """Writes the three files into `folder`, which exists. Raises ValueError or KeyError where the file is not a Gemma 3."""
    head = read_head(data)
    if head.metadata["general.architecture"] != "gemma3":
        raise ValueError("Not a Gemma 3 model.")
    _write_json(folder / "config.json", config(head.metadata))
    _write_json(folder / "tokenizer.json", tokenizer(head.metadata))
    _write_weights(folder / "model.safetensors", data, head)


def config(metadata: dict[str, Value]) -> dict[str, object]:
    def number(name: str) -> int | float:
        value = metadata[f"gemma3.{name}"]
        assert isinstance(value, int | float)
        return value

    layers = int(number("block_count"))
    full = SLIDING_LAYERS_PER_FULL + 1
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": len(_list(metadata, "tokens")),
        "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "head_dim": number("attention.key_length"),
        "query_pre_attn_scalar": number("attention.key_length"),
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": number("context_length"),
        "rms_norm_eps": 1e-06,
        "sliding_window": number("attention.sliding_window"),
        "layer_types": ["full_attention" if layer % full == full - 1 else "sliding_attention" for layer in range(layers)],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": number("rope.freq_base")},
            "sliding_attention": {"rope_type": "default", "rope_theta": SLIDING_ROPE_BASE},
        },
        "attention_bias": False,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
    }


def tokenizer(metadata: dict[str, Value]) -> dict[str, object]:
    """The SentencePiece BPE vocabulary as a `tokenizers` file. It adds no start token: the engine does.

    Merges follow from the scores (a pair joins in order of the score of what it makes). Control and byte tokens take part in none, so no
    text can be merged into one. Runs of spaces and of line ends are user-defined: they match first and longest, on normalised text.
    """
    tokens = [str(token) for token in _list(metadata, "tokens")]
    kinds = _list(metadata, "token_type")
    scores = _list(metadata, "scores")
    unknown = int(str(metadata["tokenizer.ggml.unknown_token_id"]))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": kind == _USER_DEFINED,
                "special": kind == _CONTROL,
            }
            for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind in (_CONTROL, _USER_DEFINED)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": tokens[unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": _merges(tokens, kinds, scores),
        },
    }


def _merges(tokens: list[str], kinds: list[Value], scores: list[Value]) -> list[tuple[str, str]]:
    """Every way to split a normal token into two, best score first; equal scores by the ids of the parts."""
    ids = {token: number for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == _NORMAL}
    found = []
    for token, number in ids.items():
        score = scores[number]
        assert isinstance(score, float)
        for at in range(1, len(token)):
            left, right = ids.get(token[:at]), ids.get(token[at:])
            if left is not None and right is not None:
                found.append((-score, left, right))
    found.sort()
    return [(tokens[left], tokens[right]) for _, left, right in found]


def _list(metadata: dict[str, Value], name: str) -> list[Value]:
    value = metadata[f"tokenizer.ggml.{name}"]
    assert isinstance(value, list)
    return value


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _write_weights(path: Path, data: bytes, head: GgufFile) -> None:
    """The safetensors layout: length of the header, header, then the tensors one after the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    named = sorted((_name_in_transformers(name), tensor) for name, tensor in head.tensors.items())
    for name, tensor in named:
        end = at + 2 * int(np.prod(tensor.shape))
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [at, end]}
        at = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, tensor in named:
            for values in _dequantised(data, tensor):
                file.write(bfloat16(values - np.float32(1) if name.endswith("norm.weight") else values).tobytes())


def _dequantised(data: bytes, tensor: StoredTensor) -> Iterator[NDArray[np.float32]]:
    """The tensor's values in order, some rows at a time so that they stay in the cache."""
    kind = GGMLQuantizationType(tensor.kind)
    block_values, block_bytes = GGML_QUANT_SIZES[kind]
    width = tensor.shape[-1]
    row_bytes = width // block_values * block_bytes
    rows = int(np.prod(tensor.shape)) // width
    step = max(1, CHUNK_VALUES // width)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        raw = np.frombuffer(data, np.uint8, count * row_bytes, tensor.offset + first * row_bytes)
        yield dequantize(raw.reshape(count, row_bytes), kind).reshape(-1)


def bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Rounds to nearest, ties to even, as torch does. The values are finite."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _name_in_transformers(name: str) -> str:
    """ "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"."""
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_IN_LAYER[parts[2]]}.weight"
    return f"{_OUTSIDE_LAYERS[parts[0]]}.weight"
