"""A backup is made, the machine's data goes, and what was stored is read again: with the key file, and with no other."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from api.local.home.home import Home
from api.local.home.refusals import StackError, StackExit
from api.local.servers.backup import back_up
from tests.api.local.test_up import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack") / "home", {})
    stack.up("--port", "0", "--no-flower")
    yield stack
    stack.down()


def labelled(stack: Stack, folder: Path, text: str) -> str:
    """The job's id."""
    source = folder / f"{uuid4()}.jsonl"
    source.write_text(json.dumps({"id": "one", "text": text}) + "\n")
    done = stack.call("label", str(source), "--labels", "x,y", "-o", os.devnull, "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["job"])


def test_what_was_backed_up_is_read_again_in_another_home_that_has_the_key_file(stack: Stack, tmp_path: Path) -> None:
    kept = labelled(stack, tmp_path, "a text of before")
    made = stack.call("db", "backup", str(tmp_path / "backup"))
    assert made.returncode == 0, made.stderr
    later = labelled(stack, tmp_path, "a text of after")
    again = Stack(tmp_path / "again", {})
    again.home.mkdir(0o700)
    shutil.copytree(tmp_path / "backup", again.home / "postgres")
    for folder in ("keys", "secrets"):
        shutil.copytree(stack.home / folder, again.home / folder)
    again.up("--port", "0", "--no-flower")
    try:
        read = again.call("results", kept, "-o", "-")
        assert [json.loads(line)["id"] for line in read.stdout.splitlines()] == ["one"]
        assert again.call("jobs", "show", later).returncode == 1
        assert labelled(again, tmp_path, "a text of later")
    finally:
        again.down()


def test_a_backup_without_its_key_file_opens_nothing_and_says_so(stack: Stack, tmp_path: Path) -> None:
    assert stack.call("db", "backup", str(tmp_path / "backup")).returncode == 0
    again = Stack(tmp_path / "again", {})
    again.home.mkdir(0o700)
    shutil.copytree(tmp_path / "backup", again.home / "postgres")
    shutil.copytree(stack.home / "secrets", again.home / "secrets")
    refused = again.call("up", "--detach", "--port", "0", "--no-flower")
    assert refused.returncode != 0
    assert "kek.json" in refused.stderr
    assert not (again.home / "keys" / "kek.json").exists()


@pytest.mark.parametrize("place", ["empty", "full", "link", "home/backup", "other/backup", "other/deeper/backup"])
def test_a_backup_goes_into_a_new_folder_outside_of_the_home_and_of_other_backups(tmp_path: Path, place: str) -> None:
    for name in ("home", "empty", "full", "other/deeper"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "full" / "letter").write_text("mine")
    (tmp_path / "other" / "backup_manifest").touch()
    (tmp_path / "link").symlink_to(tmp_path / "away")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(StackError, match="name a") as refused:
        back_up(Home(tmp_path / "home"), tmp_path / place)
    assert refused.value.exit_code == StackExit.USAGE
    assert set(tmp_path.rglob("*")) == before


def test_without_a_stack_nothing_is_backed_up(tmp_path: Path) -> None:
    refused = Stack(tmp_path / "home", {}).call("db", "backup", str(tmp_path / "backup"))
    assert refused.returncode != 0
    assert "textmill up" in refused.stderr
    assert not (tmp_path / "backup").exists()
