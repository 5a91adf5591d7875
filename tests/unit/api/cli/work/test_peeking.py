"""What a look at an input's beginning tells."""

import json
from pathlib import Path

import pytest

from api.cli.terminal.exits import CommandError
from api.cli.work.peeking import batch_endpoint, literal_places
from workers.tasks import TASKS


def written(folder: Path, text: str | bytes, name: str = "in.jsonl") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def batch_line(url: str) -> str:
    return json.dumps({"custom_id": "a", "method": "POST", "url": url, "body": {"input": "x"}})


@pytest.mark.parametrize(
    ("task", "url"),
    [
        ("generate", "/v1/chat/completions"),
        ("generate", "/v1/completions"),
        ("embed", "/v1/embeddings"),
        ("classify", "/v1/classifications"),
    ],
)
def test_the_lines_of_a_batch_file_are_known_by_the_first(tmp_path: Path, task: str, url: str) -> None:
    assert batch_endpoint(written(tmp_path, f"\n{batch_line(url)}\n"), TASKS[task]) == url


def test_a_bad_line_before_them_hides_them_not(tmp_path: Path) -> None:
    bad = '{"custom_id":"lone","method":"POST","url":"/v1/embeddings","body":{"input":"cut \\ud83d off"}}'
    assert batch_endpoint(written(tmp_path, f"{bad}\n{batch_line('/v1/embeddings')}\n"), TASKS["embed"]) == "/v1/embeddings"


@pytest.mark.parametrize(("url", "command"), [("/v1/embeddings", "textmill embed FILE"), ("/v1/classifications", "textmill label FILE")])
def test_lines_that_ask_for_another_task_name_its_command(tmp_path: Path, url: str, command: str) -> None:
    with pytest.raises(CommandError, match=command):
        batch_endpoint(written(tmp_path, batch_line(url)), TASKS["generate"])


@pytest.mark.parametrize(
    "text",
    ['{"text":"a"}', "id,text\n1,a\n", "", '{"custom_id":"a","text":"b"}', b"PAR1\x00\xff", batch_line("/v1/nowhere"), "[" * 100_000],
)
def test_other_files_hold_plain_rows(tmp_path: Path, text: str | bytes) -> None:
    assert batch_endpoint(written(tmp_path, text), TASKS["generate"]) is None


def test_what_is_no_file_is_not_looked_at(tmp_path: Path) -> None:
    assert batch_endpoint(None, TASKS["generate"]) is None
    assert batch_endpoint(tmp_path / "missing", TASKS["generate"]) is None
    assert literal_places(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('sku,name,material,prompt\n1,Lamp,steel,"Announce a {material} {name}."\n', ["name", "material"]),
        ("sku;name;prompt\n1;Lamp;Announce a {name}.\n", ["name"]),
        ('{"name":"Lamp","prompt":"Announce a {name}, {other}"}\n', ["name"]),
        ('{"name":"Lamp","prompt":"Announce a {{name}}"}\n', ["name"]),
        ("name,prompt\nLamp,Announce a lamp\n", []),
        ("prompt\nprint({x})\n", []),
        ("", []),
    ],
)
def test_columns_in_braces_are_found(tmp_path: Path, text: str, places: list[str]) -> None:
    assert literal_places(written(tmp_path, text)) == places


def test_an_instruction_with_a_column_in_braces_is_found_too(tmp_path: Path) -> None:
    assert literal_places(written(tmp_path, "name,prompt\nLamp,x\n"), None, "Speak of {name}.") == ["name"]
