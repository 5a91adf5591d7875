"""What Flower keeps from one start to the next runs nothing, and is its own."""

import os
import pickle
import shelve
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flower.events import EventsState

from tests.unit.workers.test_flower_events import BEAT, TASK
from workers.flower_history import HistoryUnpickler, why_not_ours

NOBODY = 65534
LOADS = """
import sys
from pathlib import Path
import workers.flower_access
from flower import app
from workers.app import app as celery
kept = app.Events(celery, None, db=sys.argv[1], persistent=True, max_tasks_in_memory=10).state
print(sorted(kept.tasks))
"""


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self._mark),)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """With one task, as Flower saves it."""
    state = EventsState(max_tasks_in_memory=10)
    for event in ({**BEAT, "type": "worker-online"}, TASK, {**TASK, "type": "task-succeeded", "runtime": 0.5, "result": "40 rows"}):
        state.event({**event, "local_received": BEAT["timestamp"]})
    folder = tmp_path / "flower"
    folder.mkdir(mode=0o700)
    with shelve.open(str(folder / "state")) as kept:
        kept["events"], kept["counter"] = state, dict(state.counter)
    return folder / "state"


def loaded(history: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "TEXTMILL_REDIS_URL": "redis://127.0.0.1:1/0"}
    return subprocess.run([sys.executable, "-c", LOADS, str(history)], env=environment, capture_output=True, text=True, check=False)


def test_flower_finds_what_it_kept(history: Path) -> None:
    assert loaded(history).stdout.strip() == "['0192.1']"


def test_what_somebody_else_put_into_its_history_does_not_run(history: Path, tmp_path: Path) -> None:
    with shelve.open(str(history)) as kept:
        kept["events"] = Bomb(tmp_path / "ran")
    assert loaded(history).stdout.strip() == "[]", "it starts afresh"
    assert not (tmp_path / "ran").exists()


def test_the_control_without_the_guard_it_runs(history: Path, tmp_path: Path) -> None:
    with shelve.open(str(history)) as kept:
        kept["events"] = Bomb(tmp_path / "ran")
    with shelve.open(str(history)) as kept, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelve, "Unpickler", pickle.Unpickler)
        kept.get("events")
        assert (tmp_path / "ran").exists()
        (tmp_path / "ran").rmdir()
        patch.setattr(shelve, "Unpickler", HistoryUnpickler)
        with pytest.raises(Exception, match="no history"):
            kept.get("events")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["", "state"])
@pytest.mark.parametrize("mode", [0o777, 0o622])
def test_a_history_that_others_may_write_ends_flower_with_a_sentence(place: str, mode: int, history: Path) -> None:
    next(each for each in sorted(history.parent.parent.rglob("*")) if each.name.startswith(place or "flower")).chmod(mode)
    ended = loaded(history)
    assert "textmill: " in ended.stderr
    assert "may be written by others" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a file is given to another user, which takes root")
@pytest.mark.parametrize("place", ["", "state"])
def test_so_does_one_of_another_users_making(place: str, history: Path) -> None:
    os.chown(next(each for each in sorted(history.parent.parent.rglob("*")) if each.name.startswith(place or "flower")), NOBODY, NOBODY)
    assert "belongs to another user (uid 65534)" in str(why_not_ours(history))


def test_none_is_read_from_an_open_folder_and_in_one_with_the_sticky_bit_each_file_is_its_owners(history: Path, tmp_path: Path) -> None:
    history.parent.chmod(0o1777)
    assert why_not_ours(history) is None, "as a container's volume is"
    (tmp_path / "empty").mkdir()
    assert why_not_ours(tmp_path / "empty" / "state") is None
    (tmp_path / "empty").chmod(0o777)
    assert "may be written by others" in str(why_not_ours(tmp_path / "empty" / "state"))
