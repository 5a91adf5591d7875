"""The parts of a soak that need no stack, and the counters that it and the matrix share: whatever is wrong in the store, they say so."""

import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import LiteralString

import msgspec
import numpy as np
import psycopg
import pytest
from sqlalchemy import make_url

from db import jobs
from db.actors import Actor
from db.connect import Store
from db.lifecycle import INTERACTIVE_PRIORITY, MAX_INTERACTIVE_ROWS
from db.results import COMPLETED, NewResult, write_results
from db.settings import Role, StoreSettings
from db.shards import claim_any, open_shard
from tests.conftest import Server
from tests.faults.counters import NEVER, Calls, Counters, Load, count
from tests.faults.soak import plan
from tests.faults.soak.plan import Kind
from tests.faults.soak.reference import clear_labels
from tests.faults.soak.report import CLEAN, NOT_CLEAN, TOO_FEW, Report, as_markdown, on_the_terminal, write
from tests.faults.soak.watching import Progress
from tests.workers.submitting import LABELS, row, submit
from workers.engines.fake import digest_of, expected_label, read_calls

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


def test_a_label_that_hardly_won_is_not_compared() -> None:
    assert clear_labels([{"label": "a", "scores": {"a": 0.5, "b": 0.3}}, {"label": "b", "scores": {"a": 0.5, "b": 0.5001}}]) == ["a", None]


# The report.


def made(counters: Counters, *, rows: int = 2_000, went_on: bool = False) -> Report:
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


def test_a_clean_soak_of_too_few_rows_says_so() -> None:
    report = made(Counters(), rows=1_999)
    assert report.exit_code == TOO_FEW
    assert "TOO FEW: 1,999 of 2,000 rows" in on_the_terminal(report)


def test_a_soak_that_went_on_until_the_rows_were_through_says_so() -> None:
    report = made(Counters(), went_on=True)
    assert report.exit_code == CLEAN
    assert "It took 1 minutes, not 1, until so many rows were through" in on_the_terminal(report)


# The counters.


def call(at: float, *texts: str) -> str:
    return f"{at:.6f} 12 {' '.join(map(digest_of, texts))}\n"


def test_calls_are_tallied_by_row_and_against_the_first_read(tmp_path: Path) -> None:
    log = tmp_path / "calls.log"
    log.write_text(call(1_700_000_010, "a", "b", "sport") + call(1_700_000_020, "b", "c") + call(1_700_000_030, "b"))
    calls = Calls()
    calls.add(["a", "b"], np.array([1_700_000_009.0, 1_700_000_011.0]))
    calls.add(["c", "d"], np.array([NEVER, NEVER]))
    assert calls.tally(log) == (2, 2), "b was computed three times, first before it was read; c was never read; d and sport do not count"
    assert Calls().tally(log) == (0, 0)
    assert calls.tally(tmp_path / "nothing") == (0, 0)


def test_a_call_is_found_behind_one_whose_line_was_cut_off_anywhere(tmp_path: Path) -> None:
    log, whole, next_call = tmp_path / "calls.log", call(1_700_000_010.5, "a", "b").strip(), call(1_700_000_020.25, "c", "d")
    for length in range(len(whole)):
        log.write_text(whole[:length] + next_call)
        found = list(read_calls(log))
        assert (found[-1].at, found[-1].digests) == (1_700_000_020.25, (digest_of("c"), digest_of("d"))), length
        assert all(set(one.digests) <= {digest_of("a"), digest_of("b")} for one in found[:-1])


TEXTS = [f"text {at}" for at in range(20)]


class Done:
    """A job of which every row was answered, and its log: what a test then spoils must be counted."""

    def __init__(self, stores: Callable[[Role], Store], actor: Actor, folder: Path, superuser_url: str) -> None:
        self.api, self.worker, self.dispatcher = (stores(role) for role in (Role.API, Role.WORKER, Role.DISPATCHER))
        self.superuser_url = superuser_url
        self.actor = actor
        self.log = folder / "calls.log"
        self.job_id = submit(self.api, actor, [row(at, {"input": one}) for at, one in enumerate(TEXTS)])
        jobs.cut_validating_jobs(self.dispatcher, lambda _model, _task: 1_000_000)

    def work(self, *, wrong: int | None = None, until: int = len(TEXTS)) -> None:
        for lease in claim_any(self.worker, "host:1", 10):
            opened = open_shard(self.worker, lease)
            rows = [one.idx for one in opened.rows if one.idx < until]
            with self.log.open("a") as log:
                log.write(call(time.time(), *(TEXTS[at] for at in rows)))
            answers = [NewResult(at, COMPLETED, None, _payload(at, wrong=at == wrong), 3, 0) for at in rows]
            write_results(self.worker, lease, answers, finish=until == len(TEXTS), model_version="fake", metrics=None)
        jobs.finalize_jobs(self.dispatcher)

    def spoil(self, statement: LiteralString) -> None:
        with psycopg.connect(self.superuser_url) as conn:
            assert conn.execute(statement, {"job": self.job_id}).rowcount

    def count(self, failures: Mapping[int, str] | None = None) -> Counters:
        return count(self.api, [Load(self.job_id, self.actor, TEXTS, failures or {})], self.log)


