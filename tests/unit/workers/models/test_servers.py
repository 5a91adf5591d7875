"""The operator's registry file: what it may say, and what becomes of what it may not."""

from pathlib import Path

import pytest

from db.errors import TextmillError
from workers.models import registry
from workers.models.servers import VARIABLE, server_models

GOOD = """
[[models]]
id = "llama"
engine = "server"
url = "https://gpu.internal:8000/v1"
model = "meta-llama/Llama-3.1-8B-Instruct"

[[models]]
id = "e5"
engine = "server"
url = "http://127.0.0.1:8080/v1"
tasks = ["embed", "classify"]

[[models]]
id = "moods"
engine = "server"
url = "unix:///run/moods.sock"
tasks = ["classify"]
labels = ["sad", "glad"]

[[models]]
id = "own"
engine = "vllm"
folder = "/srv/models/own"
"""


def write(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "models.toml"
    path.write_text(text)
    path.chmod(0o600)
    folder.chmod(0o700)
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def test_the_models_of_the_file_are_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, GOOD, monkeypatch)
    cards = server_models()
    assert [(card.id, card.kind, card.tasks, card.own_labels, card.damaged) for card in cards] == [
        ("llama", "decoder", ("generate",), False, ""),
        ("e5", "encoder", ("embed", "classify"), False, ""),
        ("moods", "encoder", ("classify",), True, ""),
        ("own", "decoder", ("generate",), False, ""),
    ]
    assert registry.get("llama").server is not None
    assert {card.id for card in registry.all_models()} >= {"llama", "e5", "moods", "own"}
    assert registry.default_model("generate").id != "llama", "an operator's own come last"


def test_a_change_of_the_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD, monkeypatch)
    assert len(server_models()) == 4
    path.write_text(GOOD + '[[models]]\nid = "more"\nengine = "server"\nurl = "https://h/v1"\n')
    assert len(server_models()) == 5


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ('url = "http://gpu.internal/v1"', "in the clear"),
        ('url = "http://10.0.0.3/v1"', "in the clear"),
        ('url = "https://user:pass@h/v1"', "neither user"),
        ('url = "https://h/v1?key=s"', "neither user"),
        ('url = "ftp://h/v1"', "must be https"),
        ('url = "h:8000"', "must be https"),
        ('url = "https://h:99999/v1"', "no address"),
        ('url = "unix://h/x"', "unix:///PATH"),
        ("", "must be https"),
        ('url = "https://h/v1"\ntasks = ["generate", "embed"]', "no other task"),
        ('url = "https://h/v1"\nlabels = ["a", "b"]', "classifier's own"),
        ('url = "https://h/v1"\ntasks = ["classify"]\nlabels = ["a", "a"]', "each once"),
        ('url = "https://h/v1"\nkey_file = "a"\nkey_variable = "b"', "either"),
        ('url = "https://h/v1"\ntimeout_seconds = -1', "timeout_seconds"),
        ('url = "https://h/v1"\nnonsense = 1', "nonsense"),
        ('url = "https://h/v1"\nmodel = 3', "model"),
    ],
)
def test_an_entry_that_cannot_be_used_says_why_and_harms_no_other(
    entry: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, f'[[models]]\nid = "bad"\nengine = "server"\n{entry}\n{GOOD}', monkeypatch)
    bad, *others = server_models()
    assert (bad.id, bad.tasks) == ("bad", ())
    assert why in bad.damaged
    assert not any(card.damaged for card in others)
    with pytest.raises(TextmillError) as refused:
        registry.get("bad")
    assert refused.value.code == "model_broken"


@pytest.mark.parametrize("model_id", ["local:x", "head:x"])
def test_no_model_of_the_file_takes_the_name_of_another_kind(model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, f'[[models]]\nid = "{model_id}"\nengine = "server"\nurl = "https://h/v1"\n', monkeypatch)
    assert server_models()[0].damaged


def test_two_models_of_one_name_are_one_and_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 2 * '[[models]]\nid = "m"\nengine = "server"\nurl = "https://h/v1"\n', monkeypatch)
    first, second = server_models()
    assert not first.damaged
    assert "has its id" in second.damaged


@pytest.mark.parametrize("text", ["models = 3", "[[models]\n", "x = 1", "\xff\xfe", "models = [3]"])
def test_a_file_that_says_nothing_says_why(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, text, monkeypatch).write_bytes(text.encode("latin-1"))
    cards = server_models()
    assert cards
    assert all(card.damaged and not card.tasks for card in cards)
    assert registry.default_model("embed").id


def test_a_file_that_others_may_write_names_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, GOOD, monkeypatch).chmod(0o666)
    assert "chmod" in server_models()[0].damaged


def test_a_file_that_is_not_there_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.toml"))
    assert "cannot be read" in server_models()[0].damaged


def test_the_longest_text_is_what_the_operator_says_or_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = '[[models]]\nid = "{}"\nengine = "server"\nurl = "https://h/v1"\n'
    write(tmp_path, entry.format("a") + entry.format("b") + "max_tokens = 4096\n", monkeypatch)
    assert [card.max_tokens for card in server_models()] == [0, 4096]
