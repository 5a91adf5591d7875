import dataclasses
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize
from hypothesis import given
from hypothesis import strategies as st

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
