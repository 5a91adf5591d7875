import logging
import threading
from pathlib import Path

import pytest

from workers.loop_guard import EX_SOFTWARE, Guard, on_duty

ROOT = Path(__file__).parents[3]

log = logging.getLogger("textmill.test")


def test_an_error_is_told_once_by_type_and_place_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    guard = Guard(log, "the loop")
    for at in range(4):
        with guard:
            if at in {1, 2}:
                raise ValueError("canary-7f3a-plaintext")
    told, works = (entry.getMessage() for entry in caplog.records)
    assert told.startswith("the loop failed: ValueError at test_loop_guard.py:")
    assert told.endswith("; it is tried again")
    assert works == "the loop works again"


def test_who_wants_the_process_to_end_is_not_held_up() -> None:
    with pytest.raises(SystemExit), Guard(log, "the loop"):
        raise SystemExit(0)


def test_a_thread_of_duty_that_ends_by_an_error_ends_its_process(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[int] = []

    def overflows() -> None:
        threading.Event().wait(float("inf"))

    thread = on_duty(overflows, "reconciler", end=ended.append)
    thread.start()
    thread.join()
    assert ended == [EX_SOFTWARE]
    assert [entry.getMessage().partition(" at ")[0] for entry in caplog.records] == ["thread reconciler ended by OverflowError"]


def test_one_that_has_done_its_duty_does_not() -> None:
    ended: list[int] = []
    thread = on_duty(lambda: None, "reconciler", end=ended.append)
    thread.start()
    thread.join()
    assert ended == []


def test_every_thread_that_serves_for_the_life_of_a_process_is_on_duty() -> None:
    """Those that are started otherwise end by themselves; the guardian of a child is a program of its own."""
    brief = {"tokenizer", "calibrator", "warm", "calibration-lane", "-end", "stop.set", "telling"}  # telling is for the eye alone
    plain = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "workers").rglob("*.py")
        for line in path.read_text().splitlines()
        if "threading.Thread(" in line and path.name not in ("loop_guard.py", "guardian.py") and not any(word in line for word in brief)
    ]
    assert plain == []
