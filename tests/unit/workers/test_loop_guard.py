import logging

import pytest

from workers.loop_guard import Guard

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
