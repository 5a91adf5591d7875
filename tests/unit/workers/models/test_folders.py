"""Folders of an operator's own: one that is odd harms itself alone, and says why."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.errors import TextmillError
from workers.models import registry
from workers.models.folders import VARIABLE, local_model
from workers.models.provision import ensure, is_here

PLAIN = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "max_position_embeddings": 64, "architectures": ["BertModel"]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With one good folder."""
    root = tmp_path / "models"
    add(root / "good", json.dumps(PLAIN))
    monkeypatch.setenv(VARIABLE, str(root))
    return root


def add(folder: Path, config: str | bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(config if isinstance(config, bytes) else config.encode())


def changed(**values: object) -> str:
    return json.dumps({**PLAIN, **values})


ODD: dict[str, str | bytes] = {
    "an attention on a hub": changed(attn_implementation="someone/kernel"),
    "the same as transformers keeps it": changed(_attn_implementation_internal="someone/kernel"),
    "no JSON": "{",
    "nothing": "",
    "a list": "[]",
    "a number": "5",
    "no type": "{}",
    "a type that is no text": changed(model_type=["bert"]),
    "another encoding": '{"model_type": "b\u00e9"}'.encode("utf-16"),
    "deep": "[" * 200_000,
    "deep inside": '{"model_type": "bert", "x": ' + "[" * 200_000,
    "a width in words": changed(hidden_size="wide"),
    "a width that is a list": changed(hidden_size=[1]),
    "a width that is an object": changed(hidden_size={}),
    "a width of truth": changed(hidden_size=True),
    "a negative width": changed(hidden_size=-1),
    "a broken width": changed(hidden_size=7.5),
    "a huge width": changed(hidden_size=10**400),
    "an endless width": '{"model_type": "bert", "hidden_size": 1e999}',
    "no number": '{"model_type": "bert", "hidden_size": NaN}',
    "more digits than Python reads": '{"model_type": "bert", "hidden_size": ' + "9" * 5_000 + "}",
    "layers in words": changed(num_hidden_layers="12"),
    "huge layers": changed(num_hidden_layers=10**30),
    "places in words": changed(max_position_embeddings="many"),
    "negative places": changed(max_position_embeddings=-5),
    "no places": changed(max_position_embeddings=1),
    "no place behind the padding": changed(model_type="roberta", pad_token_id=90),
    "padding in words": changed(model_type="roberta", pad_token_id="<pad>"),
    "architectures that are a number": changed(architectures=5),
    "architectures that are an object": changed(architectures={"a": 1}),
    "architectures without end": changed(architectures=["x"] * 1_000),
}


def lists(root: Path) -> list[str]:
    return [card.id for card in registry.all_models() if card.id.startswith("local:")]


def is_damaged(name: str) -> str:
    card = local_model(f"local:{name}")
    assert card is not None
    assert card.tasks == ()
    assert not is_here(card)
    with pytest.raises(TextmillError) as caught:
        registry.get(card.id)
    assert caught.value.code == "model_broken"
    assert card.damaged in caught.value.message
    return card.damaged


@pytest.mark.parametrize("config", ODD.values(), ids=ODD)
def test_an_odd_config_harms_its_own_folder_alone(root: Path, config: str | bytes) -> None:
    add(root / "odd", config)
    assert lists(root) == ["local:good", "local:odd"]
    assert registry.get("local:good").dimensions == 8
    assert registry.default_model("classify").id == "minilm-l6-v2"
    assert is_damaged("odd").startswith("config.json")


def test_values_that_a_model_may_have_pass(root: Path) -> None:
    """The control."""
    for name, values in {
        "nulls": {"pad_token_id": None, "architectures": None, "hidden_size": None},
        "whole": {"hidden_size": 8.0},
        "aside": {"pad_token_id": -1, "custom": {"deep": [[[1]]]}},
        "roberta": {"model_type": "roberta", "pad_token_id": 1},
    }.items():
        add(root / name, changed(**values))
        assert registry.get(f"local:{name}").tasks == ("classify", "embed"), name
    assert registry.get("local:roberta").max_tokens == 62


def test_a_config_that_is_no_file_is_not_waited_for(root: Path) -> None:
    for name, make in {
        "pipe": os.mkfifo,
        "zero": lambda path: path.symlink_to("/dev/zero"),
        "folder": Path.mkdir,
    }.items():
        (root / name).mkdir()
        make(root / name / "config.json")
        assert "is no file" in is_damaged(name)


def test_a_config_of_gigabytes_is_not_read(root: Path) -> None:
    add(root / "large", json.dumps(PLAIN))
    os.truncate(root / "large" / "config.json", 3 << 30)
    assert "larger than" in is_damaged("large")


@pytest.mark.parametrize(
    "beside", ["[]", "5", "{", '{"model_max_length": "x"}', '{"model_max_length": [1]}', '{"model_max_length": -1}', "[" * 99_999]
)
def test_an_odd_file_beside_the_config_sets_no_limit(root: Path, beside: str) -> None:
    add(root / "odd", json.dumps(PLAIN))
    for name in ("tokenizer_config.json", "sentence_bert_config.json"):
        (root / "odd" / name).write_text(beside)
    assert registry.get("local:odd").max_tokens == 64


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777])
def test_a_folder_that_others_may_write_is_damaged(root: Path, mode: int) -> None:
    add(root / "open", json.dumps(PLAIN))
    (root / "open").chmod(mode)
    assert "may be written by others" in is_damaged("open")
    assert lists(root) == ["local:good", "local:open"]


