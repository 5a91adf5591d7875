"""When a job will be done: what is promised of a queue, against the queue itself."""

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.jobs.forecast import (
    MOST_SECONDS,
    ROUND_SECONDS,
    Live,
    Measured,
    Size,
    forecast,
    reach,
    seconds_until_done,
    tokens_of_answer,
    workers_with,
)
from tests.unit.db.jobs.queue_model import Job, Simulated

READS = Measured(worker_seconds=10, rows=100, chars=20_000, input_tokens=5_000)
WRITES = Measured(worker_seconds=60, rows=100, chars=20_000, input_tokens=5_000, output_tokens=3_000, limit_tokens=25_600)
SECONDS = st.floats(0.01, 1e5)
LIVE = st.lists(st.builds(Live, st.integers(0, 4), SECONDS, st.tuples(st.floats(-9, 9)), st.floats(0, 1), st.integers(1, 40)), max_size=12)


def until_done(own: float, live: list[Live], *, workers: int = 1, order: tuple[float, ...] = (0.0,), shards: int = 1_000) -> float:
    return seconds_until_done(Live(0, own, order, shards=shards), live, workers=workers)


def test_what_was_not_measured_is_not_forecast() -> None:
    assert forecast(None, Size(10, 100)) is None
    assert forecast(Measured(0.4, 5, 100), Size(10, 100)) is None, "half a second is start-up, and no speed"
    assert forecast(Measured(9.0, 0, 0), Size(10, 100)) is None


def test_what_is_read_goes_by_its_characters() -> None:
    taken = forecast(READS, Size(300, 40_000))
    assert taken is not None
    assert (taken.worker_seconds, taken.input_tokens, taken.output_tokens) == (pytest.approx(20), 10_000, 0)


def test_what_is_written_goes_by_its_tokens_more_than_by_what_is_read() -> None:
    """3,000 tokens and 20,000 characters (as 500 tokens) took 60 s."""
    same = forecast(WRITES, Size(100, 20_000, 256))
    twice_read, twice_written = forecast(WRITES, Size(100, 40_000, 256)), forecast(WRITES, Size(200, 20_000, 256))
    assert same is not None
    assert twice_read is not None
    assert twice_written is not None
    assert same.worker_seconds == pytest.approx(60)
    assert twice_read.worker_seconds == pytest.approx(60 * 4_000 / 3_500)
    assert (twice_written.worker_seconds, twice_written.output_tokens) == (pytest.approx(60 * 6_500 / 3_500), 6_000)


def test_an_answer_is_as_long_as_they_usually_are_but_no_longer_than_it_may_be() -> None:
    assert tokens_of_answer(WRITES, 256) == 30
    assert tokens_of_answer(WRITES, 10) == 10
    assert tokens_of_answer(WRITES, None) == 30


def test_where_limits_end_the_answers_another_limit_makes_other_answers() -> None:
    rambling = Measured(60, 100, 20_000, output_tokens=3_000, limit_tokens=3_100)
    assert tokens_of_answer(rambling, 310) == pytest.approx(300)
    assert tokens_of_answer(rambling, 16) == pytest.approx(16 * 30 / 31)


def test_alone_a_job_has_all_workers_as_far_as_it_has_shards_for_them() -> None:
    assert until_done(60, [], workers=4) == pytest.approx(15 + ROUND_SECONDS)
    assert until_done(60, [], workers=4, shards=2) == pytest.approx(30 + ROUND_SECONDS)
    assert until_done(60, [], workers=4, shards=1) == pytest.approx(60 + ROUND_SECONDS)


def test_own_jobs_before_it_come_first_and_those_behind_it_do_not_count() -> None:
    live = [Live(0, 30, (-1.0,), shards=500), Live(0, 500, (1.0,), shards=500)]
    assert until_done(60, live) == pytest.approx(90 + ROUND_SECONDS, rel=0.02)


