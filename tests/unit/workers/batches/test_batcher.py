"""The rows here are numbers, or words that make the pretended engine fail; its answer to a number is the number doubled."""

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from workers.batches.activity import Activity, Busy
from workers.batches.batcher import Batcher, Call
from workers.batches.outcomes import BatchReport, BatchShare, EngineAway, EngineBroken, FailedRow, OutOfMemory, RowsRefused, Stopped
from workers.batches.policy import INTERACTIVE_IN_A_ROW, Policy, Work
from workers.batches.ticket import Ticket

WAIT_SECONDS = 20
Row = int | str
Numbers = Batcher[Row, list[Row], int]


class PretendedEngine:
    """Doubles numbers. Holds every batch until it is let go, so that a test decides what is waiting meanwhile."""

    def __init__(self, fits_rows: int = 1000) -> None:
        self.batches: list[list[Row]] = []
        self.fits_rows = fits_rows
        self.let_go = threading.Event()
        self.let_go.set()
        self.entered = threading.Semaphore(0)

    def run(self, rows: list[Row]) -> Sequence[int | FailedRow]:
        self.batches.append(rows)
        self.entered.release()
        assert self.let_go.wait(WAIT_SECONDS)
        if "lost" in rows:
            raise EngineBroken
        if "away" in rows:
            raise EngineAway(7.0)
        if "refused" in rows:
            raise RowsRefused("prompt_too_long")
        if len(rows) > self.fits_rows or "huge" in rows:
            raise OutOfMemory
        if "poison" in rows:
            raise ValueError("a row that must not be quoted")
        if "short" in rows:
            return [0] * (len(rows) - 1)
        return [FailedRow("non_finite_output") if row == "nan" else int(row) * 2 for row in rows]


Make = Callable[..., Numbers]


@pytest.fixture
def engine() -> PretendedEngine:
    return PretendedEngine()


@pytest.fixture
def make(engine: PretendedEngine) -> Iterator[Make]:
    made: list[Numbers] = []

    def make(
        *,
        lanes: int = 1,
        budget_tokens: int = 100,
        prepare: Callable[[list[Row]], list[Row]] = list,
        observe: Callable[[BatchReport], None] | None = None,
        activity: Activity | None = None,
    ) -> Numbers:
        policy = Policy(budget_tokens=budget_tokens, padded=False)
        made.append(Batcher(prepare, engine.run, name="test", lanes=lanes, policy=policy, observe=observe, activity=activity))
        return made[-1]

    yield make
    engine.let_go.set()
    for batcher in made:
        batcher.stop(drain=False)


def answers(call: Call[Row, int]) -> list[int | FailedRow]:
    return call.result(WAIT_SECONDS).answers


def ones(rows: Sequence[Row]) -> list[int]:
    return [1] * len(rows)


def test_answers_come_in_the_order_of_the_rows(make: Make) -> None:
    rows = list(range(1000))
    assert answers(make(lanes=3).submit(rows, [row % 50 + 1 for row in rows])) == [2 * row for row in rows]


def test_a_call_without_rows_is_done_at_once(make: Make) -> None:
    call = make().submit([], []).result(0)
    assert (call.answers, call.share) == ([], BatchShare())


@pytest.mark.parametrize("padded", [False, True])
def test_rows_of_no_tokens_are_answered_and_each_call_had_its_share_of_the_batch(engine: PretendedEngine, padded: bool) -> None:
    reports: list[BatchReport] = []
    policy = Policy(budget_tokens=8, padded=padded)
    numbers: Numbers = Batcher(list, engine.run, name="test", lanes=1, policy=policy, observe=reports.append)
    try:
        calls = [numbers.submit([1, 2], [0, 0]), numbers.submit([3], [0]), numbers.submit([], [])]
        assert [answers(call) for call in calls] == [[2, 4], [6], []]
        assert sum(call.share.batches for call in calls) == pytest.approx(len(reports))
        assert answers(numbers.submit([4], [1])) == [8], "the lane lives"
    finally:
        numbers.stop(drain=False)


def test_a_call_is_known_to_be_under_way_before_a_lane_can_have_it_and_until_its_end(make: Make, engine: PretendedEngine) -> None:
    held: list[bool] = []

    class Watched(Activity):
        def enter(self, work: Work) -> Callable[[object], None]:
            held.append(bool(numbers._calls))
            return super().enter(work)

    activity = Watched(lambda: 0.0)
    numbers = make(activity=activity)
    engine.let_go.clear()
    call = numbers.submit([1], [1])
    assert (held, activity.now) == ([False], Busy(0, 1, 0.0))
    engine.let_go.set()
    call.result(WAIT_SECONDS)
    numbers.stop(drain=True)
    numbers.submit([1], [1], Ticket(interactive=True))
    numbers.submit([], [])
    assert (held, activity.now) == ([False, False], Busy(0, 0, 0.0))


