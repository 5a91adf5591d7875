"""What a worker takes from the broker: claim checks, and nothing else.

Celery hands on whatever carries a known task's name, with all the machinery a message can ask for: callbacks, chains, countdowns, time
limits. Whoever writes to Redis could use it, and a message that breaks Celery's parser is put back and breaks it again, for ever. So each
message is looked at first; one that is not a plain claim check is dropped with a line that quotes nothing.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from celery.worker.consumer import Consumer

from workers.app import RUN_SHARD, read_claim_check

BUSY_LOOK_SECONDS: Final = (0.002, 0.05)  # with every thread busy: how soon it is seen that one is free, at first and later
SILENCE_SECONDS: Final = 60.0  # a flood of forged messages must not become a flood of log lines
FORBIDDEN_HEADERS: Final = ("eta", "expires", "group", "shadow", "stamps", "stamped_headers", "compression")

log = logging.getLogger("textmill.intake")


class Intake(Consumer):
    """Celery's consumer behind a guard."""

    task_consumer: Any
    dropped = 0
    tell_after = float("-inf")

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        parent: Any = super()
        hand_on = parent.create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> None:
            if is_claim_check(message):
                hand_on(message)
                self._look_for_a_thread(BUSY_LOOK_SECONDS[0])
            else:
                self._drop(message)

        return on_message

    def _look_for_a_thread(self, seconds: float) -> None:
        """With every thread busy nothing is asked of Redis, and Celery's loop wakes up for nothing else either: a thread that is free in a
        millisecond would wait for its next message up to a second."""
        if not self.task_consumer.channel.qos.can_consume():
            self.hub.call_later(seconds, self._look_for_a_thread, min(2 * seconds, BUSY_LOOK_SECONDS[1]))

    def _drop(self, message: Any) -> None:
        message.reject_log_error(log, self.connection_errors)
        self.dropped += 1
        if time.monotonic() >= self.tell_after:
            log.warning("dropped %d message(s) that are no claim checks", self.dropped)
            self.dropped, self.tell_after = 0, time.monotonic() + SILENCE_SECONDS


def is_claim_check(message: Any) -> bool:
    """Whether a kombu message is what the dispatcher publishes: protocol 2, JSON, no arguments but the check, no errands."""
    try:
        headers = message.headers
        if not isinstance(headers, dict) or headers.get("task") != RUN_SHARD or not isinstance(headers.get("id"), str):
            return False
        if any(headers.get(name) for name in FORBIDDEN_HEADERS) or any(headers.get("timelimit") or ()):
            return False
        payload = message.payload
        if not isinstance(payload, list) or len(payload) != 3:
            return False
        args, kwargs, embed = payload
        if args != [] or not isinstance(kwargs, dict) or not isinstance(embed, dict) or any(embed.values()):
            return False
        return read_claim_check((), kwargs) is not None
    except Exception:  # what kombu raises for a body it cannot or may not decode differs by content type
        return False