def test_so_is_one_whose_weights_or_whose_folders_above_others_may_write(root: Path) -> None:
    add(root / "open", json.dumps(PLAIN))
    weights = root / "open" / "model.safetensors"
    weights.touch(mode=0o600)
    weights.chmod(0o666)
    assert str(weights) in is_damaged("open")
    weights.chmod(0o644)
    card = registry.get("local:good")
    root.chmod(0o777)
    with pytest.raises(TextmillError, match="may be written by others"):
        ensure(card, root)
    root.chmod(0o1777)
    assert ensure(card, root) == root / "good"


def test_what_is_mended_is_used_again(root: Path) -> None:
    add(root / "odd", "{")
    is_damaged("odd")
    (root / "odd" / "config.json").write_text(json.dumps(PLAIN))
    assert registry.get("local:odd").damaged == ""


@pytest.mark.parametrize("place", ["1_Pooling", "1_Pooling/config.json", "linked"])
def test_so_is_one_with_a_folder_inside_that_others_may_write(root: Path, place: str, tmp_path: Path) -> None:
    """Whoever writes 1_Pooling changes every vector."""
    card = registry.get("local:good")
    (root / "good" / "1_Pooling").mkdir()
    (root / "good" / "1_Pooling" / "config.json").write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    (root / "good" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "good" / "1_Pooling" / "round").symlink_to(root / "good")
    (root / "good" / "nowhere").symlink_to(tmp_path / "nowhere")
    assert ensure(card, root) == root / "good"
    (root / "good" / place).chmod(0o777)
    with pytest.raises(TextmillError, match="may be written by others"):
        ensure(card, root)
    add(root / "open", json.dumps(PLAIN))
    (root / "good" / "1_Pooling").rename(root / "open" / "1_Pooling")
    (root / "good" / "linked").rename(root / "open" / "linked")
    assert "may be written by others" in is_damaged("open")


def closed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As a folder of another user's is. Root's tests may list every one."""
    listed = Path.iterdir

    def refused(folder: Path) -> Iterator[Path]:
        if folder.name in names:
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refused)


def test_a_folder_inside_that_may_not_be_listed_takes_no_model_away(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume's lost+found, a cache of another user's: what is in there nobody here reads."""
    for name in ("lost+found", ".cache"):
        (root / "good" / name).mkdir()
    closed(monkeypatch, "lost+found", ".cache")
    assert registry.get("local:good").dimensions == 8
    (root / "good" / ".cache").chmod(0o777)
    (root / "good" / "touched").touch()
    assert "may be written by others" in is_damaged("good"), "the control: it is looked at itself"


def test_a_model_that_may_not_be_listed_says_so_until_it_may(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        closed(patch, "good")
        assert lists(root) == ["local:good"]
        assert "Permission denied" in is_damaged("good")
    assert registry.get("local:good").damaged == ""


def test_of_a_folder_elsewhere_that_is_linked_what_lies_in_it_is_looked_at_and_no_more(root: Path, tmp_path: Path) -> None:
    """No model reads deeper, and a link may lead to all of the disk."""
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "open").touch()
    (tmp_path / "elsewhere" / "deep" / "open").chmod(0o666)
    (tmp_path / "elsewhere" / "on").symlink_to(tmp_path / "elsewhere" / "deep")
    (root / "good" / "1_Pooling").symlink_to(tmp_path / "elsewhere")
    assert registry.get("local:good").damaged == ""
    (tmp_path / "elsewhere" / "config.json").touch()
    (tmp_path / "elsewhere" / "config.json").chmod(0o666)
    (root / "good" / "touched").touch()
    assert "may be written by others" in is_damaged("good"), "the control"


@pytest.mark.parametrize(
    ("said", "shorter"),
    [
        ({}, None),
        ({"is_matryoshka": True}, ()),
        ({"is_matryoshka": False}, None),
        ({"matryoshka_dimensions": [8, 4]}, (4, 8)),
        ({"matryoshka_dimensions": ["4"]}, None),
        ({"matryoshka_dimensions": []}, None),
    ],
)
def test_a_folder_says_to_what_its_vectors_may_be_cut(root: Path, said: dict[str, object], shorter: tuple[int, ...] | None) -> None:
    add(root / "cut", changed(**said))
    card = local_model("local:cut")
    assert card is not None
    assert card.shorter == shorter