def test_rows_of_concurrent_calls_share_a_batch(make: Make, engine: PretendedEngine) -> None:
    batcher = make()
    engine.let_go.clear()
    first = batcher.submit([0], [1])
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    others = [batcher.submit([number], [1]) for number in range(1, 6)]
    engine.let_go.set()
    assert [answers(future) for future in [first, *others]] == [[2 * number] for number in range(6)]
    assert engine.batches == [[0], [1, 2, 3, 4, 5]]


def test_the_next_batch_is_prepared_while_a_lane_is_busy(make: Make, engine: PretendedEngine) -> None:
    prepared = threading.Semaphore(0)

    def prepare(rows: list[Row]) -> list[Row]:
        prepared.release()
        return rows

    batcher = make(budget_tokens=2, prepare=prepare)
    engine.let_go.clear()
    future = batcher.submit(list(range(6)), ones(range(6)))
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    assert prepared.acquire(timeout=WAIT_SECONDS)
    assert prepared.acquire(timeout=WAIT_SECONDS), "the second batch is prepared before the first has run"
    assert not prepared.acquire(timeout=0.05), "exactly one is prepared ahead"
    engine.let_go.set()
    assert len(answers(future)) == 6


def test_idle_lanes_share_the_rows_that_wait(make: Make, engine: PretendedEngine) -> None:
    batcher = make(lanes=2)
    engine.let_go.clear()
    future = batcher.submit(list(range(10)), ones(range(10)))
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    engine.let_go.set()
    answers(future)
    assert sorted(map(len, engine.batches)) == [5, 5]


def test_shares_sum_to_the_batches_that_ran(make: Make, engine: PretendedEngine) -> None:
    reports: list[BatchReport] = []
    batcher = make(budget_tokens=16, observe=reports.append)
    engine.let_go.clear()
    futures = [batcher.submit([1, 2, 3], [3, 5, 7]) for _ in range(4)]
    engine.let_go.set()
    shares = [future.result(WAIT_SECONDS).share for future in futures]
    batcher.stop(drain=True)
    assert sum(share.tokens for share in shares) == sum(report.tokens for report in reports) == 60
    assert sum(share.batches for share in shares) == pytest.approx(len(reports))
    assert sum(share.budget_tokens for share in shares) == pytest.approx(sum(report.budget_tokens for report in reports))
    assert all(share.padding_tokens == 0 for share in shares)


def test_a_poison_row_fails_alone(make: Make) -> None:
    rows: list[Row] = [*range(40), "poison", *range(40, 60), "poison", 60]
    got = answers(make().submit(rows, ones(rows)))
    assert [answer for answer, row in zip(got, rows, strict=True) if row == "poison"] == [FailedRow("engine_error")] * 2
    assert [answer for answer, row in zip(got, rows, strict=True) if row != "poison"] == [2 * number for number in range(61)]


def test_a_poison_row_does_not_fail_the_call_it_shares_a_batch_with(make: Make, engine: PretendedEngine) -> None:
    batcher = make()
    engine.let_go.clear()
    batcher.submit([0], [1])
    bad, good = batcher.submit(["poison"], [1]), batcher.submit([7], [1])
    engine.let_go.set()
    assert (answers(bad), answers(good)) == ([FailedRow("engine_error")], [14])


def test_a_row_that_cannot_be_prepared_fails_alone(make: Make) -> None:
    def prepare(rows: list[Row]) -> list[Row]:
        if "unpackable" in rows:
            raise TypeError
        return rows

    assert answers(make(prepare=prepare).submit([1, "unpackable", 3], [1, 1, 1])) == [2, FailedRow("engine_error"), 6]


