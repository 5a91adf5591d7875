"""What the card of a decoder's folder says, and of which no card says anything but why not."""

import json
import os
from pathlib import Path

import pytest

from db.errors import TextmillError
from workers.models import registry
from workers.models.adapters import takes_adapters
from workers.models.decoder_folder import FAMILIES, MOST_TOKENS, PACKED
from workers.models.folders import VARIABLE, local_model
from workers.models.provision import weight_bytes, with_digest
from workers.tasks import TASKS

PLAIN = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "max_position_embeddings": 64,
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def add(root: Path, *, name: str = "own", template: bool = False, **values: object) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**PLAIN, **values}))
    if template:
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_causal_language_model_generates(root: Path, family: str) -> None:
    add(root, template=True, model_type=family, architectures=["GPT2LMHeadModel" if family == "gpt2" else "XForCausalLM"])
    card = registry.get("local:own")
    tasks = ("generate", "classify") if family in PACKED else ("generate",)
    assert (card.kind, card.tasks, card.chat, card.max_tokens, card.dimensions) == ("decoder", tasks, "template", 64, 0)
    assert not card.reads_no_messages


def test_one_that_names_no_architecture_is_what_its_family_is(root: Path) -> None:
    add(root, architectures=None)
    card = registry.get("local:own")
    assert (card.kind, card.chat, card.reads_no_messages) == ("decoder", "none", True)


@pytest.mark.parametrize("template", [True, False])
def test_a_job_of_messages_needs_a_template_and_one_of_prompts_does_not(root: Path, template: bool) -> None:
    add(root, template=template)
    generate, card = TASKS["generate"], registry.get("local:own")
    faults = {endpoint: generate.card_fault(card, endpoint) for endpoint in generate.endpoints}
    assert faults.pop("/v1/completions") is None
    assert set(faults.values()) == {None if template else "no_chat_template"}
    assert TASKS["embed"].card_fault(card, "/v1/embeddings") == "model_task_mismatch"


@pytest.mark.parametrize("architecture", ["LlamaModel", "LlamaForSequenceClassification"])
def test_one_that_embeds_or_classifies_stays_an_encoder(root: Path, architecture: str) -> None:
    add(root, architectures=[architecture])
    assert registry.get("local:own").kind == "encoder"


@pytest.mark.parametrize(
    ("said", "most"),
    [
        ({"max_position_embeddings": 10**6}, MOST_TOKENS),
        ({"max_position_embeddings": None}, MOST_TOKENS),
        ({"max_position_embeddings": None, "n_positions": 32}, 32),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 64),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16}}, 64),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 64),
        ({"rope_parameters": {"full_attention": {"rope_type": "llama3"}, "sliding_attention": {"rope_type": "default"}}}, 64),
        ({"rope_scaling": {"type": "su", "long_factor": [], "short_factor": []}, "original_max_position_embeddings": 16}, 16),
        ({"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 24}}, 24),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 64),
    ],
)
def test_it_reads_as_far_as_its_positions_are_right(root: Path, said: dict[str, object], most: int) -> None:
    add(root, **said)
    assert registry.get("local:own").max_tokens == most


def test_a_tokenizers_own_limit_counts(root: Path) -> None:
    (add(root) / "tokenizer_config.json").write_text('{"model_max_length": 48}')
    assert registry.get("local:own").max_tokens == 48


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"model_type": "mamba", "architectures": ["MambaForCausalLM"]}, "keeps a state besides keys and values"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "Those that do: apertus, arcee"),
        ({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}, "Those that do: apertus, arcee"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        ({"use_bidirectional_attention": True}, "look ahead"),
        ({"rope_scaling": "yarn"}, "no object"),
        ({"rope_scaling": {"type": "mrope"}}, "Those that do: default"),
        ({"rope_scaling": {"type": ["yarn"]}}, "Those that do: default"),
        ({"rope_parameters": {"a": {"rope_type": "proportional"}}}, "Those that do: default"),
        ({"rope_scaling": {"type": "longrope"}}, "original_max_position_embeddings"),
        ({"rope_scaling": {"type": "longrope", "original_max_position_embeddings": "many"}}, "original_max_position_embeddings"),
        ({"num_hidden_layers": 100_000}, "num_hidden_layers"),
        ({"max_position_embeddings": 1}, "no place for a text"),
    ],
)
def test_what_cannot_be_run_says_why(root: Path, said: dict[str, object], why: str) -> None:
    add(root, **said)
    card = local_model("local:own")
    assert card is not None
    assert (card.kind, card.tasks) == ("decoder", ())
    assert why in card.damaged
    with pytest.raises(TextmillError) as caught:
        registry.get("local:own")
    assert caught.value.code == "model_broken"


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("tokenizer_config.json", "[]", "is no object"),
        ("tokenizer_config.json", "{", "is not JSON"),
        ("tokenizer_config.json", '{"chat_template": 5}', "is no text"),
        ("chat_template.jinja", b"\xff\xfe", "UTF-8"),
    ],
)
def test_so_does_one_whose_template_cannot_be_read(root: Path, file: str, content: str | bytes, why: str) -> None:
    (add(root) / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    card = local_model("local:own")
    assert card is not None
    assert why in card.damaged


def test_a_template_that_is_a_pipe_is_not_waited_for(root: Path) -> None:
    os.mkfifo(add(root) / "chat_template.jinja")
    card = local_model("local:own")
    assert card is not None
    assert "is no file" in card.damaged


def test_what_lies_beside_safetensors_or_an_encoder_in_openvinos_form_makes_no_decoder(root: Path) -> None:
    both, encoder = add(root), add(root, name="encoder", model_type="bert", architectures=["BertModel"])
    for folder in (both, encoder):
        (folder / "openvino_model.xml").write_text("<net/>")
    (both / "model.safetensors").write_bytes(b"")
    card, unread = registry.get("local:own"), local_model("local:encoder")
    assert (card.kind, card.openvino) == ("decoder", False)
    assert unread is not None
    assert (unread.kind, unread.tasks) == ("encoder", ())
    assert "add this one's weights in safetensors" in unread.damaged
    (encoder / "model.safetensors").write_bytes(b"")
    assert "embed" in registry.get("local:encoder").tasks


@pytest.mark.parametrize("family", ["mamba", "llama"])
def test_a_folder_in_openvinos_own_form_generates_whatever_its_family(root: Path, family: str) -> None:
    folder = add(root, template=True, model_type=family)
    (folder / "openvino_model.xml").write_text("<net/>")
    (folder / "openvino_model.bin").write_bytes(b"12")
    card = registry.get("local:own")
    assert (card.kind, card.tasks, card.chat, card.max_tokens, card.openvino) == ("decoder", ("generate",), "template", 64, True)
    assert (weight_bytes(card, folder), takes_adapters(card)) == (8, False)
    before = with_digest(card, folder).weights_version
    (folder / "openvino_model.bin").write_bytes(b"123")
    assert with_digest(card, folder).weights_version != before
