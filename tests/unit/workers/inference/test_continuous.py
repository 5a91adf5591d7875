"""The slots here are pretended: a row says as many tokens as it has left, and the first of its prompt's ids tells what becomes of it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.waiting import wait_until
from workers.batches.activity import Activity, Busy
from workers.batches.outcomes import BatchReport, EngineAway, EngineBroken, FailedRow, OutOfMemory, Stopped
from workers.batches.policy import INTERACTIVE_IN_A_ROW
from workers.batches.ticket import Ticket
from workers.engines.contract.decoding import DecoderRow, Finished, Generation, Room
from workers.inference.continuous import TAKEN_BACK, ContinuousBatcher, DecoderCall

WAIT_SECONDS = 20
SOUND, POISON, HUGE, LOST, SPOILT, AWAY = range(6)


def a_row(max_tokens: int = 1, kind: int = SOUND, prompt_tokens: int = 1) -> DecoderRow:
    return DecoderRow(np.full(prompt_tokens, kind, np.int32), max_tokens)


class PretendedSlots:
    """Holds every step until it is let go, so that a test decides what waits meanwhile. ``steps``: the rows of each."""

    def __init__(self, rows: int = 4, tokens: int = 10_000) -> None:
        self.most = Room(rows, tokens)
        self.left: dict[DecoderRow, int] = {}
        self.steps: list[list[DecoderRow]] = []
        self.fits_rows = 1_000
        self.let_go = threading.Semaphore(1_000_000)
        self.entered = threading.Semaphore(0)

    def kv_tokens(self) -> int:
        return sum(len(row.ids) for row in list(self.left))

    def room(self) -> Room:
        return Room(self.most.rows - len(self.left), self.most.tokens - sum(row.tokens for row in self.left))

    def add(self, rows: Sequence[DecoderRow]) -> None:
        assert not rows or len(rows) <= self.room().rows
        self.left |= {row: row.max_tokens for row in rows}

    def cancel(self, row: DecoderRow) -> None:
        self.left.pop(row, None)

    def step(self) -> list[Finished]:
        self.steps.append(list(self.left))
        self.entered.release()
        assert self.let_go.acquire(timeout=WAIT_SECONDS)
        kinds = {int(row.ids[0]) for row in self.left}
        trouble = {LOST: EngineBroken(), AWAY: EngineAway(7.0), HUGE: OutOfMemory(), POISON: ValueError("a row that must not be quoted")}
        for kind, error in trouble.items():
            if kind in kinds or (kind == HUGE and len(self.left) > self.fits_rows):
                self.left.clear()
                raise error
        ended = []
        for row in list(self.left):
            row.first_token_at = row.first_token_at or time.perf_counter()
            self.left[row] -= 1
            if not self.left[row]:
                del self.left[row]
                said = Generation("", range(row.max_tokens), "length")
                ended.append(Finished(row, FailedRow("non_finite_output") if row.ids[0] == SPOILT else said))
        return ended

    def hold(self) -> None:
        self.let_go = threading.Semaphore(0)


Make = Callable[..., tuple[ContinuousBatcher, PretendedSlots]]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[tuple[ContinuousBatcher, PretendedSlots]] = []

    def make(rows: int = 4, tokens: int = 10_000, budget_tokens: int = 10_000, **more: object) -> tuple[ContinuousBatcher, PretendedSlots]:
        slots = PretendedSlots(rows, tokens)
        made.append((ContinuousBatcher([slots], name="test", budget_tokens=budget_tokens, **more), slots))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for batcher, slots in made:
        slots.let_go.release(1_000_000)
        batcher.stop(drain=False)


def tokens_said(call: DecoderCall) -> list[int | str]:
    answers = call.result(WAIT_SECONDS).answers
    return [len(answer.ids) if isinstance(answer, Generation) else answer.code for answer in answers]


def began(slots: PretendedSlots) -> list[DecoderRow]:
    """Rows in the order in which they joined."""
    return list(dict.fromkeys(row for rows in slots.steps for row in rows))


def test_answers_come_in_the_order_of_the_rows_however_they_end(make: Make) -> None:
    batcher, _ = make()
    lengths = [5, 1, 9, 2, 2, 7, 1, 3]
    assert tokens_said(batcher.submit([a_row(length) for length in lengths])) == lengths
    assert tokens_said(batcher.submit([])) == []


def test_a_place_is_filled_in_the_very_next_step(make: Make) -> None:
    batcher, slots = make(rows=3)
    lengths = [5, 1, 9, 2, 2, 7, 1, 3]
    batcher.submit([a_row(length) for length in lengths]).result(WAIT_SECONDS)
    waiting = [len(lengths) - len({row for rows in slots.steps[: at + 1] for row in rows}) for at in range(len(slots.steps))]
    assert all(len(rows) == 3 for rows, left in zip(slots.steps, waiting, strict=True) if left)
    idle_steps = sum(3 - len(rows) for rows, left in zip(slots.steps, waiting, strict=True) if left)
    assert idle_steps == 0


def test_a_call_ends_before_rows_of_another_that_run_beside_it(make: Make) -> None:
    batcher, slots = make()
    slots.hold()
    long = batcher.submit([a_row(100)])
    short = batcher.submit([a_row(2)])
    slots.let_go.release(4)
    assert tokens_said(short) == [2]
    assert not long.done()


def test_tokens_that_run_together_stay_within_the_room_and_the_budget(make: Make) -> None:
    for limits in ({"tokens": 30}, {"budget_tokens": 30}):
        batcher, slots = make(rows=10, **limits)
        batcher.submit([a_row(4, prompt_tokens=6) for _ in range(7)]).result(WAIT_SECONDS)
        assert max(sum(row.tokens for row in rows) for rows in slots.steps) == 30


def test_a_row_that_is_larger_than_the_room_runs_alone_and_none_passes_it(make: Make) -> None:
    batcher, slots = make(rows=10, tokens=30)
    rows = [a_row(3), a_row(40), a_row(1)]
    assert tokens_said(batcher.submit(rows)) == [3, 40, 1]
    assert began(slots) == rows
    assert all(len(step) == 1 for step in slots.steps if rows[1] in step)


def test_tenants_take_turns_by_tokens(make: Make) -> None:
    batcher, slots = make(rows=1)
    slots.hold()
    first = batcher.submit([a_row()], Ticket(tenant="a"))
    assert slots.entered.acquire(timeout=WAIT_SECONDS)
    many = batcher.submit([a_row(9) for _ in range(20)], Ticket(tenant="a"))
    few = batcher.submit([a_row(4) for _ in range(6)], Ticket(tenant="b"))
    slots.let_go.release(1_000_000)
    for call in (first, many, few):
        call.result(WAIT_SECONDS)
    order = began(slots)
    last_of_few = max(order.index(row) for row in few.rows)
    assert sum(row.tokens for row in order[:last_of_few] if row in many.rows) <= 2 * sum(row.tokens for row in few.rows)


def test_an_interactive_row_takes_the_next_free_place_and_bulk_is_not_starved(make: Make) -> None:
    batcher, slots = make(rows=1)
    slots.hold()
    batcher.submit([a_row()])
    assert slots.entered.acquire(timeout=WAIT_SECONDS)
    bulk = batcher.submit([a_row() for _ in range(3)])
    urgent = batcher.submit([a_row() for _ in range(3 * INTERACTIVE_IN_A_ROW)], Ticket(interactive=True))
    slots.let_go.release(1_000_000)
    bulk.result(WAIT_SECONDS)
    urgent.result(WAIT_SECONDS)
    order = began(slots)[1:]
    assert [row in urgent.rows for row in order[: INTERACTIVE_IN_A_ROW + 2]] == [True] * INTERACTIVE_IN_A_ROW + [False, True]


def test_lanes_share_few_rows(make: Make) -> None:
    both = [PretendedSlots(8), PretendedSlots(8)]
    for slots in both:
        slots.hold()
    batcher = ContinuousBatcher(both, name="test", budget_tokens=1000)
    call = batcher.submit([a_row(2) for _ in range(6)])
    for slots in both:
        assert slots.entered.acquire(timeout=WAIT_SECONDS)
    for slots in both:  # and not before: a lane that is free takes what another has not taken yet
        slots.let_go.release(100)
    call.result(WAIT_SECONDS)
    batcher.stop(drain=True)
    assert [len(slots.steps[0]) for slots in both] == [3, 3]


@pytest.mark.parametrize("kind", [POISON, HUGE])
@pytest.mark.parametrize("place", range(5))
def test_a_row_to_blame_fails_alone_and_its_neighbours_are_answered(make: Make, kind: int, place: int) -> None:
    batcher, _ = make(rows=5)
    neighbour = batcher.submit([a_row(3) for _ in range(3)])
    call = batcher.submit([a_row(3, kind if at == place else SOUND) for at in range(5)])
    code = {POISON: "engine_error", HUGE: "out_of_memory"}[kind]
    assert tokens_said(call) == [code if at == place else 3 for at in range(5)]
    assert tokens_said(neighbour) == [3, 3, 3]


def test_out_of_memory_lets_fewer_tokens_run_together_and_they_grow_back(make: Make) -> None:
    batcher, slots = make(rows=64, budget_tokens=400)
    slots.hold()
    call = batcher.submit([a_row(9), a_row(9, HUGE), *(a_row(9) for _ in range(1_000))])
    slots.let_go.release(1_000_000)
    assert tokens_said(call).count("out_of_memory") == 1
    first = set(slots.steps[0])
    widths = [len(rows) for rows in slots.steps if not first.intersection(rows)]
    assert len(first) == 40
    assert widths[0] <= 30
    assert max(widths) == 40
    assert widths.index(40) > 20, "each time by a sixteenth, when as many rows have ended as run together"


def test_a_row_that_the_model_spoilt_fails_and_its_neighbours_go_on(make: Make) -> None:
    batcher, _ = make()
    assert tokens_said(batcher.submit([a_row(2), a_row(2, SPOILT), a_row(2)])) == [2, "non_finite_output", 2]


def test_a_lost_device_fails_every_call_and_takes_no_more(make: Make) -> None:
    batcher, slots = make(rows=2)
    slots.hold()
    calls = [batcher.submit([a_row(3)]), batcher.submit([a_row(3, LOST)]), batcher.submit([a_row(3)])]
    slots.let_go.release(1_000_000)
    for call in (*calls, batcher.submit([a_row()])):
        with pytest.raises(EngineBroken):
            call.result(WAIT_SECONDS)


def test_an_engine_that_is_away_fails_the_calls_that_are_there_and_the_lane_waits_for_others(make: Make) -> None:
    batcher, slots = make(rows=2)
    slots.hold()
    calls = [batcher.submit([a_row(3)]), batcher.submit([a_row(3, AWAY)]), batcher.submit([a_row(3)])]
    slots.let_go.release(1_000_000)
    for call in calls:
        with pytest.raises(EngineAway) as away:
            call.result(WAIT_SECONDS)
        assert away.value.seconds == 7.0
    assert tokens_said(batcher.submit([a_row(2)])) == [2]


def test_a_stopped_call_leaves_its_places_and_what_waits_of_it_never_runs(make: Make) -> None:
    batcher, slots = make(rows=2)
    stop = threading.Event()
    slots.hold()
    call = batcher.submit([a_row(50) for _ in range(5)], Ticket(stop))
    other = batcher.submit([a_row(2)])
    assert slots.entered.acquire(timeout=WAIT_SECONDS)
    stop.set()
    slots.let_go.release(1_000_000)
    with pytest.raises(Stopped):
        call.result(WAIT_SECONDS)
    assert tokens_said(other) == [2]
    assert len([row for row in began(slots) if row in call.rows]) == 2
    assert sum(call.rows[0] in rows for rows in slots.steps) == 1


def test_rows_are_taken_as_they_end_and_what_has_not_begun_is_taken_back(make: Make) -> None:
    batcher, slots = make(rows=2)
    slots.hold()
    call = batcher.submit([a_row(1), a_row(3), a_row(2), a_row(1)])
    assert slots.entered.acquire(timeout=WAIT_SECONDS)
    assert call.take(0.0)[0] == []
    slots.let_go.release()
    assert slots.entered.acquire(timeout=WAIT_SECONDS)
    ended, share = call.take(0.2)
    assert (ended, call.left, share.batches) == ([0], 3, 0.5)
    batcher.take_back(call)
    batcher.take_back(call)
    slots.let_go.release(1_000_000)
    taken = [place for _ in range(2) for place in call.take(WAIT_SECONDS)[0]]
    assert (sorted(taken), call.left) == ([1, 2, 3], 0)
    assert [answer is TAKEN_BACK for answer in call.answers] == [False, False, False, True]
    assert call.rows[3] not in began(slots)


def test_whoever_takes_rows_of_a_call_that_fails_is_told_at_once(make: Make) -> None:
    batcher, slots = make(rows=2)
    slots.hold()
    call = batcher.submit([a_row(3, LOST)])
    slots.let_go.release(1_000_000)
    with pytest.raises(EngineBroken):
        call.take(WAIT_SECONDS)


def test_a_drain_runs_everything_to_its_end_and_no_drain_nothing_more(make: Make) -> None:
    batcher, _ = make(rows=2)
    call = batcher.submit([a_row(3) for _ in range(9)])
    batcher.stop(drain=True)
    assert tokens_said(call) == [3] * 9
    with pytest.raises(Stopped):
        batcher.submit([a_row()]).result(WAIT_SECONDS)

    batcher, slots = make(rows=2)
    slots.hold()
    call = batcher.submit([a_row(3) for _ in range(9)])
    assert slots.entered.acquire(timeout=WAIT_SECONDS)
    ending = threading.Thread(target=batcher.stop, kwargs={"drain": False})
    ending.start()
    with pytest.raises(Stopped):
        call.result(WAIT_SECONDS)
    slots.let_go.release(1_000_000)
    ending.join(WAIT_SECONDS)
    assert len(slots.steps) == 1


def test_a_fault_outside_the_engine_ends_its_calls_and_not_in_silence(make: Make) -> None:
    def observe(report: BatchReport) -> None:
        raise RuntimeError

    batcher, _ = make(observe=observe)
    with pytest.raises(EngineBroken):
        batcher.submit([a_row(3)]).result(WAIT_SECONDS)


def test_each_step_is_watched_and_reported_and_calls_are_activity(make: Make) -> None:
    reports: list[BatchReport] = []
    watched: list[str] = []
    activity = Activity(clock=lambda: 0.0)

    class Watch:
        def __enter__(self) -> None:
            watched.append("in")

        def __exit__(self, *_: object) -> None:
            watched.append("out")

    batcher, slots = make(rows=2, observe=reports.append, watch=Watch, activity=activity)
    slots.hold()
    call = batcher.submit([a_row(2), a_row(3), a_row(1)])
    assert activity.now == Busy(0, 1, 0.0)
    slots.let_go.release(1_000_000)
    call.result(WAIT_SECONDS)
    wait_until(lambda: activity.now == Busy(0, 0, 0.0))
    wait_until(lambda: len(reports) == 3)
    assert [(report.rows, report.budget_tokens) for report in reports] == [(2, 2), (2, 2), (2, 2)]
    assert watched == ["in", "out"] * 3


def test_what_rows_took_of_the_lane_adds_up_to_its_steps(make: Make) -> None:
    reports: list[BatchReport] = []
    batcher, slots = make(rows=4, observe=reports.append)
    slots.hold()
    calls = [batcher.submit([a_row(length) for length in lengths]) for lengths in ([5, 1], [2, 2, 7], [1], [1, 4])]
    slots.let_go.release(1_000_000)
    for call in calls:
        call.result(WAIT_SECONDS)
    batcher.stop(drain=True)
    assert sum(call.share.batches for call in calls) == pytest.approx(len(slots.steps))
    assert sum(call.share.model_seconds for call in calls) == pytest.approx(sum(report.seconds for report in reports))
    assert sum(call.share.tokens for call in calls) == 8 + 23
    idle = sum(report.budget_tokens - report.rows for report in reports)
    assert sum(call.share.budget_tokens for call in calls) == pytest.approx(8 + 23 + idle)


@given(st.lists(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), max_size=6), max_size=5), st.integers(1, 5), st.integers(1, 30))
def test_every_row_is_answered_once_whatever_comes_together(calls: list[list[tuple[int, int]]], places: int, budget_tokens: int) -> None:
    slots = [PretendedSlots(places), PretendedSlots(places)]
    batcher = ContinuousBatcher(slots, name="test", budget_tokens=budget_tokens)
    made = [
        batcher.submit([a_row(said, prompt_tokens=prompt) for said, prompt in rows], Ticket(tenant=number % 2))
        for number, rows in enumerate(calls)
    ]
    assert [tokens_said(call) for call in made] == [[said for said, _ in rows] for rows in calls]
    batcher.stop(drain=True)
    for one in slots:
        assert all(len(rows) == 1 or sum(row.tokens for row in rows) <= budget_tokens for rows in one.steps)
