"""What Flower believes of an event. Whoever may write to the broker can send it any: one of another shape would spoil its pages for all.

Pure. What our workers send (:mod:`workers.host.telling`, and Celery's signs of life) passes as it is.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

KINDS: Final = frozenset(
    {
        "worker-online",
        "worker-heartbeat",
        "worker-offline",
        "task-received",
        "task-started",
        "task-succeeded",
        "task-failed",
        "task-revoked",
    }
)
_TEXTS: Final = frozenset({"type", "hostname", "uuid", "name", "args", "kwargs", "result", "exception", "sw_ident", "sw_ver", "sw_sys"})
_NUMBERS: Final = frozenset({"timestamp", "local_received", "clock", "pid", "freq", "active", "processed", "runtime", "retries"})
_NEEDED: Final = frozenset({"type", "hostname", "timestamp"})
MAX_CHARS: Final = 500
MAX_NUMBER: Final = 2**48  # more seconds, tasks or ticks than there will be; as a moment, still one that can be shown
MAX_MOMENT: Final = 2**36
LOAD_AVERAGES: Final = 3


def believed(event: object) -> dict[str, Any] | None:
    """The event with the fields that are known, or None where it is not one that a worker sends."""
    if not isinstance(event, Mapping) or not event.keys() >= _NEEDED:
        return None
    known = {name: value for name, value in event.items() if name in _CHECKS}
    if not all(_CHECKS[name](value) for name, value in known.items()) or known["type"] not in KINDS:
        return None
    return known if known["type"].startswith("worker-") or "uuid" in known else None


def fits(method: str, answer: object) -> bool:
    """Whether a worker may have answered so to a question of Flower's (``active_queues``, ``stats``, …)."""
    if method in {"stats", "conf"}:
        return isinstance(answer, dict) and all(isinstance(answer.get(part, {}), dict) for part in ("pool", "broker", "consumer"))
    if not isinstance(answer, list):
        return False
    if method in {"registered", "revoked"}:
        return all(map(_is_text, answer))
    return all(isinstance(each, dict) and (method != "active_queues" or _is_text(each.get("name"))) for each in answer)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_CHARS and value.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= MAX_NUMBER


def _is_moment(value: object) -> bool:
    return _is_number(value) and float(value) <= MAX_MOMENT  # type: ignore[arg-type]


def _is_load(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) <= LOAD_AVERAGES and all(map(_is_number, value))


def _is_offset(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -24 <= value <= 24


_CHECKS: Final = (
    dict.fromkeys(_TEXTS, _is_text)
    | dict.fromkeys(_NUMBERS, _is_number)
    | {"timestamp": _is_moment, "local_received": _is_moment, "loadavg": _is_load, "utcoffset": _is_offset}
)
