"""A worker in which something goes wrong at a known place: ``FAULT=in-model FAULT_AT=8 python -m tests.faults.broken_worker``.

One function of this process is wrapped before the worker starts; the code under test has no hooks and knows nothing of it. ``FAULT_AT``
says at which of its calls the fault strikes, so that the worker has done some work before.
"""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Final, NoReturn

from sqlalchemy import Engine, TextClause, event

from db.audit.damage import Opening
from db.queue import results, shards
from workers.arrays import Vectors
from workers.batches.outcomes import EngineBroken, OutOfMemory
from workers.claims import poller
from workers.engines import fake
from workers.host import main, memory

SHORT: Final = "[[broken:short]]"  # of a batch that holds it, the model answers one row too few
FEW_ROWS: Final = 4  # fit into the memory of a device that is short of it

Wrapped = Callable[..., Any]
Act = Callable[..., object]


class Nth:
    """True once: at the n-th question. Any thread may ask."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._asked = itertools.count(1)

    def __call__(self) -> bool:
        return next(self._asked) == self._n


# What happens there.


def die(*_: object) -> NoReturn:
    """As by kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


def hang(*_: object) -> None:
    threading.Event().wait()


def lose_the_device(*_: object) -> None:
    raise EngineBroken


def want_memory(*_: object) -> None:
    raise MemoryError


# Where and when.


def before(place: ModuleType | type, name: str, act: Act, at: int) -> None:
    original: Wrapped = getattr(place, name)
    strikes = Nth(at)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if strikes():
            act(*args)
        return original(*args, **kwargs)

    setattr(place, name, wrapped)


def after(place: ModuleType, names: Sequence[str], counts: Callable[[Any, Mapping[str, Any]], bool], at: int) -> None:
    """Dies after the ``at``-th return of any of these functions that ``counts(value, keyword arguments)``."""
    strikes = Nth(at)

    def wrap(original: Wrapped) -> Wrapped:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            value = original(*args, **kwargs)
            if counts(value, kwargs) and strikes():
                die(*args)
            return value

        return wrapped

    for name in names:
        setattr(place, name, wrap(getattr(place, name)))


def within(statement: TextClause, at: int) -> None:
    """Dies when Postgres has run the statement, and its transaction is still open."""
    strikes = Nth(at)

    def executed(_conn: Any, _cursor: Any, _sql: str, _parameters: Any, context: Any, _many: bool) -> None:
        if context.compiled is not None and context.compiled.statement is statement and strikes():
            die()

    event.listen(Engine, "after_cursor_execute", executed)


def be_short_of_memory(calls: int) -> None:
    """For the first ``calls`` calls of the model, a batch of more than FEW_ROWS does not fit."""
    original: Wrapped = fake._suffer
    asked = itertools.count(1)

    def wrapped(texts: Sequence[bytes], delay_seconds: float) -> None:
        if next(asked) <= calls and len(texts) > FEW_ROWS:
            raise OutOfMemory
        original(texts, delay_seconds)

    fake._suffer = wrapped


def answer_short(_at: int) -> None:
    original = fake.FakeEncoder.run

    def run(self: fake.FakeEncoder, prepared: list[bytes]) -> Vectors:
        vectors = original(self, prepared)
        return vectors[:-1] if any(SHORT.encode() in text for text in prepared) else vectors

    fake.FakeEncoder.run = run  # type: ignore[assignment, method-assign]


def grow(at: int) -> None:
    """From the ``at``-th write on it holds 1 TiB."""
    held = memory.resident_bytes
    over = threading.Event()
    before(results, "write_results", lambda *_: over.set(), at)
    memory.resident_bytes = lambda: 1 << 40 if over.is_set() else held()


FAULTS: Final[Mapping[str, Callable[[int], None]]] = {
    "before-claim": partial(before, poller.Poller, "message_came", die),  # the first thing that is done when a message has come
    "after-claim": partial(after, shards, ("claim_any",), lambda leases, _: bool(leases)),
    "after-read": partial(before, Opening, "open", die),  # the job's spec is the first thing that is opened
    "in-model": partial(before, fake, "_suffer", die),
    "before-write": partial(before, results, "write_results", die),
    "in-write": partial(within, results._MOVE),
    "after-write": partial(after, results, ("write_results",), lambda _, asked: bool(asked["finish"])),
    "in-heartbeat": partial(within, shards._RENEW),
    "hang": partial(before, fake, "_suffer", hang),
    "device-lost": partial(before, fake, "_suffer", lose_the_device),
    "memory-error": partial(before, fake, "_suffer", want_memory),
    "memory-error-in-open": partial(before, Opening, "open", want_memory),
    "short-of-memory": be_short_of_memory,
    "short-answers": answer_short,
    "growing": grow,  # FAULT_AT 2: rows are stored by then
}


if __name__ == "__main__":
    FAULTS[os.environ["FAULT"]](int(os.environ.get("FAULT_AT", "1")))
    raise SystemExit(main.main())