def test_what_stands_behind_it_shares_a_worker_that_it_cannot_fill() -> None:
    assert until_done(10, [Live(0, 500, (1.0,), shards=500)], shards=1) == pytest.approx(40 + ROUND_SECONDS), "one shard of four"
    assert until_done(10, [Live(0, 500, (1.0,), shards=500)], shards=4) == pytest.approx(10 + ROUND_SECONDS)


def test_another_tenant_has_as_much_done_meanwhile_and_no_more_than_it_has() -> None:
    assert until_done(60, [Live(1, 10, shards=100), Live(2, 4_000, shards=900)]) == pytest.approx(60 + 10 + 60 + ROUND_SECONDS, rel=0.1)


def test_of_work_that_other_workers_do_only_a_part_is_waited_for() -> None:
    both, first, silent = frozenset({"a", "b"}), frozenset({"a"}), None
    assert reach([both, first], "b", "a") == 0.5
    assert reach([both, first, silent], None, "a") == 1
    assert reach([first], "a", "gone") == 0
    assert [workers_with([both, first, silent], model) for model in ("a", "b", None, "c")] == [3, 2, 3, 1]


@given(SECONDS, LIVE, st.integers(1, 8), st.integers(1, 50))
def test_it_is_never_sooner_than_alone_and_never_later_than_behind_all(own: float, live: list[Live], workers: int, shards: int) -> None:
    seconds = until_done(own, live, workers=workers, shards=shards)
    assert until_done(own, [], workers=workers, shards=shards) <= seconds * (1 + 1e-6)
    assert seconds <= ROUND_SECONDS + (own + sum(each.worker_seconds for each in live)) * (1 + 1e-6)


@given(SECONDS, st.lists(SECONDS, max_size=6))
def test_the_last_of_one_tenants_jobs_is_done_when_all_work_is(own: float, before: list[float]) -> None:
    live = [Live(0, seconds, (-1.0,), shards=8) for seconds in before]
    assert until_done(own, live) == pytest.approx(own + sum(before) + ROUND_SECONDS)


def test_of_a_thousand_jobs_before_it_the_sum_counts() -> None:
    live = [Live(number % 5, 2.0, (-1.0 - number,), shards=2) for number in range(1_000)]
    assert until_done(10, live) == pytest.approx((410 * 5 + ROUND_SECONDS), rel=0.05)


def test_a_number_that_no_clock_holds_becomes_one_that_it_does() -> None:
    assert until_done(1e300, []) == MOST_SECONDS


@pytest.mark.parametrize(("workers", "tenants", "apart"), [(1, 1, 0.5), (1, 2, 10.0), (1, 3, 40.0), (3, 1, 10.0), (3, 3, 40.0)])
def test_of_ten_mixed_jobs_half_are_done_within_a_quarter_of_what_was_promised(workers: int, tenants: int, apart: float) -> None:
    """Jobs of all sizes, handed in some seconds ``apart``; what a row truly takes is up to a fifth off what was measured. What nobody can
    know is in it: smaller jobs that come later and go first, tenants that begin."""
    errors = [error for seed in range(12) for error in errors_of_ten(random.Random(seed), workers, tenants, apart)]
    assert statistics.median(errors) <= 0.25


def errors_of_ten(drawn: random.Random, workers: int, tenants: int, apart: float) -> list[float]:
    queue, promised, handed_in_at = Simulated(workers), [], 0.0
    for _ in range(10):
        queue.run(until=handed_in_at)
        handed_in_at += drawn.uniform(0, 2 * apart)
        tenant, work = drawn.randrange(tenants), drawn.choice([4.0, 15.0, 60.0, 200.0])
        order, shards = (0.0, queue.now + work), 2 * int(work)
        live = [Live(each.tenant, queue.open_work(each), each.order, shards=len(each.shards) + 1) for each in queue.jobs]
        promised.append(seconds_until_done(Live(tenant, work, order, shards=shards), live, workers=workers))
        queue.add(Job(tenant, order, [work * drawn.uniform(0.8, 1.2) / shards] * shards, queue.now))
    queue.run()
    took = [job.done_at - job.made_at for job in queue.jobs]
    return [abs(told - truly) / truly for told, truly in zip(promised, took, strict=True)]
