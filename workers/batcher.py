"""The micro-batcher of one model in this process: rows of all calls in, batches through the lanes, one answer a row out.

A **call** is what one shard thread submits; rows of concurrent calls share batches. The rows that wait are owned here, under one condition.
The feeder thread cuts the next batch and prepares it (say, concatenates its ids) while the lanes are busy, so that exactly one batch is
ready ahead; a ready batch that ran short is taken back and cut again when more rows come. A **lane** is a thread that runs batches.
There are no timers: a free lane takes what is there.

What can go wrong in a batch stays in it. Out of memory: it is cut smaller and run again, the budget halves and grows back. Any other
exception: it is halved until the rows to blame stand alone. A lost device (EngineBroken) fails every call, because no row is to blame.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from workers.batching import Budget, Policy, cost_tokens, cut, next_batch, rows_for_one_lane
from workers.engines.base import EngineBroken, FailedRow, OutOfMemory, Stopped

log = logging.getLogger(__name__)

RowT = TypeVar("RowT")
PreparedT = TypeVar("PreparedT")
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that ran. `padding_tokens` is what was computed beyond the rows' own tokens; fill is (tokens + padding) / budget."""

    rows: int
    tokens: int
    padding_tokens: int
    budget_tokens: int
    seconds: float


@dataclass(slots=True)
class BatchShare:
    """A call's part of the batches it was in, by its share of their tokens. `batches` sums to the number of batches over all calls."""

    tokens: float = 0.0
    padding_tokens: float = 0.0
    budget_tokens: float = 0.0
    batches: float = 0.0
    duplicate_rows: float = 0.0  # answered without a batch, because the same text of the same job had been

    def add(self, other: "BatchShare") -> None:
        self.tokens += other.tokens
        self.padding_tokens += other.padding_tokens
        self.budget_tokens += other.budget_tokens
        self.batches += other.batches
        self.duplicate_rows += other.duplicate_rows

    def as_dict(self) -> dict[str, float]:
        return {
            "tokens": self.tokens,
            "padding_tokens": self.padding_tokens,
            "budget_tokens": self.budget_tokens,
            "batches": self.batches,
            "duplicate_rows": self.duplicate_rows,
        }


@dataclass(frozen=True, slots=True)
class Served(Generic[AnswerT]):
    """The answers of a call, in the order of its rows."""

    answers: list[AnswerT | FailedRow]
    share: BatchShare


class _Call(Generic[AnswerT]):
    """Rows still open, answers so far. Lanes settle rows of one call at the same time, hence the lock."""

    def __init__(self, size: int, stop: threading.Event | None) -> None:
        self.future: Future[Served[AnswerT]] = Future()
        self._answers: list[AnswerT | FailedRow | None] = [None] * size
        self._open = size
        self._stop = stop
        self._share = BatchShare()
        self._lock = threading.Lock()

    def live(self) -> bool:
        """False once nobody waits for the rest: stopped, failed, or done."""
        if self._stop is not None and self._stop.is_set():
            self.fail(Stopped())
        return not self.future.done()

    def fail(self, error: Exception) -> None:
        with self._lock:
            if not self.future.done():
                self.future.set_exception(error)

    def settle(self, index: int, answer: AnswerT | FailedRow, share: BatchShare) -> None:
        with self._lock:
            self._answers[index] = answer
            self._open -= 1
            self._share.add(share)
            if self._open == 0 and not self.future.done():
                self.future.set_result(Served([answer for answer in self._answers if answer is not None], self._share))


@dataclass(frozen=True, slots=True)
class _Row(Generic[RowT, AnswerT]):
    payload: RowT
    length: int
    call: _Call[AnswerT]
    index: int


@dataclass(frozen=True, slots=True)
class _Batch(Generic[RowT, PreparedT, AnswerT]):
    rows: list[_Row[RowT, AnswerT]]
    budget_tokens: int
    prepared: PreparedT | Exception
    short: bool  # it took every waiting row and the budget was not used up: later arrivals may still join


