"""The counters that the soak and the matrix share: whatever is wrong in the store, they say so."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import LiteralString

import msgspec
import numpy as np
import psycopg
import pytest
from sqlalchemy import make_url

from db.actors import Actor
from db.connect import Store
from db.jobs.steering import cancel_job, delete_job, retry_job
from db.queue import dispatch, endings
from db.queue.results import write_results
from db.queue.row import WorkRow
from db.queue.shards import claim_any, open_shard
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.faults.counters import NEVER, Calls, Counters, Load, count
from tests.faults.soak.breaking import left_of
from tests.faults.soak.checking import Checker
from tests.faults.soak.ledger import Ledger, Sent
from tests.faults.soak.watching import Overview
from tests.workers.submitting import LABELS, row, submit
from workers.engines.fake import digest_of, expected_label, read_calls


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
        dispatch.cut_validating_jobs(self.dispatcher, lambda _model, _task: 1_000_000)

    def work(self, *, wrong: int | None = None, failing: Collection[int] = (), until: int = len(TEXTS)) -> None:
        for lease in claim_any(self.worker, "host:1", 10):
            opened = open_shard(self.worker, lease)
            rows = [one.idx for one in opened[1] if one.idx < until]
            with self.log.open("a") as log:
                log.write(call(time.time(), *(TEXTS[at] for at in rows)))
            answers = [WorkRow(at, payload=_payload(at, wrong=at == wrong), input_tokens=3) for at in rows if at not in failing]
            answers += [WorkRow(at, code="engine_error") for at in rows if at in failing]
            write_results(self.worker, lease, answers, finish=until == len(TEXTS), model_version="fake", metrics=None)
        endings.finalize_jobs(self.dispatcher)

    def spoil(self, statement: LiteralString) -> None:
        with psycopg.connect(self.superuser_url) as conn:
            assert conn.execute(statement, {"job": self.job_id}).rowcount

    def left(self) -> int:
        with psycopg.connect(self.superuser_url) as conn:
            return left_of(conn, [self.job_id])

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


def test_what_is_left_of_a_deleted_job_is_found_wherever_it_lies(done: Done) -> None:
    done.work()
    assert done.left() > len(TEXTS) + 3  # with its settings, its shards and its key
    delete_job(done.api, done.actor, done.job_id)
    assert done.left() == 0


# What the soak does with a job that may run again.


def test_a_job_with_a_failure_is_kept_until_it_ran_again_and_is_gone_then(done: Done) -> None:
    ledger, one, said = Ledger(), Sent(Load(done.job_id, done.actor, TEXTS, {4: "engine_error"}), cancellable=True), list[str]()
    checker = Checker(done.api, ledger, Overview(done.dispatcher).states, said.append)
    ledger.add(one)
    done.work(failing={4})
    checker.look()
    assert (ledger.open(), ledger.retriable(0.5), checker.rows) == ([], [one], 0)
    assert ledger.take(done.job_id) == one
    retry_job(done.api, done.actor, done.job_id)
    ledger.put_back(replace(one, retried=True))
    checker.look()
    assert len(ledger.open()) == 1
    done.work(failing={4})
    checker.look()
    assert (ledger.open(), ledger.retriable(0.5), checker.rows, dict(checker.ended)) == ([], [], len(TEXTS), {"completed": 1})
    assert checker.counters(done.log, 0) == Counters(recomputed=1)
    assert (said, checker.kept) == ([], set())


def test_a_job_that_ran_again_and_does_not_end_completed_is_lost(done: Done) -> None:
    ledger, said = Ledger(), list[str]()
    ledger.add(Sent(Load(done.job_id, done.actor, TEXTS), cancellable=False, retried=True))
    cancel_job(done.api, done.actor, done.job_id)
    endings.cancel_shards(done.dispatcher)
    done.work()
    checker = Checker(done.api, ledger, Overview(done.dispatcher).states, said.append)
    checker.look()
    assert checker.counters(done.log, 0) == Counters(lost=len(TEXTS))
    assert checker.kept == {done.job_id}
    assert len(said) == 1
