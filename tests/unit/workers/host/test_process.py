"""The look at drains and memory of a worker process, without the rest of it."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from workers import metrics
from workers.host import process
from workers.host.memory import EX_CEILING, EX_PLANNED, IDLE_SECONDS, MIB, Ceiling
from workers.host.process import Worker


@pytest.fixture
def minding(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A process that holds nothing and has stored rows; its ceiling is 100 MiB."""
    monkeypatch.setattr(process, "MEMORY_SECONDS", 0.0)
    worker: Any = Worker.__new__(Worker)
    worker._draining = worker._standing_by = False
    worker._exit_code = 0
    worker._pulse = SimpleNamespace(asked_to_drain=False)
    worker._progress = SimpleNamespace(rows=1)
    worker._ceiling = Ceiling(100)
    worker._settings = SimpleNamespace(unload_seconds=1800.0, models=("kept",))
    worker.asked = []
    worker.idle = []

    def unload(seconds: float, **more: Any) -> list[str]:
        worker.asked.append((seconds, more))
        return [worker.idle.pop()] if worker.idle else []

    worker._runtime = SimpleNamespace(unload=unload, calibrating=None)
    worker._load_seconds, worker._loaded_at = 0.0, time.monotonic()
    worker._let_go = lambda why, code, _cut_short: vars(worker).update(let_go=(why, code))
    return worker


def test_a_look_at_memory_that_fails_is_not_the_last_one(minding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([OSError("no such file"), 10 * MIB, 200 * MIB])

    def look() -> int:
        seen = next(looks)
        if isinstance(seen, Exception):
            raise seen
        return seen

    monkeypatch.setattr(process, "resident_bytes", look)
    minding._mind()
    assert minding.let_go == ("memory", EX_PLANNED)


def test_a_process_that_stored_nothing_since_its_start_says_what_to_do(
    minding: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    minding._progress.rows = 0
    planned = metrics.planned_restarts._value.get()
    monkeypatch.setattr(process, "resident_bytes", lambda: 200 * MIB)
    minding._mind()
    assert minding.let_go == ("memory", EX_CEILING)
    assert "200 MiB are held" in caplog.text
    assert "raise TEXTMILL_MAX_MEMORY_MB" in caplog.text
    assert metrics.planned_restarts._value.get() == planned


def test_what_is_idle_for_long_is_unloaded_and_what_was_asked_for_at_the_start_stays(minding: Any) -> None:
    assert minding._unload_idle(89 * MIB) == 89 * MIB
    assert minding.asked == [(1800.0, {"keep": ("kept",)})]
    minding._settings.unload_seconds = 0
    minding._unload_idle(89 * MIB)
    assert len(minding.asked) == 1


def test_near_the_ceiling_one_idle_model_goes_after_the_other_whichever_it_is(minding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "resident_bytes", lambda: 50 * MIB)
    minding.idle = ["a model"]
    assert minding._unload_idle(91 * MIB) == 50 * MIB
    assert minding._unload_idle(91 * MIB) == 91 * MIB
    assert minding.asked == [(IDLE_SECONDS, {"most": 1})] * 2


def test_a_process_above_its_ceiling_goes_on_where_an_idle_model_made_room(minding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([200 * MIB, 50 * MIB, 200 * MIB])
    monkeypatch.setattr(process, "resident_bytes", lambda: next(held))
    minding.idle = ["a model"]
    minding._mind()
    assert list(held) == []
    assert minding.let_go == ("memory", EX_PLANNED)


def test_a_calibration_that_would_pass_the_ceiling_is_given_up_before_the_process_is(minding: Any) -> None:
    given_up: list[bool] = []
    minding._runtime.calibrating = "a model"
    minding._runtime.give_up_calibration = lambda: given_up.append(True)
    minding._heed_ceiling(minding._unload_idle(200 * MIB))
    assert (given_up, minding.asked, minding._draining) == ([True], [], False)
    minding._runtime.calibrating = None
    minding._heed_ceiling(minding._unload_idle(200 * MIB))
    assert minding._draining
