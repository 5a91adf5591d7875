"""Waiting for what another thread or process does: until it has come to pass, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(
    condition: Callable[[], Found],
    what: str = "the condition holds",
    seconds: float = 30,
    *,
    every_seconds: float = 0.02,
    otherwise: Callable[[], str] | None = None,
) -> Found:
    """What ``condition`` gives once it is true. AssertionError when the time is over: ``what`` was waited for, and what ``otherwise`` tells
    then (logs, say). ``every_seconds``: longer where the look itself would disturb."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not in {seconds} s: {what}" + (f"\n{otherwise()}" if otherwise else ""))
        time.sleep(every_seconds)
    return found
