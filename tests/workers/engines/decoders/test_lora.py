"""A LoRA adapter merged into its model says what the weights say that it makes, computed by hand."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from db.errors import TextmillError
from tests.workers.decoder_folders import change, make
from tests.workers.engines.decoders.driving import run, said
from tests.workers.engines.decoders.families import greedy
from tests.workers.engines.decoders.test_own_models import load
from workers.batches.outcomes import FailedRow
from workers.engines.contract.decoding import DecoderRow
from workers.engines.decoders.lora import merge
from workers.engines.decoders.torch_decoder import TorchDecoder

RANK = 4
PROMPTS = ("the goal", "What is the capital of France?", "late")
TARGETS = {"llama": ("q_proj", "down_proj", "lm_head"), "gpt2": ("c_attn", "c_fc"), "phi3": ("qkv_proj", "gate_up_proj")}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", str(tmp_path))
    return tmp_path


def adapt(folder: Path, model: Any, targets: tuple[str, ...], **config: object) -> dict[str, torch.Tensor]:
    """Writes an adapter as PEFT does, and returns B · A of each layer."""
    folder.mkdir()
    said_there = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 6,
        "target_modules": list(targets),
        "bias": "none",
        "base_model_name_or_path": "x/own",
    }
    (folder / "adapter_config.json").write_text(json.dumps(said_there | config))
    torch.manual_seed(5)
    weights, products = {}, {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in targets:
            into, out = module.weight.shape if type(module).__name__ == "Conv1D" else reversed(module.weight.shape)
            down, up = torch.randn(RANK, into), torch.randn(out, RANK)
            weights |= {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
            products[name] = up @ down
    save_file(weights, folder / "adapter_model.safetensors")
    return products


def by_hand(model: Any, products: Mapping[str, torch.Tensor], scale: float) -> None:
    for name, product in products.items():
        module = model.get_submodule(name)
        module.weight.data += scale * (product.T if type(module).__name__ == "Conv1D" else product)


def answers(decoder: TorchDecoder) -> list[list[int]]:
    prompts = [decoder.tokenize_prompt(prompt) for prompt in PROMPTS]
    rows = [DecoderRow(ids, 16) for ids in prompts if not isinstance(ids, FailedRow)]
    return [list(said(answer).ids) for answer in run(decoder.slots(), rows)]


@pytest.mark.parametrize(("config", "scale"), [({}, 6 / RANK), ({"use_rslora": True}, 6 / RANK**0.5), ({"lora_alpha": 0.5}, 0.5 / RANK)])
@pytest.mark.parametrize("family", TARGETS)
def test_what_is_merged_is_the_scaled_product(family: str, config: dict[str, object], scale: float, root: Path) -> None:
    model = make(root / "own", family, tie_word_embeddings=False)
    products = adapt(root / "own" / "tuned", model, TARGETS[family], **config)
    plain = answers(load(root))
    tuned = load(root, "own@tuned")
    merged = make(root / "other", family, tie_word_embeddings=False)
    merge(merged, root / "own" / "tuned")
    by_hand(model, products, scale)
    for (name, weight), found in zip(model.named_parameters(), merged.parameters(), strict=True):
        torch.testing.assert_close(found, weight, msg=name)
    known = [
        greedy(model, ids.tolist(), 16, set(tuned._loaded.end_ids))
        for ids in (tuned.tokenize_prompt(prompt) for prompt in PROMPTS)
        if not isinstance(ids, FailedRow)
    ]
    assert answers(tuned) == known != plain
    assert answers(load(root)) == plain, "the model below is as it was"
    assert tuned.model_version.startswith("local:own@tuned@")
    assert tuned.model_version.rpartition("@")[2] != load(root).model_version.rpartition("@")[2]


def test_an_adapter_may_lie_beside_its_model(root: Path) -> None:
    model = make(root / "own")
    adapt(root / "tuned", model, ("q_proj",))
    assert answers(load(root, "own@tuned")) != answers(load(root))


def _weights(spoil: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def spoilt(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file(spoil(dict(load_file(path))), path)

    return spoilt


FIRST = "base_model.model.model.layers.0.self_attn.q_proj"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "pickled weights are never loaded"),
    "weights cut off": (lambda folder: os.truncate(folder / "adapter_model.safetensors", 300), "cut off"),
    "half a pair": (_weights(lambda weights: {FIRST + ".lora_A.weight": weights[FIRST + ".lora_A.weight"]}), "one is missing"),
    "another rank": (lambda folder: change(folder / "adapter_config.json", r=8), "not of the rank that is said"),
    "another width": (
        _weights(lambda weights: weights | {FIRST + ".lora_B.weight": torch.zeros(8, RANK)}),
        "of another shape than in the model",
    ),
    "a layer that is not there": (
        _weights(lambda weights: {name.replace("layers.0", "layers.7"): weight for name, weight in weights.items()}),
        "a layer that the model does not have",
    ),
    "a layer that is not linear": (
        _weights(lambda weights: {name.replace("self_attn.q_proj", "input_layernorm"): weight for name, weight in weights.items()}),
        "not linear",
    ),
    "an embedding": (
        _weights(lambda weights: {"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 4)}),
        "other than lora_A",
    ),
    "a magnitude": (_weights(lambda weights: weights | {FIRST + ".lora_magnitude_vector.weight": torch.zeros(4)}), "other than lora_A"),
    "no numbers": (_weights(lambda weights: weights | {FIRST + ".lora_A.weight": torch.full((RANK, 32), torch.nan)}), "not finite"),
    "nothing in it": (_weights(lambda weights: {}), "holds no weights"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_adapter_that_does_not_fit_is_a_sentence(name: str, root: Path) -> None:
    spoil, why = BROKEN[name]
    adapt(root / "tuned", make(root / "own"), ("q_proj",))
    spoil(root / "tuned")
    with pytest.raises(TextmillError, match=why) as caught:
        load(root, "own@tuned")
    assert caught.value.code == "model_broken"


def test_a_head_that_is_tied_to_the_embeddings_is_not_changed(root: Path) -> None:
    adapt(root / "tuned", make(root / "own", tie_word_embeddings=True), ("lm_head",))
    with pytest.raises(TextmillError, match="tied to the embeddings"):
        load(root, "own@tuned")