def _payload(at: int, *, wrong: bool) -> bytes:
    right = expected_label(TEXTS[at], LABELS, ["{}"])
    return msgspec.json.encode({"label": next(label for label in LABELS if (label == right) != wrong)})


@pytest.fixture
def done(server: Server, settings: StoreSettings, stores: Callable[[Role], Store], tenant: Actor, tmp_path: Path) -> Done:
    database = make_url(str(settings.database_url)).database
    assert database is not None
    return Done(stores, tenant, tmp_path, server.postgres.superuser_url(database).render_as_string(hide_password=False))


def test_a_job_in_which_all_is_well_counts_nothing(done: Done) -> None:
    done.work()
    assert done.count() == Counters()


def test_another_answer_than_the_texts_is_wrong(done: Done) -> None:
    done.work(wrong=7)
    assert done.count() == Counters(wrong=1)


def test_a_row_whose_result_is_gone_is_lost_and_the_counts_do_not_fit(done: Done) -> None:
    done.work()
    done.spoil("DELETE FROM results WHERE job_id = %(job)s AND idx = 3")
    assert done.count() == Counters(lost=1, miscounted=1 + 3)


def test_a_job_that_has_not_ended_is_lost_whole(done: Done) -> None:
    done.work(until=5)
    assert done.count() == Counters(lost=len(TEXTS))


def test_counts_that_are_not_those_of_the_results_are_miscounted(done: Done) -> None:
    done.work()
    done.spoil("UPDATE jobs SET completed_count = completed_count - 1, input_tokens = input_tokens + 5 WHERE job_id = %(job)s")
    assert done.count() == Counters(miscounted=6)


def test_a_call_that_no_event_covers_is_unaudited(done: Done) -> None:
    done.work()
    done.log.write_text(call(time.time() - 3_600, TEXTS[0]) + done.log.read_text())
    assert done.count() == Counters(unaudited=1, recomputed=1)


def test_an_answer_of_a_real_model_is_compared_with_what_it_had_said_and_must_have_been_read(done: Done) -> None:
    done.work()
    said = [expected_label(one, LABELS, ["{}"]) for one in TEXTS]
    load = Load(done.job_id, done.actor, TEXTS, answers=said)
    assert count(done.api, [load], done.log) == Counters()
    said[4] = "another"
    assert count(done.api, [load], done.log) == Counters(wrong=1)
    done.spoil("DELETE FROM audit_events WHERE job_id = %(job)s AND action = 'rows.read'")
    assert count(done.api, [load], done.log) == Counters(wrong=1, unaudited=len(TEXTS))


def test_a_failure_that_was_expected_is_none_and_another_code_is(done: Done) -> None:
    done.work()
    done.spoil(
        "UPDATE results SET outcome = 2, code = 'crashed_worker', payload_sealed = NULL, input_tokens = 0"
        " WHERE job_id = %(job)s AND idx = 2"
    )
    assert done.count({2: "crashed_worker"}).wrong == 0
    assert done.count({2: "engine_error"}).wrong == 1
    assert done.count().wrong == 1


def test_a_row_that_should_have_failed_and_did_not_is_wrong(done: Done) -> None:
    done.work()
    assert done.count({1: "crashed_worker"}).wrong == 1


def test_a_second_result_of_a_row_is_doubled(done: Done) -> None:
    done.work()
    done.spoil("ALTER TABLE results DROP CONSTRAINT results_pkey")
    done.spoil("INSERT INTO results SELECT * FROM results WHERE job_id = %(job)s AND idx = 3")
    assert done.count() == Counters(doubled=1, miscounted=1 + 3)