def test_the_exception_of_an_engine_is_never_quoted(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    answers(make().submit(["poison", 1], [1, 1]))
    assert "ValueError" in caplog.text
    assert "quoted" not in caplog.text


def test_too_few_answers_fail_no_neighbour(make: Make) -> None:
    assert answers(make().submit([1, "short", 3], [1, 1, 1])) == [2, FailedRow("engine_error"), 6]


def test_a_row_the_engine_gave_up_keeps_its_code(make: Make) -> None:
    assert answers(make().submit([1, "nan"], [1, 1])) == [2, FailedRow("non_finite_output")]


def test_out_of_memory_splits_the_batch_and_goes_on(make: Make, engine: PretendedEngine) -> None:
    engine.fits_rows = 5
    assert answers(make(lanes=2).submit(list(range(64)), ones(range(64)))) == [2 * number for number in range(64)]
    assert max(len(batch) for batch in engine.batches[-3:]) <= 5


def test_a_row_too_large_for_the_device_alone_fails_as_out_of_memory(make: Make) -> None:
    assert answers(make().submit([1, "huge", 3], [1, 1, 1])) == [2, FailedRow("out_of_memory"), 6]


def test_batches_are_smaller_after_out_of_memory_and_grow_back(make: Make, engine: PretendedEngine) -> None:
    budgets: list[int] = []
    batcher = make(budget_tokens=1600, observe=lambda report: budgets.append(report.budget_tokens))
    answers(batcher.submit(["huge"], [1]))
    for _ in range(12):
        answers(batcher.submit([1], [1]))
    assert budgets[:3] == [800, 900, 1000]
    assert budgets[-1] == 1600


def test_a_stopped_call_ends_before_its_next_batch_and_its_neighbour_goes_on(make: Make, engine: PretendedEngine) -> None:
    batcher = make(budget_tokens=4)
    stop = threading.Event()
    engine.let_go.clear()
    stopped = batcher.submit(list(range(100)), ones(range(100)), Ticket(stop))
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    other = batcher.submit([7], [1])
    stop.set()
    engine.let_go.set()
    assert answers(other) == [14]
    with pytest.raises(Stopped):
        stopped.result(WAIT_SECONDS)
    assert len(engine.batches) == 2, "nothing of the stopped call ran after its first batch"


def test_a_call_stopped_while_its_last_batch_ran_brings_no_answers(make: Make, engine: PretendedEngine) -> None:
    stop = threading.Event()
    engine.let_go.clear()
    future = make().submit([1, 2], [1, 1], Ticket(stop))
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    stop.set()
    engine.let_go.set()
    with pytest.raises(Stopped):
        future.result(WAIT_SECONDS)


def test_a_drain_runs_what_waits_and_takes_no_more(make: Make, engine: PretendedEngine) -> None:
    batcher = make(lanes=2, budget_tokens=3)
    future = batcher.submit(list(range(50)), ones(range(50)))
    batcher.stop(drain=True)
    assert len(answers(future)) == 50
    with pytest.raises(Stopped):
        batcher.submit([1], [1]).result(WAIT_SECONDS)


def test_a_hard_stop_ends_the_calls_that_wait(make: Make, engine: PretendedEngine) -> None:
    batcher = make(budget_tokens=1)
    engine.let_go.clear()
    running, waiting = batcher.submit([1], [1]), batcher.submit(list(range(9)), ones(range(9)))
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    closing = threading.Thread(target=batcher.stop, kwargs={"drain": False})
    closing.start()
    with pytest.raises(Stopped):
        waiting.result(WAIT_SECONDS)
    engine.let_go.set()
    closing.join(WAIT_SECONDS)
    assert answers(running) == [2], "a batch in flight is not thrown away"


def test_a_lost_device_fails_every_call_and_blames_no_row(make: Make, engine: PretendedEngine) -> None:
    batcher = make(budget_tokens=2)
    engine.let_go.clear()
    futures = [batcher.submit(["lost", 1], [1, 1]), batcher.submit([2], [1])]
    engine.let_go.set()
    for future in futures:
        with pytest.raises(EngineBroken):
            future.result(WAIT_SECONDS)
    with pytest.raises(EngineBroken):
        batcher.submit([3], [1]).result(WAIT_SECONDS)


def test_an_engine_that_is_away_fails_the_calls_of_the_batch_and_goes_on_with_others(make: Make, engine: PretendedEngine) -> None:
    batcher = make(budget_tokens=3)
    engine.let_go.clear()
    first = batcher.submit([0], [1])
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    with_it = [batcher.submit(["away"], [1]), batcher.submit([2, 3], [1, 1])]
    engine.let_go.set()
    for future in with_it:
        with pytest.raises(EngineAway) as away:
            future.result(WAIT_SECONDS)
        assert away.value.seconds == 7.0
    assert answers(first) == [0]
    assert answers(batcher.submit([4], [1])) == [8]


def test_a_row_that_the_engine_refuses_fails_alone_by_its_code(make: Make) -> None:
    assert answers(make().submit([1, "refused", 3, 4], [1] * 4)) == [2, FailedRow("prompt_too_long"), 6, 8]


# Several tenants.


def test_a_few_rows_of_one_tenant_do_not_wait_behind_all_that_another_has_asked(make: Make, engine: PretendedEngine) -> None:
    batcher = make(budget_tokens=8)
    engine.let_go.clear()
    large = [batcher.submit(list(range(first, first + 80)), ones(range(80)), Ticket(tenant="large")) for first in (0, 80)]
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    small = batcher.submit([1000, 1001, 1002, 1003], ones(range(4)), Ticket(tenant="small"))
    engine.let_go.set()
    assert answers(small) == [2000, 2002, 2004, 2006]
    for future in large:
        assert len(answers(future)) == 80
    last = max(place for place, batch in enumerate(engine.batches) if any(row >= 1000 for row in batch))
    assert last <= 3, "after the batch that ran and the one that was ready"


def test_a_few_rows_of_one_job_do_not_wait_behind_all_that_another_of_the_tenant_has_in_flight(make: Make, engine: PretendedEngine) -> None:
    batcher = make(budget_tokens=8)
    engine.let_go.clear()
    large = [batcher.submit(list(range(first, first + 80)), ones(range(80)), Ticket(tenant="one", job=b"large")) for first in (0, 80)]
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    small = batcher.submit([1000, 1001, 1002], ones(range(3)), Ticket(tenant="one", job=b"small"))
    engine.let_go.set()
    assert answers(small) == [2000, 2002, 2004]
    for future in large:
        assert len(answers(future)) == 80
    last = max(place for place, batch in enumerate(engine.batches) if any(row >= 1000 for row in batch))
    assert last <= 3, "after the batch that ran and the one that was ready"


# Two classes of work.


def test_interactive_rows_make_up_the_next_batch_before_bulk_that_is_ready_and_waits(make: Make, engine: PretendedEngine) -> None:
    batcher = make(budget_tokens=4)
    engine.let_go.clear()
    bulk = batcher.submit(list(range(40)), ones(range(40)))
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    urgent = batcher.submit([100, 101], [1, 1], Ticket(interactive=True))
    engine.let_go.set()
    assert answers(urgent) == [200, 202]
    assert answers(bulk) == [2 * number for number in range(40)]
    assert engine.batches[1] == [100, 101], "no bulk row is between, and none with them"


def test_interactive_rows_of_concurrent_calls_share_a_batch(make: Make, engine: PretendedEngine) -> None:
    batcher = make(budget_tokens=8)
    engine.let_go.clear()
    batcher.submit(list(range(20)), ones(range(20)))
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    urgent = [batcher.submit([100 + number], [1], Ticket(interactive=True)) for number in range(5)]
    engine.let_go.set()
    assert [answers(future) for future in urgent] == [[200 + 2 * number] for number in range(5)]
    assert engine.batches[1] == [100, 101, 102, 103, 104]


def test_a_flood_of_interactive_rows_leaves_bulk_its_turn(make: Make, engine: PretendedEngine) -> None:
    batcher = make(budget_tokens=1)
    engine.let_go.clear()
    bulk = batcher.submit([0, 1, 2, 3], ones(range(4)))
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    urgent = batcher.submit(list(range(100, 130)), ones(range(30)), Ticket(interactive=True))
    engine.let_go.set()
    assert len(answers(bulk)) == 4
    answers(urgent)
    places = [place for place, batch in enumerate(engine.batches) if batch in ([0], [1], [2], [3])]
    assert places == [0, 1 + INTERACTIVE_IN_A_ROW, 2 + 2 * INTERACTIVE_IN_A_ROW, 3 + 3 * INTERACTIVE_IN_A_ROW]


def test_a_stopped_interactive_call_leaves_bulk_alone(make: Make, engine: PretendedEngine) -> None:
    batcher, stop = make(budget_tokens=2), threading.Event()
    engine.let_go.clear()
    bulk = batcher.submit(list(range(6)), ones(range(6)))
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    urgent = batcher.submit([100, 101, 102, 103], ones(range(4)), Ticket(stop, interactive=True))
    stop.set()
    engine.let_go.set()
    with pytest.raises(Stopped):
        urgent.result(WAIT_SECONDS)
    assert len(answers(bulk)) == 6


def test_a_drain_runs_both_classes(make: Make) -> None:
    batcher = make(lanes=2, budget_tokens=3)
    futures = [batcher.submit(list(range(20)), ones(range(20)), Ticket(interactive=interactive)) for interactive in (False, True, False)]
    batcher.stop(drain=True)
    assert [len(answers(future)) for future in futures] == [20, 20, 20]


def test_a_hard_stop_ends_the_calls_of_both_classes(make: Make, engine: PretendedEngine) -> None:
    batcher = make(budget_tokens=1)
    engine.let_go.clear()
    batcher.submit([1], [1])
    assert engine.entered.acquire(timeout=WAIT_SECONDS)
    waiting = [batcher.submit(list(range(9)), ones(range(9)), Ticket(interactive=interactive)) for interactive in (False, True)]
    closing = threading.Thread(target=batcher.stop, kwargs={"drain": False})
    closing.start()
    for future in waiting:
        with pytest.raises(Stopped):
            future.result(WAIT_SECONDS)
    engine.let_go.set()
    closing.join(WAIT_SECONDS)


def test_a_length_that_is_missing_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="one length for each row"):
        make().submit([1, 2], [1])


def test_a_fault_in_an_observer_ends_the_call_instead_of_leaving_it_waiting(make: Make) -> None:
    def observe(report: BatchReport) -> None:
        raise RuntimeError

    with pytest.raises(EngineBroken):
        make(observe=observe).submit([1], [1]).result(WAIT_SECONDS)
