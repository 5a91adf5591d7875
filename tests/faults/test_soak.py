"""The parts of a soak that need no stack."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from uuid import uuid4

import msgspec
import psycopg
import pytest

from db.actors import Actor
from db.errors import Conflict
from db.lifecycle import INTERACTIVE_PRIORITY, MAX_INTERACTIVE_ROWS
from tests.faults.counters import Counters, Load
from tests.faults.soak import patience, plan
from tests.faults.soak.ledger import MAX_ASIDE, Ledger, Sent
from tests.faults.soak.plan import Kind
from tests.faults.soak.reference import clear_labels
from tests.faults.soak.report import CLEAN, NOT_CLEAN, TOO_FEW, Report, as_markdown, on_the_terminal, write
from tests.faults.soak.watching import Progress
from workers.engines.fake import MARKS

# The plan.


def test_a_seed_gives_the_same_faults_and_jobs_and_another_one_others() -> None:
    first, again, other = ([*islice(plan.faults(seed), 50)] for seed in (7, 7, 8))
    assert first == again != other
    jobs_of = [[*islice(plan.jobs(seed), 50)] for seed in (7, 7, 8)]
    assert jobs_of[0] == jobs_of[1] != jobs_of[2]


def test_each_round_has_every_fault_once_in_an_order_of_its_own() -> None:
    given = [fault.kind for fault in islice(plan.faults(1), 2 * len(Kind))]
    first, second = given[: len(Kind)], given[len(Kind) :]
    assert set(first) == set(second) == set(Kind)
    assert first != second


def test_the_jobs_are_of_all_sizes_and_tenants_and_no_text_is_there_twice() -> None:
    made = [*islice(plan.jobs(3), 200)]
    assert {job.tenant for job in made} == set(range(plan.TENANTS))
    assert min(job.rows for job in made) == 1
    assert max(job.rows for job in made) > 10_000
    urgent = [job for job in made if job.priority]
    assert urgent
    assert all(job.priority == INTERACTIVE_PRIORITY and job.rows <= MAX_INTERACTIVE_ROWS for job in urgent)
    texts = [one for job in made[:40] for one in plan.texts_of(job)]
    assert len(texts) == len(set(texts))


def test_some_jobs_have_rows_that_must_fail_and_the_plan_says_which() -> None:
    made = [*islice(plan.jobs(3), 200)]
    spoilt = [job for job in made if job.spoilt]
    assert 30 <= len(spoilt) <= 100
    for job in made:
        marked = {at for at, one in enumerate(plan.texts_of(job)) if MARKS[plan.BAD_MARK] in one}
        assert plan.failures_of(job).keys() == marked
        assert bool(marked) == job.spoilt
    failing, rows = sum(len(plan.failures_of(job)) for job in spoilt), sum(job.rows for job in spoilt)
    assert rows / plan.BAD_EVERY <= failing <= rows / plan.BAD_EVERY + len(spoilt)


def test_twenty_minutes_are_a_million_rows_and_five_thousand_of_the_real_model() -> None:
    times = plan.schedule(20)
    assert times.rows == 1_000_000
    assert times.undisturbed_seconds - times.warm_up_seconds == 60, "a whole minute to compare with"
    assert times.real_rows >= 5_000
    assert times.undisturbed_seconds < times.faults_end < times.end == 1_200 < times.faults_end_latest < 1_800


def test_texts_are_cut_into_jobs_without_one_left_over() -> None:
    parts = plan.cut(1, 1_000, 12)
    assert len(parts) == 12
    assert [at for first, end in parts for at in range(first, end)] == list(range(1_000))


# What is seen meanwhile.


def test_a_fault_is_recovered_from_by_a_row_that_was_done_after_it() -> None:
    progress = Progress()
    progress.saw(0.0, 10)
    progress.saw(1.0, 20)
    progress.broke(Kind.KILL_WORKER, 1.1)
    progress.saw(1.2, 30)  # perhaps done before 1.1
    assert progress.recoveries == {}
    progress.saw(4.2, 30)
    progress.saw(5.1, 31)
    assert progress.recoveries == {Kind.KILL_WORKER: [pytest.approx(4.0)]}
    assert progress.longest_stall == pytest.approx(3.9)
    assert progress.rate(0.0, 1.2) == pytest.approx(20 / 1.2)


def test_rows_of_a_job_that_was_deleted_were_done_as_well() -> None:
    progress = Progress()
    for at, done in enumerate([0, 100, 40, 90]):  # 60 are gone
        progress.saw(float(at), done)
    assert progress.rate(0.0, 3.0) == pytest.approx(50.0)
    progress.broke(Kind.DELETE_JOB, 3.1)
    progress.saw(4.0, 20)
    progress.saw(5.0, 21)
    assert progress.recoveries == {Kind.DELETE_JOB: [pytest.approx(1.9)]}


# The ledger.


def sent(rows: int = 3, *, answers: list[str] | None = None) -> Sent:
    load = Load(uuid4(), Actor(uuid4(), uuid4(), None, frozenset()), ["x"] * rows, answers=answers)
    return Sent(load, cancellable=rows <= plan.SMALL_ROWS)


def test_a_job_is_in_the_hands_of_one_at_a_time() -> None:
    ledger, one = Ledger(), sent()
    ledger.add(one)
    assert ledger.take(one.load.job_id) == one
    assert ledger.take(one.load.job_id) is None
    assert (ledger.open(), ledger.deletable(0.5)) == ([], [])


def test_a_job_is_kept_to_run_again_once() -> None:
    ledger, one = Ledger(), sent()
    assert ledger.set_aside(one)
    assert (ledger.open(), ledger.retriable(0.5), ledger.deletable(0.5)) == ([], [one], [one])
    again = replace(one, retried=True)
    assert ledger.take(one.load.job_id) == one
    ledger.put_back(again)
    assert ledger.open() == [again]
    assert not ledger.set_aside(again)


def test_what_is_large_or_real_is_neither_run_again_nor_deleted() -> None:
    ledger, large, real = Ledger(), sent(plan.HANDY_ROWS + 1), sent(answers=["a", "b", "c"])
    for one in (large, real):
        assert not ledger.set_aside(one)
        ledger.add(one)
    assert ledger.deletable(0.5) == []
    assert len(ledger.pausable(0.5)) == 2


def test_of_more_than_are_kept_the_smallest_is_let_go() -> None:
    ledger, kept = Ledger(), [sent(rows) for rows in range(2, 2 + MAX_ASIDE)]
    assert all(ledger.set_aside(one) for one in kept)
    assert not ledger.set_aside(sent(2))
    assert ledger.set_aside(sent(100))
    assert ledger.open() == kept[:1]
    first_drawn = [len(ledger.retriable(at / 100)[0].load.texts) for at in range(100)]
    assert 50 <= first_drawn.count(100) < 100, "some two thirds of the rows are in it"


def test_what_was_kept_is_let_go_once_nothing_runs_again() -> None:
    ledger, one = Ledger(), sent()
    ledger.set_aside(one)
    ledger.end_retries()
    assert (ledger.open(), ledger.retriable(0.5)) == ([one], [])
    assert not ledger.set_aside(sent())


def test_what_is_refused_after_an_answer_was_lost_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.0)
    told: list[Exception] = [psycopg.OperationalError(), Conflict(code="cannot_retry", message="")]

    def act() -> None:
        raise told.pop(0)

    patience.patiently_once(act, Conflict)
    told.append(Conflict(code="cannot_retry", message=""))
    with pytest.raises(Conflict):
        patience.patiently_once(act, Conflict)


def test_a_label_that_hardly_won_is_not_compared() -> None:
    assert clear_labels([{"label": "a", "scores": {"a": 0.5, "b": 0.3}}, {"label": "b", "scores": {"a": 0.5, "b": 0.5001}}]) == ["a", None]


# The report.


def made(counters: Counters, *, rows: int = 2_000, went_on: bool = False, left: int = 0) -> Report:
    return Report(
        seed=42,
        asked_minutes=1,
        minutes=1.2,
        went_on=went_on,
        asked_rows=2_000,
        asked_real_rows=10,
        rows=rows,
        real_rows=12,
        ended={"completed": 5, "cancelled": 1},
        counters=counters,
        left_of_deleted=left,
        fenced=3,
        faults={Kind.KILL_WORKER: 2, Kind.FLUSH_QUEUE: 1},
        recoveries={Kind.KILL_WORKER: [0.5, 2.5]},
        longest_stall_seconds=2.6,
        undisturbed_rate=1_000.0,
        disturbed_rate=750.0,
        drain_seconds=9.0,
        drain_limit_seconds=240.0,
        starts=5,
        drain_codes={0: 1},
        unexpected_ends={},
        peak_disk_bytes=1_500_000_000,
        machine={"cpu": "a processor", "cores": 2},
    )


def test_the_report_tells_every_figure(tmp_path: Path) -> None:
    report = made(Counters(recomputed=17))
    assert report.exit_code == CLEAN
    for shown in (on_the_terminal(report), as_markdown(report)):
        for part in (
            "2,000",
            "17 (0.85%)",
            "750 (75%)",
            "1.5 s; 2.5 s",
            "9 s (limit 240 s)",
            "1.5 GB",
            "1 cancelled, 5 completed",
            "Clean",
        ):
            assert part in shown
        assert all(kind.value in shown for kind in Kind)
    assert "a processor" in as_markdown(report)
    write(tmp_path / "soak.json", report)
    written = msgspec.json.decode((tmp_path / "soak.json").read_bytes())
    assert (written["seed"], written["exit_code"], written["counters"]["recomputed"]) == (42, CLEAN, 17)
    assert written["recoveries"] == {Kind.KILL_WORKER.value: [0.5, 2.5]}
    assert (tmp_path / "soak.md").read_text() == as_markdown(report)


@pytest.mark.parametrize("name", ["lost", "doubled", "wrong", "unaudited", "miscounted"])
def test_anything_that_must_be_zero_and_is_not_fails_the_soak(name: str) -> None:
    report = made(Counters(**{name: 1}))
    assert report.exit_code == NOT_CLEAN
    assert f"NOT CLEAN: {name} 1" in on_the_terminal(report)


def test_a_row_that_a_deleted_job_left_fails_the_soak() -> None:
    report = made(Counters(), left=2)
    assert report.exit_code == NOT_CLEAN
    assert "NOT CLEAN: left of deleted jobs 2" in on_the_terminal(report)


def test_a_clean_soak_of_too_few_rows_says_so() -> None:
    report = made(Counters(), rows=1_999)
    assert report.exit_code == TOO_FEW
    assert "TOO FEW: 1,999 of 2,000 rows" in on_the_terminal(report)


def test_a_soak_that_went_on_until_the_rows_were_through_says_so() -> None:
    report = made(Counters(), went_on=True)
    assert report.exit_code == CLEAN
    assert "It took 1 minutes, not 1, until so many rows were through" in on_the_terminal(report)
