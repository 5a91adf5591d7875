"""A model that its folder does not make whole is told of before a row fails."""

import json
import re
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from api.local.doctor.models import models
from api.local.doctor.place import Place
from api.local.home.home import Home
from tests.workers.families import make
from workers.engines.trial import why_broken
from workers.models.folders import VARIABLE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole ones, one of each way of running, and broken ones."""
    root = tmp_path_factory.mktemp("models")
    make("bert", root / "whole", classifier=True)
    make("mpnet", root / "other-family", classifier=False)
    make("bert", root / "headless", classifier=True)
    stored = load_file(root / "headless" / "model.safetensors")
    save_file(
        {name: weight for name, weight in stored.items() if not name.startswith("classifier")}, root / "headless" / "model.safetensors"
    )
    (root / "zero").mkdir()
    (root / "zero" / "config.json").write_text((root / "whole" / "config.json").read_text())
    make("bert", root / "mute", classifier=False)
    (root / "mute" / "tokenizer.json").unlink()
    return root


BROKEN = {"headless": "classifier", "zero": "no .safetensors file", "mute": "tokenizer"}


def test_doctor_says_of_each_of_the_operators_models_whether_it_answers(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(root))
    monkeypatch.setenv("TEXTMILL_HOME", str(tmp_path))
    monkeypatch.setenv("TEXTMILL_MODELS", "nope,local:whole")
    told = {each.check.removeprefix("model "): each for each in models(Place.of(Home(tmp_path), "worker"))}
    assert {name for name, each in told.items() if not each.ok} == {"nope", *(f"local:{name}" for name in BROKEN)}
    for name, why in BROKEN.items():
        assert why in told[f"local:{name}"].todo
    assert "there is none" in told["nope"].found
    assert "local:whole" in told["nope"].todo
    assert told["local:whole"].found.endswith("answers a text")


def test_a_weight_that_is_no_number_is_told(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    make("mpnet", tmp_path / "spoilt", classifier=False)
    stored = load_file(tmp_path / "spoilt" / "model.safetensors")
    stored["embeddings.word_embeddings.weight"].fill_(float("nan"))
    save_file(stored, tmp_path / "spoilt" / "model.safetensors", metadata={"format": "pt"})
    assert json.loads((tmp_path / "spoilt" / "config.json").read_text())["architectures"]
    assert why_broken("local:spoilt") is not None


ENDS = {
    "raise ImportError('libx.so', name='torch')": r"cannot be tried here.* torch ",
    "import os; os.kill(os.getpid(), 9)": r"is there memory enough",
    "import os; os.kill(os.getpid(), 11)": r"ended by SIGSEGV",
    "raise SystemExit(3)": r"ended with code 3",
}


@pytest.mark.parametrize("library", ENDS)
def test_a_trial_that_has_no_answer_is_told_by_how_it_ended(
    library: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with the installation is not the model's."""
    monkeypatch.setenv(VARIABLE, str(root))
    (tmp_path / "torch.py").write_text(library)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = why_broken("local:whole") or ""
    assert re.search(ENDS[library], told), told
    assert ("memory" in told) is ("os.kill(os.getpid(), 9)" in library)
