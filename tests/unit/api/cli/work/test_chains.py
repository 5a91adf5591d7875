"""A file of steps, as the server takes them."""

from pathlib import Path

import pytest

from api.cli.terminal.exits import CommandError
from api.cli.work.chains import is_steps_file, read_steps


def read(tmp_path: Path, text: str) -> list[dict[str, object]]:
    path = tmp_path / "steps.yaml"
    path.write_text(text, encoding="utf-8")
    return read_steps(path)


def test_a_step_names_its_task_and_what_is_said_of_its_rows(tmp_path: Path) -> None:
    text = """
steps:
  - name: topic
    task: classify
    labels: [yes, no, 2024-01-01]
  - name: reply
    task: generate
    model: gemma3-270m
    temperature: 0.5
    when: {label: yes, score: {at_least: 0.5}}
    checks: [{check: words, most: 80}]
"""
    assert read(tmp_path, text) == [
        {"name": "topic", "endpoint": "/v1/classifications", "defaults": {"labels": ["yes", "no", "2024-01-01"]}},
        {
            "name": "reply",
            "endpoint": "/v1/chat/completions",
            "when": {"label": "yes", "score": {"at_least": 0.5}},
            "checks": [{"check": "words", "most": 80}],
            "defaults": {"model": "gemma3-270m", "temperature": 0.5},
        },
    ]


def test_a_list_alone_is_a_file_of_steps_and_so_is_json(tmp_path: Path) -> None:
    assert read(tmp_path, '[{"name": "a", "endpoint": "/v1/embeddings"}]') == [{"name": "a", "endpoint": "/v1/embeddings"}]
    assert is_steps_file("STEPS.YAML")
    assert not is_steps_file("classify")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps: 5", "no list of steps"),
        ("- name: a\n  task: nothing", "Step 1 names no task"),
        ("- name: a", "Step 1 names no task"),
        ("a: [", "no YAML from its line"),
        ("!!python/object:os.system {}", "no YAML"),
    ],
)
def test_what_is_no_file_of_steps_says_why(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(CommandError, match=told):
        read(tmp_path, text)
