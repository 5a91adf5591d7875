"""What the command line does before it knows a server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from api import cli

HEAVY = ("torch", "transformers", "numpy", "pyarrow", "httpx", "sqlalchemy", "celery", "fastapi", "msgspec", "sklearn")


@pytest.mark.parametrize("arguments", [["--help"], ["docs"], ["docs", "jobs"]])
def test_help_and_the_reference_need_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; from api.cli import run; run({arguments}); print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", [[], ["label"], ["generate"], ["embed"], ["results"]])
def test_help_tells_the_exit_codes(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command, "--help"]) == 0
    assert "130 interrupted" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("group", ["jobs", "files", "models", "train", "heads", "label-sets", "keys", "audit"])
def test_a_group_alone_tells_its_commands(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([group]) == 2
    assert "Commands" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nonsense"], ["label"], ["jobs", "list", "--limit", "many"], ["jobs", "show"]])
def test_a_command_that_is_none_is_one_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("textmill: ")
    assert said.count("\n") == 1


def test_without_a_home_the_way_on_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TEXTMILL_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("TEXTMILL_API_KEY", raising=False)
    monkeypatch.delenv("TEXTMILL_API_URL", raising=False)
    assert cli.run(["jobs", "list", "--json"]) == 3
    assert "textmill up" in json.loads(capsys.readouterr().err)["error"]["message"]


def test_a_file_that_is_not_there_is_told_before_any_server_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["label", "/no/such.jsonl", "--labels", "a,b", "-o", "-"]) == 2
    assert "no file" in capsys.readouterr().err


def test_an_empty_file_and_an_unknown_format_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "notes.log").write_text("hello")
    assert cli.run(["label", str(tmp_path / "empty.jsonl"), "--labels", "a,b", "-o", "-"]) == 2
    assert cli.run(["label", str(tmp_path / "notes.log"), "--labels", "a,b", "-o", "-"]) == 2
    assert cli.run(["label", str(tmp_path), "--labels", "a,b", "-o", "-"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "empty" in first
    assert "--format" in second
    assert "folder" in third
