"""Any Hugging Face encoder or sequence classifier in a folder answers as transformers does, on every engine that can run it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from db.errors import TextmillError
from tests.workers.asking import body_of, classify, run
from tests.workers.families import FAMILIES, LABELS, PACKED, POSITIONS, WORDS, make
from tests.workers.runtimes import Device
from workers.arrays import Ids, Vectors
from workers.engines.calibration.encoder_candidates import EncoderCandidates
from workers.inference.runtime import Runtime
from workers.machine.cpu import cpu_flags
from workers.models import registry
from workers.models.card import ModelCard
from workers.models.folders import local_model
from workers.models.provision import ensure, with_digest
from workers.tasks import TASKS
from workers.tasks.classify.task import ClassifyBody
from workers.tasks.reading import Reader
from workers.tasks.train.task import TrainBody

TEXTS = [" ".join(WORDS[(at * 3 + size) % len(WORDS)] for at in range(size)) for size in (1, 9, 4, 4, 40, 17, 2)]
CLOSE = {"float32": 2e-5, "bfloat16": 0.05, "int8": 0.1}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", str(tmp_path))
    return tmp_path


def load(root: Path, name: str) -> tuple[ModelCard, EncoderCandidates]:
    card = local_model(f"local:{name}")
    assert card is not None
    folder = ensure(card, root)
    card = with_digest(card, folder)
    return card, EncoderCandidates(card, folder, cpu_flags())


@pytest.mark.parametrize("classifier", [False, True], ids=["encoder", "classifier"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_answers_as_transformers_does(family: str, classifier: bool, root: Path) -> None:
    model = make(family, root / family, classifier=classifier)
    card, candidates = load(root, family)
    assert candidates.packed == (family in PACKED)
    assert card.own_labels == classifier
    checked = 0
    for candidate in candidates:
        if candidate.refused is not None:
            continue
        engine = candidate.load(1, 1)
        batch, _ = engine.tokenize(TEXTS)
        found = engine.run(engine.prepare(batch))
        assert engine.labels == (tuple(LABELS.values()) if classifier else ())
        assert np.abs(found - one_by_one(model, batch, classifier=classifier)).max() <= CLOSE[candidate.format] * max(
            1.0, np.abs(found).max()
        )
        checked += 1
    assert checked >= (2 if family in PACKED else 1)


def one_by_one(model: torch.nn.Module, batch: list[Ids], *, classifier: bool) -> Vectors:
    """transformers' own answer for each text alone, so that nothing is padded."""
    with torch.inference_mode():
        outs = [model(input_ids=torch.tensor(ids[None].astype(np.int64))) for ids in batch]
    if classifier:
        return torch.cat([out.logits for out in outs]).numpy()
    means = torch.cat([out.last_hidden_state.mean(1) for out in outs])
    return torch.nn.functional.normalize(means, dim=1).numpy()


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_a_text_longer_than_the_model_is_cut_to_its_positions(family: str, root: Path) -> None:
    make(family, root / family, classifier=False)
    card, candidates = load(root, family)
    engine = candidates.reference.load(1, 1)
    assert engine.max_tokens == card.max_tokens == POSITIONS - (1 if family != "bert" else 0)
    (ids,), (truncated,) = engine.tokenize(["goal " * 500])
    assert truncated
    assert np.isfinite(engine.run(engine.prepare([ids]))).all()