class Batcher(Generic[RowT, PreparedT, AnswerT]):
    """`prepare` turns rows into what `run` takes; it runs on the feeder, off the device's path. `run` returns one answer a row, in order.

    Both must be thread-safe. `observe` is called on the lane after each batch and must be quick.
    """

    def __init__(
        self,
        prepare: Callable[[list[RowT]], PreparedT],
        run: Callable[[PreparedT], Sequence[AnswerT | FailedRow]],
        *,
        name: str,
        lanes: int,
        policy: Policy,
        observe: Callable[[BatchReport], None] | None = None,
    ) -> None:
        self._prepare = prepare
        self._run = run
        self._policy = policy
        self._observe = observe
        self._changed = threading.Condition()  # guards everything below
        self._waiting: deque[_Row[RowT, AnswerT]] = deque()
        self._ready: _Batch[RowT, PreparedT, AnswerT] | None = None
        self._budget = Budget(policy.budget_tokens)
        self._fresh = False  # rows came since the ready batch was cut
        self._preparing = False
        self._closing = False
        self._broken = False
        self._idle_lanes = lanes
        self._threads = [threading.Thread(target=self._feed, name=f"{name}-feeder", daemon=True)]
        self._threads += [threading.Thread(target=self._lane, name=f"{name}-lane-{lane}", daemon=True) for lane in range(lanes)]
        for thread in self._threads:
            thread.start()

    def submit(self, rows: Sequence[RowT], lengths: Sequence[int], stop: threading.Event | None = None) -> Future[Served[AnswerT]]:
        """Never blocks. The future raises Stopped when `stop` was set before all rows ran, EngineBroken when the device is lost."""
        call: _Call[AnswerT] = _Call(len(rows), stop)
        if not rows:
            call.future.set_result(Served([], BatchShare()))
            return call.future
        with self._changed:
            if self._closing:
                call.fail(EngineBroken() if self._broken else Stopped())
                return call.future
            for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
                self._waiting.append(_Row(row, max(1, length), call, index))  # a row of no tokens still takes a place
            self._fresh = True
            self._changed.notify_all()
        return call.future

    def stop(self, *, drain: bool) -> None:
        """Ends the threads and waits for them. With drain, rows that wait still run; without, their calls raise Stopped."""
        with self._changed:
            self._closing = True
            if not drain:
                self._abandon(Stopped)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _abandon(self, error: type[Exception]) -> None:
        rows = [*self._waiting, *(self._ready.rows if self._ready else ())]
        self._waiting.clear()
        self._ready = None
        for row in rows:
            row.call.fail(error())

    # Feeder: the only one that cuts.

    def _feed(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._can_cut() or (self._closing and not self._waiting))
                if not self._can_cut():
                    return
                if self._ready is not None:
                    self._waiting.extendleft(reversed(self._ready.rows))
                    self._ready = None
                self._fresh = False
                rows, budget_tokens, short = self._cut()
                self._preparing = True
            prepared = self._prepared(rows)
            with self._changed:
                self._preparing = False
                self._ready = _Batch(rows, budget_tokens, prepared, short) if rows else None
                self._changed.notify_all()

    def _can_cut(self) -> bool:
        return bool(self._waiting) and (self._ready is None or (self._ready.short and self._fresh))

    def _cut(self) -> tuple[list[_Row[RowT, AnswerT]], int, bool]:
        """Takes the next batch out of the window of the oldest rows, after dropping rows whose calls nobody waits for."""
        window: list[_Row[RowT, AnswerT]] = []
        while self._waiting and len(window) < self._policy.window_rows:
            row = self._waiting.popleft()
            if row.call.live():
                window.append(row)
        budget_tokens = self._budget.now_tokens
        lengths = [row.length for row in window]
        max_rows = rows_for_one_lane(len(window), self._idle_lanes, self._policy.max_rows)
        taken = next_batch(lengths, budget_tokens, padded=self._policy.padded, max_rows=max_rows)
        gone = set(taken)
        self._waiting.extendleft(row for index, row in reversed(list(enumerate(window))) if index not in gone)
        cost = cost_tokens([lengths[index] for index in taken], padded=self._policy.padded)
        return [window[index] for index in taken], budget_tokens, not self._waiting and cost < budget_tokens

    def _prepared(self, rows: list[_Row[RowT, AnswerT]]) -> PreparedT | Exception:
        try:
            return self._prepare([row.payload for row in rows])
        except Exception as error:
            return error

    # Lanes: they run what is ready.

    def _lane(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready is not None or self._nothing_will_come())
                batch, self._ready = self._ready, None
                if batch is None:
                    return
                self._idle_lanes -= 1
                self._changed.notify_all()
            try:
                self._serve(batch)
            except Exception as error:
                # A fault of our own (say, in `observe`). A lane that died of it would leave its callers waiting for ever.
                log.error("A lane failed outside the engine (%s); its calls end.", type(error).__name__)
                self._break(batch.rows)
            with self._changed:
                self._idle_lanes += 1

    def _nothing_will_come(self) -> bool:
        return self._closing and not self._waiting and not self._preparing

    def _serve(self, batch: _Batch[RowT, PreparedT, AnswerT]) -> None:
        """Runs the batch, and the smaller ones it falls into where it fails."""
        pieces = [batch]
        while pieces:
            piece = pieces.pop()
            rows = [row for row in piece.rows if row.call.live()]
            if not rows:
                continue
            prepared = piece.prepared if len(rows) == len(piece.rows) else self._prepared(rows)
            started = time.perf_counter()
            try:
                answers = self._answers(prepared, len(rows))
            except EngineBroken:
                log.error("The device is lost for this process; every call fails and the process should end.")
                self._break(rows + [row for piece in pieces for row in piece.rows])
                return
            except (OutOfMemory, MemoryError):
                with self._changed:
                    self._budget.shrink()
                pieces += self._split(rows, "out_of_memory")
            except Exception as error:
                # The message of a foreign exception may quote its input, so only its kind is told.
                log.warning("A batch of %d rows failed in the engine (%s); splitting it.", len(rows), type(error).__name__)
                pieces += self._split(rows, "engine_error")
            else:
                with self._changed:
                    self._budget.grow()
                self._settle(rows, answers, piece.budget_tokens, time.perf_counter() - started)

    def _answers(self, prepared: PreparedT | Exception, size: int) -> Sequence[AnswerT | FailedRow]:
        if isinstance(prepared, Exception):
            raise prepared
        answers = self._run(prepared)
        if len(answers) != size:
            raise ValueError("The engine answered another number of rows than it was given.")
        return answers

    def _split(self, rows: list[_Row[RowT, AnswerT]], code: str) -> list[_Batch[RowT, PreparedT, AnswerT]]:
        """Batches of at most half the cost, first rows last (they are popped first); a row alone is settled as failed."""
        if len(rows) == 1:
            rows[0].call.settle(rows[0].index, FailedRow(code), BatchShare())
            return []
        lengths = [row.length for row in rows]
        half_tokens = max(1, cost_tokens(lengths, padded=self._policy.padded) // 2)
        parts = cut(lengths, half_tokens, padded=self._policy.padded, max_rows=-(-len(rows) // 2))
        smaller = [[rows[index] for index in part] for part in parts]
        return [_Batch(part, half_tokens, self._prepared(part), short=False) for part in reversed(smaller)]

    def _settle(self, rows: list[_Row[RowT, AnswerT]], answers: Sequence[AnswerT | FailedRow], budget_tokens: int, seconds: float) -> None:
        lengths = [row.length for row in rows]
        tokens = sum(lengths)
        padding = cost_tokens(lengths, padded=self._policy.padded) - tokens
        if self._observe is not None:
            self._observe(BatchReport(len(rows), tokens, padding, budget_tokens, seconds))
        for row, answer in zip(rows, answers, strict=True):
            if not row.call.live():  # stopped while it ran, and its answer may be half of one
                continue
            part = row.length / tokens
            row.call.settle(row.index, answer, BatchShare(row.length, padding * part, budget_tokens * part, part))

    def _break(self, rows: list[_Row[RowT, AnswerT]]) -> None:
        with self._changed:
            self._closing = self._broken = True
            self._abandon(EngineBroken)
            self._changed.notify_all()
        for row in rows:
            row.call.fail(EngineBroken())
