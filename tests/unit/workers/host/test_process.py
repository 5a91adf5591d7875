"""The look at drains and memory of a worker process, without the rest of it."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from workers import metrics
from workers.host import process
from workers.host.memory import EX_CEILING, EX_PLANNED, MIB, Ceiling
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
