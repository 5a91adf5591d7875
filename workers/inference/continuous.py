"""Continuous batching of one decoder in this process: rows of all calls in, one answer a row out, as each ends.

A **lane** is a thread that drives one set of slots (:mod:`workers.engines.contract.decoding`). Before each step it takes rows into what
room there is: those that somebody waits for first, then those whose turn it is, by tokens in and out, over tenants and each one's jobs.
So a place is filled in the step after it fell free, and no row waits for another to end. A row in turn that does not fit yet is waited
for: smaller ones that came later do not pass it.

What can go wrong in a step stays in it. Its rows are begun anew, in halves that run alone, until the row to blame stands alone; out of
memory, fewer tokens run together from then on, and more again with every row that ends. A lost device (EngineBroken) fails every call; an
engine that is away (EngineAway) those that are there, and the lane waits for others.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from workers.batches.activity import Activity
from workers.batches.batcher import Call, Watch
from workers.batches.outcomes import BatchReport, BatchShare, EngineAway, EngineBroken, FailedRow, Load, OutOfMemory, Spoken, Stopped
from workers.batches.policy import Budget, Work, turns
from workers.batches.queue import Row, Turns
from workers.batches.ticket import NOBODY, Ticket
from workers.engines.contract.choices import Scored
from workers.engines.contract.decoding import Answer, DecoderRow, Finished, Room, Slots
from workers.loop_guard import on_duty

log = logging.getLogger(__name__)

NO_ROOM: Final = Room(0, 0)
TAKEN_BACK: Final = FailedRow("taken_back")  # of a row that was not begun, for whoever took it back


class DecoderCall(Call[DecoderRow, Answer]):
    """Rows that come back as they end, for one thread that takes them. ``asked_at``: when they came, by time.perf_counter."""

    def __init__(self, rows: Sequence[DecoderRow], ticket: Ticket) -> None:
        super().__init__(rows, ticket)
        self.left = len(rows)  # not taken yet
        self.asked_at = time.perf_counter()
        self._ended: queue.SimpleQueue[Sequence[int]] = queue.SimpleQueue()
        self.add_done_callback(lambda _: self._ended.put(()))  # it may have failed

    def settle(self, indices: Sequence[int], answers: Sequence[Answer | FailedRow], share: BatchShare) -> None:
        super().settle(indices, answers, share)
        self._ended.put(indices)

    def take(self, seconds: float) -> tuple[list[int], BatchShare]:
        """The rows that ended since, after so long, or at once when none is left; and their share of the lanes. Raises as `result`; of an
        engine that went away, when all that it had answered was taken."""
        until, ended = time.monotonic() + seconds, list[int]()
        while len(ended) < self.left and (wait := until - time.monotonic()) > 0:
            with suppress(queue.Empty):
                ended += self._ended.get(timeout=wait)
            if self.done() and (error := self.exception()) is not None:
                if not isinstance(error, EngineAway) or not (ended := ended + self._came()):
                    raise error
                self._ended.put(())  # what was answered comes first, and the error when it is asked for more
                break
        self.left -= len(ended)
        with self._lock:
            share, self.share = self.share, BatchShare()
        return ended, share

    def _came(self) -> list[int]:
        came: list[int] = []
        with suppress(queue.Empty):
            while True:
                came += self._ended.get_nowait()
        return came


WaitingRow: TypeAlias = Row[DecoderCall]


@dataclass(slots=True)
class _Meter:
    """What a row that runs all the time would have had of the lane, an equal part of every step: a row's own is the difference between its
    end and its beginning."""

    seconds: float = 0.0
    steps: float = 0.0
    free_places: float = 0.0

    def add(self, seconds: float, rows: int, free_places: int) -> None:
        self.seconds += seconds / rows
        self.steps += 1 / rows
        self.free_places += free_places / rows

    def share(self, began: "_Meter", tokens: int) -> BatchShare:
        """Of a row of so many tokens. What it could have had beside them is its part of the places that were free."""
        free_places = self.free_places - began.free_places
        return BatchShare(tokens, 0.0, tokens + free_places, self.steps - began.steps, self.seconds - began.seconds)


class _Begun(NamedTuple):
    """A row under way: its turn, where the meter stood when it began, and when that was."""

    turn: WaitingRow
    meter: _Meter
    at: float


@dataclass(slots=True)
class _Lane:
    """``trials``: rows of which one is to blame for a step that failed: the last group runs next, alone. ``ended``: rows that did since the
    budget grew last. ``most``: what may run at once, as the slots said last."""

    slots: Slots
    running: dict[DecoderRow, _Begun] = field(default_factory=dict)
    calls: Counter[DecoderCall] = field(default_factory=Counter)
    tokens: int = 0
    ended: int = 0
    trials: list[list[WaitingRow]] = field(default_factory=list)
    meter: _Meter = field(default_factory=_Meter)
    most: Room = NO_ROOM

    def begin(self, turn: WaitingRow) -> DecoderRow:
        length, _tag, index, call = turn
        row = call.rows[index]
        row.first_token_at = None  # where it began before, what it said then is nobody's
        self.running[row] = _Begun(turn, replace(self.meter), time.perf_counter())
        self.calls[call] += 1
        self.tokens += length
        return row

    def end(self, row: DecoderRow) -> _Begun:
        begun = self.running.pop(row)
        length, _tag, _index, call = begun.turn
        self.calls[call] -= 1
        if not self.calls[call]:
            del self.calls[call]
        self.tokens -= length
        return begun


class ContinuousBatcher:
    """``slots``: one set a lane. ``budget_tokens``: as many may run at once on a lane, within what the slots themselves allow. ``observe``
    is called on the lane after each step and must be quick; ``watch()`` surrounds each; ``activity`` is told of every call."""

    def __init__(
        self,
        slots: Sequence[Slots],
        *,
        name: str,
        budget_tokens: int,
        observe: Callable[[BatchReport], None] | None = None,
        watch: Watch = nullcontext,
        activity: Activity | None = None,
    ) -> None:
        self.lanes = len(slots)
        self._observe = observe
        self._watch = watch
        self._activity = activity
        self._lock = threading.Lock()  # guards everything below, but for what is a lane's own
        self._may_run = threading.Condition(self._lock)
        self._waiting: dict[Work, Turns[DecoderCall]] = {
            work: Turns(lambda call: call.ticket.tenant, lambda call: call.ticket.job) for work in Work
        }
        self._calls: set[DecoderCall] = set()
        self._interactive_in_a_row = 0
        self._budget = Budget(budget_tokens)
        self._closing = False
        self._broken = False
        self._lanes = [_Lane(one) for one in slots]
        self._threads = [on_duty(partial(self._run, lane), f"{name}-lane-{number}") for number, lane in enumerate(self._lanes)]
        for thread in self._threads:
            thread.start()

    def submit(self, rows: Sequence[DecoderRow], ticket: Ticket = NOBODY) -> DecoderCall:
        """Never blocks."""
        call = DecoderCall(rows, ticket)
        work = Work.of(ticket)
        if self._activity is not None and rows:  # before a lane can have it
            call.add_done_callback(self._activity.enter(work))
        with self._lock:
            if self._closing:
                call.fail(EngineBroken() if self._broken else Stopped())
            elif rows:
                self._waiting[work].add([row.tokens for row in rows], call)
                self._calls.add(call)
                self._may_run.notify_all()
        return call

    def take_back(self, call: DecoderCall) -> None:
        """What of a call waits is not begun any more, and answered by TAKEN_BACK; what runs goes on."""
        with self._lock:
            places = [place for waiting in self._waiting.values() for place in waiting.take_back(call)]
        call.settle(places, [TAKEN_BACK] * len(places), BatchShare())

    def load(self) -> Load:
        """What is under way, from any thread."""
        with self._lock:
            waiting = {work: len(rows) for work, rows in self._waiting.items()}
            heads = [head for rows in self._waiting.values() for head in rows.heads()]
            tokens = sum((Counter(rows.tokens_by_owner()) for rows in self._waiting.values()), Counter[Hashable]())
            lanes = [(lane.most, len(lane.running), lane.tokens) for lane in self._lanes]
        now = time.perf_counter()
        held = [count for lane in self._lanes if (count := lane.slots.kv_tokens()) is not None]
        return Load(
            slots=sum(max(most.rows, running) for most, running, _ in lanes),
            slots_in_use=sum(running for _, running, _ in lanes),
            kv_tokens=sum(held) if held else None,
            promised_tokens=sum(promised for _, _, promised in lanes),
            most_tokens=sum(most.tokens for most, _, _ in lanes),
            waiting={work.value: count for work, count in waiting.items()},
            tenants=len(tokens),
            largest_share=max(tokens.values()) / tokens.total() if tokens else 0.0,
            longest_seconds=max((now - head[3].asked_at for head in heads), default=0.0),
        )

    def stop(self, *, drain: bool) -> None:
        """Ends the threads and waits for them. With drain, all rows run to their end; without, their calls raise Stopped."""
        with self._lock:
            self._closing = True
            if not drain:
                self._fail_all(Stopped)
            self._may_run.notify_all()
        for thread in self._threads:
            thread.join()

    def _fail_all(self, error: type[Exception]) -> None:
        for call in self._calls:
            call.fail(error())

    # A lane.

    def _run(self, lane: _Lane) -> None:
        while self._fill(lane):
            try:
                self._advance(lane)
            except Exception as error:
                # A fault of our own (say, in `observe`). A lane that died of it would leave its callers waiting for ever.
                log.error("A lane failed outside the engine (%s); its calls end.", type(error).__name__)
                self._break()

    def _fill(self, lane: _Lane) -> bool:
        """Waits until there is something to run. False at the end."""
        with self._lock:
            while True:
                self._let_go(lane)
                new = self._take(lane)
                if new:
                    lane.slots.add([lane.begin(row) for row in new])
                if lane.running:
                    return True
                if self._closing and not lane.trials and not any(self._waiting.values()):
                    return False
                if not lane.trials:
                    self._may_run.wait()

    def _let_go(self, lane: _Lane) -> None:
        """Of calls that nobody waits for, rows neither wait nor run on."""
        dead = {call for call in self._calls if not call.live()}
        if dead:
            self._calls -= dead
            for waiting in self._waiting.values():
                waiting.drop(dead)
        if any(call.done() for call in lane.calls):
            for row in [row for row, begun in lane.running.items() if begun.turn[3].done()]:
                lane.slots.cancel(row)
                lane.end(row)
        lane.trials = [left for group in lane.trials if (left := [turn for turn in group if not turn[3].done()])]

    def _take(self, lane: _Lane) -> list[WaitingRow]:
        """The rows that join the lane now. Of few, each lane takes its part."""
        if lane.trials:
            return [] if lane.running else lane.trials.pop()
        room = lane.slots.room()
        lane.most = Room(room.rows + len(lane.running), min(room.tokens + lane.tokens, self._budget.now_tokens))
        tokens = min(room.tokens, self._budget.now_tokens - lane.tokens)
        everywhere = sum(map(len, self._waiting.values())) + sum(len(one.running) for one in self._lanes)
        most = min(room.rows, -(-everywhere // self.lanes) - len(lane.running))
        taken: list[WaitingRow] = []
        while len(taken) < most and (work := self._next_class()) is not None:
            waiting = self._waiting[work]
            first = waiting.first()
            assert first is not None
            if first[0] > tokens and (taken or lane.running):
                break
            taken.append(waiting.take_first())
            tokens -= first[0]
            bulk_waits = bool(self._waiting[Work.BULK])
            self._interactive_in_a_row = self._interactive_in_a_row + 1 if work is Work.INTERACTIVE and bulk_waits else 0
        return taken

    def _next_class(self) -> Work | None:
        return next((work for work in turns(self._interactive_in_a_row) if self._waiting[work]), None)

    def _advance(self, lane: _Lane) -> None:
        rows, began = len(lane.running), time.perf_counter()
        try:
            with self._watch():
                finished = lane.slots.step()
        except EngineBroken:
            log.error("The device is lost for this process; every call fails and the process should end.")
            self._break()
        except EngineAway as away:
            with self._lock:
                for call in self._calls:
                    call.fail(EngineAway(away.seconds))
        except (OutOfMemory, MemoryError):
            lane.ended = 0
            with self._lock:
                self._budget.shrink()
            self._split(lane, "out_of_memory")
        except Exception as error:
            # The message of a foreign exception may quote its input, so only its kind is told.
            log.warning("A step of %d rows failed in the engine (%s); they begin anew, in halves.", rows, type(error).__name__)
            self._split(lane, "engine_error")
        else:
            seconds, free_places = time.perf_counter() - began, lane.slots.room().rows - len(finished)
            lane.meter.add(seconds, rows, free_places)
            lane.ended += len(finished)
            if lane.ended >= rows:  # as many as run together: what a batch is elsewhere
                lane.ended = 0
                with self._lock:
                    self._budget.grow()
            begun = [lane.end(one.row) for one in finished]
            spoken = [_spoken(*each) for each in zip(finished, begun, strict=True)]
            if self._observe is not None:
                answered = tuple(one for one in spoken if one is not None)
                self._observe(BatchReport(rows, rows, 0, rows + free_places, seconds, self.lanes, answered))
            for each in zip(finished, begun, spoken, strict=True):
                self._settle(lane, *each)

    def _split(self, lane: _Lane, code: str) -> None:
        """The rows that ran are begun anew, one half after the other; a row alone is settled as failed."""
        turns_of = [lane.end(row).turn for row in list(lane.running)]
        if len(turns_of) == 1:
            [(_length, _tag, index, call)] = turns_of
            call.settle([index], [FailedRow(code)], BatchShare())
            return
        middle = -(-len(turns_of) // 2)
        lane.trials += [turns_of[middle:], turns_of[:middle]]

    def _settle(self, lane: _Lane, one: Finished, begun: _Begun, spoken: Spoken | None) -> None:
        _length, _tag, index, call = begun.turn
        if call.live():
            share = lane.meter.share(begun.meter, len(one.row.ids) + (0 if spoken is None else spoken.output_tokens))
            share.times = Counter() if spoken is None else spoken.times
            call.settle([index], [one.answer], share)
        if call.done():
            with self._lock:
                self._calls.discard(call)

    def _break(self) -> None:
        with self._lock:
            self._closing = self._broken = True
            self._fail_all(EngineBroken)
            for lane in self._lanes:
                lane.trials.clear()
            self._may_run.notify_all()


def _spoken(one: Finished, begun: _Begun) -> Spoken | None:
    """None of a row that failed."""
    said, row, call, now = one.answer, one.row, begun.turn[3], time.perf_counter()
    if isinstance(said, FailedRow):
        return None
    first = row.first_token_at
    ending, prompt_tokens, tokens = (
        ("scored", None, 0) if isinstance(said, Scored) else (said.finish_reason, said.prompt_tokens, len(said.ids))
    )
    return Spoken(
        work=Work.of(call.ticket).value,
        ending=ending,
        prompt_tokens=len(row.ids) if prompt_tokens is None else prompt_tokens,
        cached_tokens=said.cached_tokens,
        output_tokens=tokens,
        slot_seconds=begun.at - call.asked_at,
        first_seconds=None if first is None else first - call.asked_at,
        next_seconds=None if first is None or tokens < 2 else (now - first) / (tokens - 1),
    )
