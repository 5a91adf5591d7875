"""Which model does which task, as it is known before any row runs: all pairs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from workers.models import folders, registry, servers
from workers.tasks import TASKS
from workers.tasks.moderate.task import UNFIT
from workers.tasks.reading import check_pair

CHAT = "/v1/chat/completions"
MISMATCH = "model_task_mismatch"
CLASSIFIER = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": 8, "num_hidden_layers": 1}
SERVERS = """
[[models]]
id = "writes"
engine = "server"
url = "https://h/v1"
[[models]]
id = "embeds"
engine = "server"
url = "https://h/v1"
tasks = ["embed"]
[[models]]
id = "moods"
engine = "server"
url = "https://h/v1"
tasks = ["classify"]
labels = ["glad", "sad"]
[[models]]
id = "harms"
engine = "server"
url = "https://h/v1"
tasks = ["classify"]
labels = ["OK", "hate"]
"""
ENCODER = {"classify": None, "embed": None, "generate": MISMATCH, "moderate": UNFIT, "train": None}
OWN_LABELS = {"classify": None, "embed": MISMATCH, "generate": MISMATCH, "moderate": UNFIT, "train": MISMATCH}
MODERATOR = {**OWN_LABELS, "moderate": None}
PAIRS = {
    "minilm-l6-v2": ENCODER,
    "gemma3-270m": {"classify": None, "embed": MISMATCH, "generate": None, "moderate": UNFIT, "train": MISMATCH},
    "writes": {"classify": "no_label_scores", "embed": MISMATCH, "generate": None, "moderate": MISMATCH, "train": MISMATCH},
    "embeds": {"classify": MISMATCH, "embed": None, "generate": MISMATCH, "moderate": MISMATCH, "train": MISMATCH},
    "moods": OWN_LABELS,
    "harms": MODERATOR,
    "local:spam": OWN_LABELS,
    "local:unnamed": OWN_LABELS,
    "local:harm": MODERATOR,
}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"spam": {"0": "ham", "1": "spam"}, "harm": {"1": "violence", "0": "OK"}, "unnamed": None}
    for name, labels in named.items():
        (tmp_path / "folders" / name).mkdir(parents=True)
        (tmp_path / "folders" / name / "config.json").write_text(json.dumps({**CLASSIFIER, "id2label": labels}))
    (tmp_path / "models.toml").write_text(SERVERS)
    (tmp_path / "models.toml").chmod(0o600)
    tmp_path.chmod(0o700)
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path / "folders"))
    monkeypatch.setenv(servers.VARIABLE, str(tmp_path / "models.toml"))


@pytest.mark.parametrize(("model", "task", "fault"), [(model, task, fault) for model, row in PAIRS.items() for task, fault in row.items()])
def test_a_model_that_can_do_no_row_of_a_task_is_known_before_one_runs(model: str, task: str, fault: str | None) -> None:
    assert {TASKS[task].card_fault(registry.get(model), endpoint) for endpoint in TASKS[task].endpoints} == {fault}


@pytest.mark.parametrize(
    ("endpoint", "defaults", "field"),
    [
        (CHAT, {"guided_regex": "a+"}, "guided_regex"),
        (CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
        (CHAT, {"logit_bias": {"3": 1}}, "logit_bias"),
        (CHAT, {"logprobs": True}, "logprobs"),
        ("/v1/completions", {"logprobs": 0}, "logprobs"),
        ("/v1/responses", {"text": {"format": {"type": "json_object"}}}, "text.format"),
        ("/v1/responses", {"top_logprobs": 0}, "top_logprobs"),
        ("/v1/responses", {"include": ["message.output_text.logprobs"]}, "include"),
        (CHAT, {"response_format": {"type": "text"}, "logprobs": False, "top_logprobs": 0, "logit_bias": {}}, None),
        ("/v1/completions", {"logprobs": False, "temperature": 1.0}, None),
    ],
)
def test_what_openvinos_pipeline_cannot_do_is_refused_of_defaults(endpoint: str, defaults: dict[str, object], field: str | None) -> None:
    card = registry.get("gemma3-270m")
    assert check_pair(TASKS["generate"], endpoint, defaults, replace(card, openvino=True)) == (field and f"unsupported_field:{field}")
    assert check_pair(TASKS["generate"], endpoint, defaults, card) is None


def test_a_head_moderates_where_one_of_its_labels_is_a_category() -> None:
    faults = {task: [TASKS[task].head_fault(labels) for labels in (["good", "bad"], ["fine", "hate"])] for task in ("classify", "moderate")}
    assert faults == {"classify": [None, None], "moderate": [UNFIT, None]}


@pytest.mark.parametrize("names", [["a", "b"], {"first": "a"}, "ab", 7])
def test_labels_that_are_no_table_say_so(names: object, tmp_path: Path) -> None:
    (tmp_path / "folders" / "odd").mkdir()
    (tmp_path / "folders" / "odd" / "config.json").write_text(json.dumps({**CLASSIFIER, "id2label": names}))
    card = folders.local_model("local:odd")
    assert card is not None
    assert "id2label" in card.damaged
