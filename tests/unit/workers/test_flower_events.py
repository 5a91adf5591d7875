"""Which events Flower believes."""

import time
from typing import Any

import pytest
from celery.events.state import State

from workers.flower_events import believed, fits

BEAT: dict[str, Any] = {
    "type": "worker-heartbeat",
    "hostname": "worker-cpu@box",
    "timestamp": 1_700_000_000.5,
    "utcoffset": 0,
    "pid": 12,
    "clock": 34,
    "freq": 2.0,
    "active": 1,
    "processed": 5,
    "loadavg": [0.5, 0.4, 0.3],
    "sw_ident": "py-celery",
    "sw_ver": "5.7.0",
    "sw_sys": "Linux",
}
TASK: dict[str, Any] = {
    "type": "task-received",
    "hostname": "worker-cpu@box",
    "timestamp": 1_700_000_000.5,
    "utcoffset": 0,
    "pid": 12,
    "clock": 35,
    "uuid": "0192.1",
    "name": "classify",
    "args": "",
    "kwargs": "job 0192, rows 1 to 40",
    "retries": 0,
}


@pytest.mark.parametrize(
    "event",
    [
        BEAT,
        {**BEAT, "type": "worker-online"},
        {**BEAT, "type": "worker-offline"},
        TASK,
        {**TASK, "type": "task-started"},
        {**TASK, "type": "task-succeeded", "result": "40 rows, 12 rows/s", "runtime": 3.25},
        {**TASK, "type": "task-revoked", "result": "drained: 4 rows"},
        {**TASK, "type": "task-failed", "exception": "lost", "result": "lost: 0 rows"},
    ],
    ids=lambda event: event["type"],
)
def test_what_a_worker_sends_passes_as_it_is(event: dict[str, Any]) -> None:
    assert believed(event) == event


FORGED: list[Any] = [
    None, 5, "worker-heartbeat", [], {}, [BEAT],
    *({name: value for name, value in BEAT.items() if name != gone} for gone in ("type", "hostname", "timestamp")),
    {name: value for name, value in TASK.items() if name != "uuid"},
    *({**BEAT, "type": kind} for kind in (None, 5, [], "worker-", "task-sent", "worker-heartbeat ", "task-custom")),
    *({**BEAT, "hostname": name} for name in (None, 5, [], {}, "x" * 501, "a\nb", "\x1b[2J")),
    *({**BEAT, name: value} for name in ("timestamp", "freq", "active", "clock", "processed", "pid")
      for value in (None, "x", [], {}, True, -1, float("nan"), float("inf"), 10**30)),
    *({**BEAT, "timestamp": value} for value in (2**40, 1e18)),
    *({**BEAT, "loadavg": value} for value in (None, 5, "x", ["x"], [None], [1] * 4, [[1]])),
    *({**BEAT, "utcoffset": value} for value in (None, "x", 25, -10**9, float("nan"))),
    *({**TASK, name: value} for name in ("uuid", "name", "args", "kwargs", "result", "exception") for value in (5, [], "x" * 501, "\x00")),
    *({**TASK, "runtime": value} for value in ("x", [], -1)),
]  # fmt: skip


@pytest.mark.parametrize("event", FORGED, ids=range(len(FORGED)))
def test_what_no_worker_sends_is_not_believed(event: Any) -> None:
    assert believed(event) is None


def test_of_an_event_only_the_known_fields_stay() -> None:
    """Celery sets each field of an event on what it keeps of the worker, whatever its name."""
    assert believed({**BEAT, "event": 5, "heartbeats": "x", "expire_window": "x", "__class__": 1}) == BEAT


def test_forged_signs_of_life_break_what_believes_them() -> None:
    """The control: Celery's own state, with one worker whose frequency is a word."""
    for event, breaks in ((BEAT, False), ({**BEAT, "freq": "often"}, True), ({**BEAT, "heartbeats": "x"}, True)):
        state = State()
        state.event({**event, "local_received": time.time()})
        state.event({**BEAT, "type": "worker-online", "hostname": "other@box", "local_received": time.time()})
        if breaks and "heartbeats" in event:
            assert state.workers["worker-cpu@box"].heartbeats == "x"
        elif breaks:
            with pytest.raises(TypeError):
                _ = state.workers["worker-cpu@box"].alive
        else:
            assert state.workers["worker-cpu@box"].alive


@pytest.mark.parametrize(
    ("method", "answer", "is_true"),
    [
        ("stats", {"pool": {}, "broker": {}, "total": {}}, True),
        ("stats", [], False),
        ("stats", {"broker": 5}, False),
        ("stats", {"pool": "x"}, False),
        ("stats", {"consumer": [1]}, False),
        ("conf", {"broker_url": "redis://"}, True),
        ("active_queues", [{"name": "shards"}], True),
        ("active_queues", [{}], False),
        ("active_queues", [{"name": ["x"]}], False),
        ("active_queues", "shards", False),
        ("registered", ["textmill.run_shard"], True),
        ("registered", [5], False),
        ("revoked", [], True),
        ("active", [{"id": "x"}], True),
        ("active", [5], False),
        ("reserved", {"a": 1}, False),
    ],
)
def test_an_answer_to_a_question_fits_it(method: str, answer: object, is_true: bool) -> None:
    assert fits(method, answer) is is_true
