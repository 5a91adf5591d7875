"""The micro-batcher of one model in this process: rows of all calls in, batches through the lanes, one answer a row out.

A **call** is what one shard thread submits; rows of concurrent calls share batches. The rows that wait are owned here, under one lock.
The feeder thread cuts the next batch and prepares it (say, concatenates its ids) while the lanes are busy, so that exactly one batch of
each class of work is ready ahead; a ready batch that ran short is taken back and cut again when more rows come. A **lane** is a thread that
runs batches. There are no timers: a free lane takes what is there, and an interactive batch before a bulk one.

What can go wrong in a batch stays in it. Out of memory: it is cut smaller and run again, the budget halves and grows back. Any other
exception: it is halved until the rows to blame stand alone. A lost device (EngineBroken) fails every call, because no row is to blame; an
engine that is away (EngineAway) those of the batch.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from workers.batches.activity import Activity
from workers.batches.outcomes import BatchReport, BatchShare, EngineAway, EngineBroken, FailedRow, OutOfMemory, RowsRefused, Stopped
from workers.batches.policy import Budget, Policy, Work, cost_tokens, cut, turns
from workers.batches.queue import Row, Waiting
from workers.batches.ticket import NOBODY, Ticket
from workers.loop_guard import on_duty

log = logging.getLogger(__name__)

RowT = TypeVar("RowT")
PreparedT = TypeVar("PreparedT")
AnswerT = TypeVar("AnswerT")
Watch = Callable[[], AbstractContextManager[None]]
UNANSWERED: Final = FailedRow("engine_error")


class Call(Future[None], Generic[RowT, AnswerT]):
    """What a thread submitted: ``rows`` still open, ``answers`` so far, in the order of the rows, and its ``share`` of the batches.

    A future of itself: ``result()`` waits, and raises Stopped when the ticket's ``stop`` was set before all rows ran, EngineBroken when the
    device is lost. Lanes settle rows of one call at the same time, hence the lock.
    """

    def __init__(self, rows: Sequence[RowT], ticket: Ticket) -> None:
        super().__init__()
        self.rows = rows
        self.ticket = ticket
        self.answers: list[AnswerT | FailedRow] = [UNANSWERED] * len(rows)
        self.share = BatchShare()
        self._open = len(rows)
        self._lock = threading.Lock()
        if not rows:
            self.set_result(None)

    def result(self, timeout: float | None = None) -> "Call[RowT, AnswerT]":  # type: ignore[override]
        try:
            super().result(timeout)
            return self
        finally:
            del self  # what is raised holds this frame, and a call that held its own error would keep its rows until the collector comes

    def live(self) -> bool:
        """False once nobody waits for the rest: stopped, failed, or done."""
        if self.ticket.stopped:
            self.fail(Stopped())
        return not self.done()

    def fail(self, error: Exception) -> None:
        with self._lock:
            if not self.done():
                self.set_exception(error)

    def settle(self, indices: Sequence[int], answers: Sequence[AnswerT | FailedRow], share: BatchShare) -> None:
        """The answers of this call's rows in one batch."""
        with self._lock:
            for index, answer in zip(indices, answers, strict=True):
                self.answers[index] = answer
            self._open -= len(indices)
            self.share.add(share)
            if self._open == 0 and not self.done():
                self.set_result(None)


@dataclass(frozen=True, slots=True)
class _Batch(Generic[RowT, PreparedT, AnswerT]):
    rows: "list[Row[Call[RowT, AnswerT]]]"
    budget_tokens: int
    prepared: PreparedT | Exception
    short: bool  # it took every waiting row and the budget was not used up: later arrivals may still join


