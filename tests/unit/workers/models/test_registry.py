import tomllib
from pathlib import Path

import pytest

from db.errors import TextmillError
from workers.models import registry


def test_every_model_names_its_licence_its_source_and_the_digest_of_every_file() -> None:
    for card in registry.all_models():
        assert card.licence
        assert card.source_package
        assert card.source_version
        assert card.tasks
        assert card.max_tokens > 1
        assert card.speed_chars_per_second > 0
        assert {"model.safetensors", "tokenizer.json", "config.json"} == set(card.files)
        assert all(len(sha256) == 64 for sha256 in card.files.values())
        assert (card.dimensions > 0) == (card.kind == "encoder")
        assert (card.chat != "none") == (card.kind == "decoder")


def test_the_registry_pins_the_package_versions_that_the_project_installs() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())
    installed = project["project"]["optional-dependencies"]["models"]
    for card in registry.all_models():
        assert f"{card.source_package}=={card.source_version}" in installed


@pytest.mark.parametrize(("task", "model_id"), [("classify", "minilm-l6-v2"), ("embed", "minilm-l6-v2"), ("generate", "gemma3-270m")])
def test_every_task_has_a_model_of_its_own(task: str, model_id: str) -> None:
    assert registry.default_model(task).id == model_id


def test_an_unknown_model_is_refused_without_being_quoted() -> None:
    with pytest.raises(TextmillError) as caught:
        registry.get("what-somebody-sent")
    assert caught.value.code == "unknown_model"
    assert "what-somebody-sent" not in str(caught.value)


def test_a_task_that_no_model_does_is_refused() -> None:
    with pytest.raises(TextmillError) as caught:
        registry.default_model("translate")
    assert caught.value.code == "unknown_model"


def test_the_fake_models_are_listed_only_where_they_are_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not {"fake-encoder", "fake-decoder"} & {card.id for card in registry.all_models()}
    monkeypatch.setenv("TEXTMILL_FAKE_ENGINE", "1")
    assert registry.get("fake-encoder").kind == "encoder"
    assert registry.default_model("generate").id == "fake-decoder"
