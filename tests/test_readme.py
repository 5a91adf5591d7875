"""README.md is run: its shell and Python blocks, against a real stack with the real encoder. Its table of settings is complete."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from api.cli.tree import build
from api.local.processes.ports import free_port
from api.settings import ApiSettings
from db.settings import StoreSettings
from workers.settings import DispatcherSettings, WorkerSettings

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
    labelled = (tmp_path / "labelled.jsonl").read_text()
    assert re.search(r'"id":\s*"t1".*"label":\s*"sport"', labelled)
    assert re.search(r'"id":\s*"t2".*"label":\s*"business"', labelled)
    assert '"label":"sport"' in said.replace(" ", "")  # what the OpenAI client got


@pytest.mark.parametrize("settings", [StoreSettings, ApiSettings, WorkerSettings, DispatcherSettings])
def test_every_setting_is_in_the_readme_with_its_default(settings: type[StoreSettings]) -> None:
    for name, field in settings.model_fields.items():
        default = "" if field.default in (None, "", ()) else field.default
        assert f"| `TEXTMILL_{name.upper()}` | {default} |" in README


def test_the_readme_names_no_setting_that_does_not_exist() -> None:
    known = {f"TEXTMILL_{name.upper()}" for settings in (ApiSettings, WorkerSettings, DispatcherSettings) for name in settings.model_fields}
    assert set(re.findall(r"^\| `(TEXTMILL_\w+)`", README, re.MULTILINE)) == known


def commands(command: Any, path: str) -> Iterator[tuple[str, str]]:
    """(command, the first paragraph of its help) of all below."""
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, (command.help or "").partition("\n\n")[0].strip()


def test_the_table_of_commands_is_the_program_s_own_help() -> None:
    listed = re.findall(r"^\| `(textmill [^`]+)` \| (.*) \|$", README, re.MULTILINE)
    assert listed == list(commands(get_command(build()), "textmill"))
