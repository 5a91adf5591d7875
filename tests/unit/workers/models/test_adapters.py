"""Where adapters are found, and which are refused by name."""

import json
from pathlib import Path

import pytest

from db.errors import TextmillError
from workers.models import registry
from workers.models.folders import VARIABLE
from workers.models.provision import ensure, with_digest

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 1}
# As PEFT 0.17 writes it.
PLAIN = {
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": "somebody/own",
    "bias": "none",
    "corda_config": None,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 16,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "qalora_group_size": 16,
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["q_proj", "v_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a decoder, and an encoder."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    for name, config in {"own": LLAMA, "reader": {"model_type": "bert", "architectures": ["BertModel"]}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    return tmp_path


def add(folder: Path, **config: object) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | config))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def listed() -> list[str]:
    return [card.id for card in registry.all_models() if "@" in card.id]


def test_those_in_a_models_folder_are_its_own_and_those_beside_it_whose_they_say(root: Path) -> None:
    add(root / "own" / "inside", base_model_name_or_path="anything/else")
    add(root / "beside", base_model_name_or_path="/somewhere/own/")
    add(root / "gemma", base_model_name_or_path="google/gemma-3-270m")
    add(root / "strange", base_model_name_or_path="google/another")
    assert listed() == ["gemma3-270m@gemma", "local:own@beside", "local:own@inside"]
    assert registry.get("local:own@strange").tasks == ("generate", "classify"), "whoever names one knows whose it is"
    card = registry.get("gemma3-270m@gemma")
    assert (card.base_id, card.adapter, card.max_tokens) == ("gemma3-270m", root / "gemma", registry.get("gemma3-270m").max_tokens)
    assert [card.id for card in registry.all_models() if card.id.startswith("local:")][:2] == ["local:own", "local:reader"]


@pytest.mark.parametrize(
    "model_id", ["local:own@none", "local:reader@beside", "minilm-l6-v2@beside", "local:own@../beside", "x@beside", "@beside", "local:own@"]
)
def test_there_is_no_other(root: Path, model_id: str) -> None:
    add(root / "beside")
    with pytest.raises(TextmillError) as caught:
        registry.get(model_id)
    assert caught.value.code == "unknown_model"


REFUSED: dict[str, object] = {
    "use_dora": True,
    "modules_to_save": ["lm_head"],
    "rank_pattern": {"q_proj": 4},
    "alpha_pattern": {"q_proj": 4},
    "lora_bias": True,
    "bias": "all",
    "layer_replication": [[0, 4]],
    "trainable_token_indices": [1],
    "target_parameters": ["experts"],
    "use_qalora": True,
    "init_lora_weights": "pissa_niter_16",
    "peft_type": "IA3",
    "r": 0,
    "lora_alpha": "16",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_more_than_plain_is_refused_by_name(root: Path, name: str) -> None:
    add(root / "own" / "tuned", **{name: REFUSED[name]})
    with pytest.raises(TextmillError, match=name) as caught:
        registry.get("local:own@tuned")
    assert caught.value.code == "model_broken"
    assert registry.get("local:own").damaged == ""
    [card] = [card for card in registry.all_models() if "@" in card.id]
    assert card.tasks == ()


def test_a_setting_that_nobody_knows_is_refused_without_its_name(root: Path) -> None:
    add(root / "own" / "tuned", secret_of_somebody=True)
    with pytest.raises(TextmillError, match="a setting that is not known") as caught:
        registry.get("local:own@tuned")
    assert "secret" not in caught.value.message


def test_one_that_others_may_write_is_not_used(root: Path) -> None:
    folder = add(root / "tuned")
    card = registry.get("local:own@tuned")
    (folder / "adapter_model.safetensors").chmod(0o666)
    with pytest.raises(TextmillError, match="may be written by others"):
        ensure(card, root)
    (folder / "touched").touch()
    with pytest.raises(TextmillError, match="may be written by others"):
        registry.get("local:own@tuned")


def test_its_digest_is_of_its_weights_and_the_models(root: Path) -> None:
    folder = add(root / "tuned")
    (root / "own" / "model.safetensors").write_bytes(b"w")
    card = registry.get("local:own@tuned")
    first = with_digest(card, root / "own").files
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    second = with_digest(card, root / "own").files
    (root / "own" / "model.safetensors").write_bytes(b"ww")
    assert len({str(one) for one in (first, second, with_digest(card, root / "own").files)}) == 3


def test_a_folder_that_is_a_model_and_an_adapter_is_neither(root: Path) -> None:
    (root / "own" / "adapter_config.json").write_text(json.dumps(PLAIN))
    with pytest.raises(TextmillError, match="a folder of its own"):
        registry.get("local:own")
