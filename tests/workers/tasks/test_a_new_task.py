"""What adding a task takes: its own folder and two lines. A copy of the program gets one, and runs it from the command to the store."""

import difflib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.client import Client, Upload

ROOT = Path(__file__).parents[3]
TOY = Path(__file__).with_name("reverse.txt")
MOST_LINES = 5


class Copy:
    """The program with the task `reverse`, and a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "program"
        for package in ("db", "workers", "api"):
            shutil.copytree(ROOT / package, self.folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / "workers" / "tasks" / "reverse").mkdir()
        shutil.copy(TOY, self.folder / "workers" / "tasks" / "reverse" / "__init__.py")
        roll = self.folder / "workers" / "tasks" / "__init__.py"
        text = roll.read_text()
        text = text.replace(", train\n", ", reverse, train\n")
        roll.write_text(text.replace(", train.TASK", ", reverse.TASK, train.TASK"))
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TEXTMILL_HOME": str(folder / "home"),
            "TEXTMILL_FAKE_ENGINE": "1",
        }

    def changed_lines(self) -> int:
        """Outside the task's own folder."""
        changed = 0
        for path in self.folder.rglob("*.py"):
            own = ROOT / path.relative_to(self.folder)
            if own.exists():
                diff = difflib.ndiff(own.read_text().splitlines(), path.read_text().splitlines())
                changed += sum(line.startswith("+ ") for line in diff)
        return changed

    def textmill(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "api.cli", *arguments]
        return subprocess.run(command, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    made = Copy(tmp_path_factory.mktemp("reverse"))
    up = made.textmill("up", "--detach", "--port", "0", "--no-flower")
    assert up.returncode == 0, up.stdout + up.stderr
    yield made
    made.textmill("down")


def test_a_new_task_is_its_folder_and_a_few_lines(copy: Copy) -> None:
    assert 0 < copy.changed_lines() <= MOST_LINES


def test_the_command_line_runs_a_new_task_by_its_name(copy: Copy, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "a", "text": "stressed"}\n{"id": "b", "text": ""}\n{"id": "c", "text": "live"}\n')
    out = tmp_path / "out.jsonl"
    done = copy.textmill("run", "reverse", str(rows), "--set", "prefix=> ", "-o", str(out))
    assert done.returncode == 1, done.stdout + done.stderr  # a row failed
    first, second, third = map(json.loads, out.read_text().splitlines())
    assert (first["id"], first["reversed"], third["reversed"]) == ("a", "> desserts", "> evil")
    assert second["error"] == "empty_input"
    table = tmp_path / "out.csv"
    assert copy.textmill("run", "reverse", str(rows), "-o", str(table)).returncode == 1
    assert table.read_text().splitlines()[:2] == ["id,text,reversed,error,message", "a,stressed,desserts,,"]


def test_the_api_takes_a_new_task_as_a_batch(copy: Copy) -> None:
    home = copy._environment["TEXTMILL_HOME"]
    instance = json.loads(copy.textmill("status", "--json").stdout)
    line = {"custom_id": "x", "method": "POST", "url": "/v1/reversals", "body": {"input": "drawer"}}
    raw = json.dumps(line).encode() + b"\n"
    key = (Path(home) / "secrets" / "api-key").read_text().strip()
    with Client(instance["api"], key) as client:
        file = client.upload(Upload(io.BytesIO(raw), "lines.jsonl", "batch", {}, len(raw)))
        batch = client.create_batch(file.id, "/v1/reversals")
        while not batch.ended:
            batch = client.batch(batch.id)
        assert batch.output_file is not None
        (answer,) = client.lines(batch.output_file)
    assert json.loads(answer)["response"]["body"] == {"reversed": "reward"}
    refused = httpx.get(f"{instance['api']}/v1/batches")
    assert refused.status_code == 401
