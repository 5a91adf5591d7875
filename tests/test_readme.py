"""README.md is run: its shell and Python blocks, against a real stack with the real models."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api.docs.pages import TOPICS
from api.endpoints import TASKS, command_for
from api.local.processes.ports import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """(language, code) of the blocks that are meant to be run, in order."""
    return [(language, code) for language, code in BLOCK.findall(README) if language in ("sh", "python")]


def test_the_commands_of_the_readme_do_what_they_say(tmp_path: Path) -> None:
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEXTMILL_")}
    environment |= {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"TEXTMILL_ENGINE": "torch", "TEXTMILL_DTYPE": "float32"}  # nothing is calibrated beside: that has tests of its own
    said = ""
    try:
        for language, code in blocks():
            ready = code.replace("textmill up --detach", f"textmill up --detach --port {port} --flower-port 0").replace(":8910", f":{port}")
            command = ["bash", "-euo", "pipefail", "-c", ready] if language == "sh" else [sys.executable, "-c", ready]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False)
            assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
            said += done.stdout
    finally:
        subprocess.run([sys.executable, "-m", "api.cli", "down"], cwd=ROOT, env=environment, capture_output=True, timeout=120, check=False)
    [shown] = [code for language, code in BLOCK.findall(README) if language == "json"]
    for row, promised in zip(rows_of((tmp_path / "labelled.jsonl").read_text()), rows_of(shown), strict=True):
        assert (row["id"], row["text"], row["label"]) == (promised["id"], promised["text"], promised["label"])
        assert row["score"] == pytest.approx(promised["score"], abs=0.02)  # as far as every engine agrees
    assert '"label":"sport"' in said.replace(" ", "")  # what the OpenAI client got
    [listed] = [code for language, code in BLOCK.findall(README) if code.startswith("JOB ")]
    assert "\t".join(listed.splitlines()[0].split()) in said  # the list of jobs, as it is piped
    csv = (tmp_path / "labelled.csv").read_text().splitlines()[0].split(",")
    assert csv == ["id", "text", *(name for name in columns_told()["label"] if name != "scores"), "error", "message"]


def rows_of(lines: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


def columns_told() -> dict[str, list[str]]:
    """Of each command, as the table has them."""
    return {command: re.findall(r"`(\w+)`", named) for command, named in re.findall(r"^\| `([\w ]+)` \| (.+) \|$", README, re.MULTILINE)}


def test_the_readme_tells_the_columns_of_every_task() -> None:
    assert columns_told() == {command_for(task.name): list(task.columns) for task in TASKS.values()}


def test_the_readme_is_two_screens() -> None:
    assert README.count("\n") <= 120


def test_the_readme_leads_to_every_page_of_the_reference() -> None:
    assert set(re.findall(r"\]\(api/docs/pages/([a-z]+)\.md", README)) == set(TOPICS)