class Batcher(Generic[RowT, PreparedT, AnswerT]):
    """`prepare` turns rows into what `run` takes; it runs on the feeder, off the device's path. `run` returns one answer a row, in order.

    Both must be thread-safe. `observe` is called on the lane after each batch and must be quick; `watch()` surrounds each call of `run`;
    `activity` is told of every call as it comes and ends.
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
        watch: Watch = nullcontext,
        activity: Activity | None = None,
    ) -> None:
        self._watch = watch
        self._activity = activity
        self._prepare = prepare
        self._run = run
        self._policy = policy
        self.lanes = lanes
        self._observe = observe
        self._lock = threading.Lock()  # guards everything below
        self._may_cut = threading.Condition(self._lock)  # the feeder waits here
        self._may_run = threading.Condition(self._lock)  # the lanes wait here
        self._waiting: dict[Work, Waiting[Call[RowT, AnswerT]]] = {
            work: Waiting(policy, lambda call: call.ticket.tenant, lambda call: call.ticket.job) for work in Work
        }
        self._ready: dict[Work, _Batch[RowT, PreparedT, AnswerT] | None] = dict.fromkeys(Work)
        self._fresh: dict[Work, bool] = dict.fromkeys(Work, False)  # rows came since the ready batch was cut
        self._calls: set[Call[RowT, AnswerT]] = set()  # that may have rows waiting
        self._interactive_in_a_row = 0
        self._budget = Budget(policy.budget_tokens)
        self._preparing: Work | None = None
        self._closing = False
        self._broken = False
        self._idle_lanes = lanes
        self._threads = [on_duty(self._feed, f"{name}-feeder")]
        self._threads += [on_duty(self._lane, f"{name}-lane-{lane}") for lane in range(lanes)]
        for thread in self._threads:
            thread.start()

    def submit(self, rows: Sequence[RowT], lengths: Sequence[int], ticket: Ticket = NOBODY) -> Call[RowT, AnswerT]:
        """Never blocks. Rows of interactive tickets make up the next batches, before bulk rows that came earlier; rows of several tenants
        take turns."""
        if len(rows) != len(lengths):
            raise ValueError("There must be one length for each row.")
        call: Call[RowT, AnswerT] = Call(rows, ticket)
        work = Work.of(ticket)
        if self._activity is not None and rows:  # before a lane can have it
            call.add_done_callback(self._activity.enter(work))
        with self._lock:
            if self._closing:
                call.fail(EngineBroken() if self._broken else Stopped())
            elif rows:
                self._waiting[work].add(lengths, call)
                self._calls.add(call)
                self._fresh[work] = True
                self._may_cut.notify()
        return call

    def stop(self, *, drain: bool) -> None:
        """Ends the threads and waits for them. With drain, rows that wait still run; without, their calls raise Stopped."""
        with self._lock:
            self._closing = True
            if not drain:
                self._abandon(Stopped)
            self._wake_all()
        for thread in self._threads:
            thread.join()

    def _abandon(self, error: type[Exception]) -> None:
        calls = {call for waiting in self._waiting.values() for call in waiting.clear()}
        for work, batch in self._ready.items():
            calls |= {row[3] for row in batch.rows} if batch is not None else set()
            self._ready[work] = None
        for call in calls:
            call.fail(error())

    def _wake_all(self) -> None:
        self._may_cut.notify_all()
        self._may_run.notify_all()

    # Feeder: the only one that cuts.

    def _feed(self) -> None:
        while True:
            with self._lock:
                while (work := self._cuttable()) is None:
                    if self._closing and not any(self._waiting.values()):
                        return
                    self._may_cut.wait()
                rows, budget_tokens, short = self._cut(work)
                self._preparing = work
            prepared = self._prepared(rows)
            with self._lock:
                self._preparing = None
                self._ready[work] = _Batch(rows, budget_tokens, prepared, short) if rows else None
                if self._closing:
                    self._may_run.notify_all()
                else:
                    self._may_run.notify()

    def _cuttable(self) -> Work | None:
        for work in turns(self._interactive_in_a_row):
            ready = self._ready[work]
            if self._waiting[work] and (ready is None or (ready.short and self._fresh[work])):
                return work
        return None

    def _cut(self, work: Work) -> tuple[list[Row[Call[RowT, AnswerT]]], int, bool]:
        """Takes the next batch out of the rows that wait, after dropping rows whose calls nobody waits for."""
        waiting, ready = self._waiting[work], self._ready[work]
        if ready is not None:
            waiting.put_back(ready.rows)
            self._ready[work] = None
        self._fresh[work] = False
        dead = {call for call in self._calls if not call.live()}
        if dead:
            self._calls -= dead
            for one in self._waiting.values():
                one.drop(dead)
        budget_tokens = self._budget.now_tokens
        rows = waiting.take(budget_tokens, idle_lanes=self._idle_lanes)
        short = not waiting and cost_tokens([row[0] for row in rows], padded=self._policy.padded) < budget_tokens
        return rows, budget_tokens, short

    def _prepared(self, rows: list[Row[Call[RowT, AnswerT]]]) -> PreparedT | Exception:
        try:
            return self._prepare([call.rows[index] for _length, _tag, index, call in rows])
        except Exception as error:
            return error

    # Lanes: they run what is ready.

    def _lane(self) -> None:
        while True:
            with self._lock:
                while (batch := self._take_ready()) is None:
                    if self._nothing_will_come():
                        return
                    self._may_run.wait()
                self._idle_lanes -= 1
                self._may_cut.notify()
                if any(self._ready.values()):
                    self._may_run.notify()  # of two batches that came together, or one that waited for its turn
            try:
                self._serve(batch)
            except Exception as error:
                # A fault of our own (say, in `observe`). A lane that died of it would leave its callers waiting for ever.
                log.error("A lane failed outside the engine (%s); its calls end.", type(error).__name__)
                self._break(batch.rows)
            with self._lock:
                self._idle_lanes += 1
                self._calls -= {call for call in {row[3] for row in batch.rows} if call.done()}
            del batch  # an idle process holds no rows

    def _take_ready(self) -> _Batch[RowT, PreparedT, AnswerT] | None:
        """The batch whose turn it is; None where it is still to be cut or prepared, or nothing waits."""
        for work in turns(self._interactive_in_a_row):
            batch = self._ready[work]
            if batch is not None:
                self._ready[work] = None
                bulk_waits = bool(self._ready[Work.BULK] or self._waiting[Work.BULK])
                self._interactive_in_a_row = self._interactive_in_a_row + 1 if work is Work.INTERACTIVE and bulk_waits else 0
                return batch
            if self._waiting[work] or self._preparing is work:
                return None
        return None

    def _nothing_will_come(self) -> bool:
        return self._closing and self._preparing is None and not any(self._waiting.values())

    def _serve(self, batch: _Batch[RowT, PreparedT, AnswerT]) -> None:
        """Runs the batch, and the smaller ones it falls into where it fails."""
        pieces = [batch]
        while pieces:
            piece = pieces.pop()
            rows, prepared = piece.rows, piece.prepared
            dead = {call for call in {row[3] for row in rows} if not call.live()}
            if dead:
                rows = [row for row in rows if row[3] not in dead]
                if not rows:
                    continue
                prepared = self._prepared(rows)
            started = time.perf_counter()
            try:
                if isinstance(prepared, Exception):
                    raise prepared
                with self._watch():
                    answers = self._run(prepared)
                if len(answers) != len(rows):
                    raise ValueError("The engine answered another number of rows than it was given.")
            except EngineBroken:
                log.error("The device is lost for this process; every call fails and the process should end.")
                self._break(rows + [row for piece in pieces for row in piece.rows])
                return
            except EngineAway as away:
                for call in {row[3] for one in (piece, *pieces) for row in one.rows}:
                    call.fail(EngineAway(away.seconds))
                return
            except (OutOfMemory, MemoryError):
                with self._lock:
                    self._budget.shrink()
                pieces += self._split(rows, "out_of_memory")
            except RowsRefused as refused:
                pieces += self._split(rows, refused.code)
            except Exception as error:
                # The message of a foreign exception may quote its input, so only its kind is told.
                log.warning("A batch of %d rows failed in the engine (%s); splitting it.", len(rows), type(error).__name__)
                pieces += self._split(rows, "engine_error")
            else:
                seconds = time.perf_counter() - started
                with self._lock:
                    self._budget.grow()
                self._settle(rows, answers, piece.budget_tokens, seconds)

    def _split(self, rows: list[Row[Call[RowT, AnswerT]]], code: str) -> list[_Batch[RowT, PreparedT, AnswerT]]:
        """Batches of at most half the cost, first rows last (they are popped first); a row alone is settled as failed."""
        if len(rows) == 1:
            _length, _tag, index, call = rows[0]
            call.settle([index], [FailedRow(code)], BatchShare())
            return []
        lengths = [row[0] for row in rows]
        half_tokens = max(1, cost_tokens(lengths, padded=self._policy.padded) // 2)
        parts = cut(lengths, half_tokens, padded=self._policy.padded, max_rows=-(-len(rows) // 2))
        smaller = [[rows[index] for index in part] for part in parts]
        return [_Batch(part, half_tokens, self._prepared(part), short=False) for part in reversed(smaller)]

    def _settle(
        self, rows: list[Row[Call[RowT, AnswerT]]], answers: Sequence[AnswerT | FailedRow], budget_tokens: int, seconds: float
    ) -> None:
        lengths = [row[0] for row in rows]
        tokens = sum(lengths)
        padding = cost_tokens(lengths, padded=self._policy.padded) - tokens
        if self._observe is not None:
            self._observe(BatchReport(len(rows), tokens, padding, budget_tokens, seconds, self.lanes))
        places: dict[Call[RowT, AnswerT], list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(row[3], []).append(place)
        for call, own in places.items():
            if call.live():  # not stopped while it ran: its answers may be half ones then
                own_tokens = sum([lengths[place] for place in own])
                part = own_tokens / tokens if tokens else len(own) / len(rows)
                share = BatchShare(own_tokens, padding * part, budget_tokens * part, part, seconds * part)
                call.settle([rows[place][2] for place in own], [answers[place] for place in own], share)

    def _break(self, rows: list[Row[Call[RowT, AnswerT]]]) -> None:
        with self._lock:
            self._closing = self._broken = True
            self._abandon(EngineBroken)
            self._wake_all()
        for call in {row[3] for row in rows}:
            call.fail(EngineBroken())
