"""What Flower shows of a worker: each shard that it claims, whatever woke it, by its task, its job's short id, its rows and their rate.

Celery's own events tell of messages, and a message says nothing: what is claimed is decided after it came. So those are off,
and these are sent in their place. Ids and counts only. Nothing relies on them: what does not fit the queue, or finds the broker away, is
lost, and no shard waits for it.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from db.actors import Lease
from db.id_ranges import SHORT_DIGITS
from workers.loop_guard import Guard
from workers.shard.life import End

SLOW: Final = 10.0  # rows a second: below it a whole number says too little
WAITING: Final = 1_000  # events: of a broker that is away, only the latest moments' are kept

log = logging.getLogger("textmill.worker")

Event = tuple[str, dict[str, object]]


def claimed(lease: Lease) -> list[Event]:
    """Of a shard that was just claimed. Rows are counted from 1, as a person does."""
    first = lease.first_idx + 1
    rows = f"row {first:,}" if first == lease.end_idx else f"rows {first:,} to {lease.end_idx:,}"
    told = {"name": lease.task, "args": "", "kwargs": f"job {lease.job_id.hex[:SHORT_DIGITS]}, {rows}"}
    return [("task-received", {**_name(lease), **told, "retries": lease.epoch - 1}), ("task-started", _name(lease))]


def let_go(lease: Lease, end: End, rows: int, seconds: float) -> Event:
    """Of one that is done, or was given back or lost. ``rows``: how many were stored."""
    rate = rows / seconds if seconds > 0 else 0.0
    told = f", {rate:,.0f} rows/s" if rate >= SLOW else f", {rate:.2g} rows/s" if rate else ""
    result = f"{rows:,} {'row' if rows == 1 else 'rows'}{told}"
    if end is End.DONE:
        return "task-succeeded", {**_name(lease), "result": result, "runtime": seconds}
    if end in {End.DRAINED, End.PAUSED, End.CANCELLED}:
        return "task-revoked", {**_name(lease), "result": f"{end}: {result}"}
    return "task-failed", {**_name(lease), "exception": end.value, "result": f"{end}: {result}"}


def _name(lease: Lease) -> dict[str, object]:
    return {"uuid": f"{lease.shard_id}.{lease.epoch}"}


class Telling:
    """``dispatcher`` gives Celery's event dispatcher of the moment, or None. Events go out on a thread of their own."""

    def __init__(self, dispatcher: Callable[[], Any]) -> None:
        self._dispatcher = dispatcher
        self._events: queue.Queue[tuple[float, Event]] = queue.Queue(WAITING)
        self._here = threading.local()

    def start(self) -> None:
        threading.Thread(target=self._run, name="telling", daemon=True).start()

    def wrote(self, rows: int) -> None:
        """Rows were stored, of the shard that this thread works on."""
        self._here.rows = getattr(self._here, "rows", 0) + rows

    def work(self, lease: Lease, run: Callable[[], End]) -> End:
        """Runs, and tells of it before and after."""
        self._here.rows = 0
        self._put(*claimed(lease))
        began = time.monotonic()
        end = run()
        self._put(let_go(lease, end, self._here.rows, time.monotonic() - began))
        return end

    def _put(self, *events: Event) -> None:
        with suppress(queue.Full):
            for event in events:
                self._events.put_nowait((time.time(), event))

    def _run(self) -> None:
        guard = Guard(log, "telling Flower of shards")
        while True:
            at, (kind, fields) = self._events.get()
            with guard:  # no duty of the process: who looks at Flower sees less, and no shard waits
                dispatcher = self._dispatcher()
                if dispatcher is not None and dispatcher.enabled:
                    with suppress(Exception):  # whatever the broker's trouble is, it is Celery's to tell
                        dispatcher.send(kind, timestamp=at, **fields)