def test_the_first_token_is_the_vector_where_sentence_transformers_says_so(root: Path) -> None:
    model = make("bert", root / "bert", classifier=False)
    (root / "bert" / "1_Pooling").mkdir()
    (root / "bert" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    _, candidates = load(root, "bert")
    for candidate in candidates:
        if candidate.refused is None and candidate.format == "float32":
            engine = candidate.load(1, 1)
            (ids,), _ = engine.tokenize(["the goal was late"])
            with torch.inference_mode():
                first = model(input_ids=torch.tensor(ids[None].astype(np.int64))).last_hidden_state[0, 0]
            assert engine.run(engine.prepare([ids]))[0] == pytest.approx((first / first.norm()).numpy(), abs=2e-5)


def broken(root: Path, family: str, message: str) -> None:
    with pytest.raises(TextmillError, match=message) as caught:
        load(root, family)[1].reference.load(1, 1)
    assert caught.value.code == "model_broken"


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_weights_that_are_cut_off_are_named(family: str, root: Path) -> None:
    make(family, root / family, classifier=False)
    path = root / family / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    broken(root, family, r"model\.safetensors is cut off")


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_folder_without_weights_is_told(family: str, root: Path) -> None:
    make(family, root / family, classifier=False)
    (root / family / "model.safetensors").unlink()
    broken(root, family, r"no \.safetensors file")


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_weight_that_is_missing_is_named(family: str, root: Path) -> None:
    from safetensors.torch import load_file, save_file

    make(family, root / family, classifier=False)
    path = root / family / "model.safetensors"
    weights = load_file(path)
    gone = next(name for name in weights if "encoder.layer.1" in name)
    save_file({name: weight for name, weight in weights.items() if name != gone}, path, metadata={"format": "pt"})
    broken(root, family, "missing")


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_weight_that_is_not_a_number_is_told(family: str, root: Path) -> None:
    from safetensors.torch import load_file, save_file

    make(family, root / family, classifier=False)
    path = root / family / "model.safetensors"
    weights = load_file(path)
    next(weight for name, weight in weights.items() if "word_embeddings" in name)[3, 3] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    broken(root, family, "not finite")


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_tokenizer_of_another_model_is_told(family: str, root: Path) -> None:
    from tokenizers import Tokenizer

    make(family, root / family, classifier=False)
    tokenizer = Tokenizer.from_file(str(root / family / "tokenizer.json"))
    tokenizer.add_tokens(["wordone", "wordtwo"])
    tokenizer.save(str(root / family / "tokenizer.json"))
    broken(root, family, "do not belong together")


def test_an_unknown_architecture_is_told(root: Path) -> None:
    make("bert", root / "bert", classifier=False)
    path = root / "bert" / "config.json"
    path.write_text(path.read_text().replace('"model_type": "bert"', '"model_type": "clockwork"'))
    broken(root, "bert", "model_type")


def test_only_plain_names_below_the_operators_folder_are_models(root: Path) -> None:
    make("bert", root / "inner" / "bert", classifier=False)
    for name in ("../bert", "inner/bert", ".", "..", "bert", ""):
        assert local_model(f"local:{name}") is None


def test_a_card_without_a_folder_keeps_the_registrys_digest(root: Path) -> None:
    make("bert", root / "bert", classifier=False)
    card = local_model("local:bert")
    assert card is not None
    assert with_digest(replace(card, folder=None), root) == replace(card, folder=None)
    assert with_digest(card, root / "bert").weights_version.startswith("local:bert@")


def test_a_classifier_answers_with_its_own_labels(root: Path) -> None:
    model = make("bert", root / "mood", classifier=True)
    runtime = Runtime(Device(root))
    try:
        _, rows = classify(runtime, "local:mood", TEXTS, [None] * len(TEXTS), job=b"a job")
        for row, text in zip(rows, TEXTS, strict=True):
            answer = body_of(row)
            (ids,), _ = load(root, "mood")[1].reference.load(1, 1).tokenize([text])
            with torch.inference_mode():
                expected = model(input_ids=torch.tensor(ids[None].astype(np.int64))).logits.softmax(1)[0]
            assert list(answer["scores"]) == list(LABELS.values())
            assert list(answer["scores"].values()) == pytest.approx(expected.tolist(), abs=0.02)
            assert answer["label"] == max(answer["scores"], key=answer["scores"].__getitem__)
        _, rows = run(runtime, "train", "local:mood", [TrainBody(input=text, label="calm") for text in TEXTS])
        assert {row.code for row in rows} == {"model_task_mismatch"}, "a head is trained over a sentence encoder"
    finally:
        runtime.close()


def test_a_row_for_a_classifier_needs_no_labels_and_may_bring_none(root: Path) -> None:
    make("bert", root / "mood", classifier=True)
    make("bert", root / "plain", classifier=False)
    defaults = {"labels": ["one", "two"]}
    asked = Reader(TASKS["classify"], "/v1/classifications", {}, model="local:mood").ask(b'{"input": "the goal"}')
    assert isinstance(asked, ClassifyBody)
    assert asked.labels is None
    under = Reader(TASKS["classify"], "/v1/classifications", defaults, model="local:mood").ask(b'{"input": "the goal"}')
    assert isinstance(under, ClassifyBody)
    assert under.labels is None
    bringing = Reader(TASKS["classify"], "/v1/classifications", {}, model="local:mood").ask(b'{"input": "the goal", "labels": ["a", "b"]}')
    assert bringing == "invalid_field:labels"
    assert Reader(TASKS["classify"], "/v1/classifications", {}, model="local:plain").ask(b'{"input": "the goal"}') == "missing_labels"


def test_the_models_of_the_folder_are_listed_after_the_registrys(root: Path) -> None:
    make("bert", root / "mood", classifier=True)
    (root / "notes").mkdir()
    (root / "empty.json").write_text("{}")
    assert [card.id for card in registry.all_models()][-1] == "local:mood"
    assert registry.get("local:mood").tasks == ("classify",)
    for absent in ("local:notes", "local:empty.json", "local:"):
        with pytest.raises(TextmillError):
            registry.get(absent)
