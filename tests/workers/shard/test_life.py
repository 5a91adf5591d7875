"""The life of a shard on a real store, with the deterministic engine."""

import gc
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from psycopg.errors import DiskFull
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from db.actors import Actor, Lease
from db.catalogue import heads, label_sets
from db.connect import Store
from db.errors import BudgetSpent, LeaseLost
from db.files.rows import NewRow
from db.jobs import jobs
from db.jobs.results import ResultLine, iter_results
from db.jobs.steering import cancel_job
from db.lifecycle import INTERACTIVE_PRIORITY
from db.operators.speeds import recent_speeds
from db.queue import dispatch, endings, results, shards
from db.queue.row import WorkRow
from db.schema import results as results_table
from db.schema import shards as shards_table
from db.sealing.keys import KeyRing, LocalKeyFile
from db.settings import Role
from tests.db.conftest import AsSuperuser
from tests.looking import on_record
from tests.waiting import wait_until
from tests.workers.submitting import LABELS, row, submit
from workers.batches.batcher import Batcher
from workers.batches.outcomes import EngineAway, Stopped
from workers.claims.lease import Held, LeaseKeeper
from workers.engines.fake import FAKE_SLOTS, MARKS, FakeSlots, expected_label, expected_text, read_calls
from workers.host.watchdog import Watchdog
from workers.inference import runtime
from workers.inference.continuous import ContinuousBatcher
from workers.inference.runtime import Runtime
from workers.settings import WorkerSettings
from workers.shard import life
from workers.shard.life import End, ShardLife
from workers.stages import STAGES, metric_of
from workers.tasks import TASKS
from workers.tasks.task import Group, Ran, Work

CLASSIFY = TASKS["classify"]
Stores = Callable[[Role], Store]


class Bench:
    """One worker's parts, without its process."""

    def __init__(self, stores: Stores, actor: Actor, settings: WorkerSettings) -> None:
        self.api, self.worker, self.dispatcher = stores(Role.API), stores(Role.WORKER), stores(Role.DISPATCHER)
        self.actor = actor
        self.settings = settings
        self.draining = False
        self.keeper = LeaseKeeper(self.worker, lease_seconds=30, heartbeat_seconds=5, margin_seconds=5)
        self.runtime = Runtime(settings)
        self.task = ShardLife(self.worker, self.runtime, self.keeper, Watchdog(1800).watch, settings, lambda: self.draining)

    def submit(self, new_rows: Sequence[NewRow], **job: Any) -> UUID:
        job_id = submit(self.api, self.actor, new_rows, **job)
        dispatch.cut_validating_jobs(self.dispatcher, lambda _model, _task: 10**9)
        return job_id

    def run(self) -> End:
        claimed_at = self.keeper.now()
        (lease,) = shards.claim_any(self.worker, "test:1", limit=1)
        return self.task.run(lease, claimed_at)

    def answers(self, job_id: UUID) -> list[ResultLine]:
        return sorted(iter_results(self.api, self.actor, job_id, which="output"), key=lambda line: line.idx)

    def failures(self, job_id: UUID) -> dict[int, str | None]:
        return {line.idx: line.code for line in iter_results(self.api, self.actor, job_id, which="errors")}

    def shard(self, job_id: UUID) -> Any:
        with self.api.transaction(tenant=self.actor.tenant_id) as connection:
            return connection.execute(select(shards_table).where(shards_table.c.job_id == job_id)).one()

    def stored(self, job_id: UUID) -> set[int]:
        with on_record(self.api, self.actor.tenant_id) as connection:
            return set(connection.execute(select(results_table.c.idx).where(results_table.c.job_id == job_id)).scalars())


B = TypeVar("B", bound=Bench)


def at_work(kind: type[B], stores: Stores, tenant: Actor, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[B]:
    """For a fixture: one that is closed after the test."""
    monkeypatch.setenv("TEXTMILL_FAKE_ENGINE", "1")
    made = kind(stores, tenant, WorkerSettings(home=home, device="cpu"))
    yield made
    made.runtime.close(drain=False)


@pytest.fixture
def bench(stores: Stores, tenant: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from at_work(Bench, stores, tenant, tmp_path, monkeypatch)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is in a cycle stays."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("task", ["classify", "generate"])
@pytest.mark.parametrize("first", [True, False])
def test_rows_of_a_model_that_is_away_keep_no_other_models_rows_waiting(
    task: str, first: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    using = Runtime.using

    def away(own: Runtime, model: str) -> Any:
        if not model.startswith("fake"):
            raise EngineAway(60.0)
        return using(own, model)

    monkeypatch.setattr(Runtime, "using", away)
    gone, here = ("minilm-l6-v2", "fake-encoder") if task == "classify" else ("gemma3-270m", "fake-decoder")
    body = {"input": "x"} if task == "classify" else {"messages": [{"role": "user", "content": "x"}]}
    rows = [row(at, {**body, "model": gone if (at < 3) == first else here}) for at in range(6)]
    job = {"defaults": {"labels": LABELS}} if task == "classify" else {"task": "generate"}
    job_id = bench.submit(rows, **job)
    assert bench.run() is End.AWAY
    assert bench.stored(job_id) == ({3, 4, 5} if first else {0, 1, 2})
    monkeypatch.setattr(Runtime, "using", using)
    shard = bench.shard(job_id)
    assert (shard.state, shard.error_attempts, shard.crash_attempts) == ("ready", 0, 0)


def body_of(line: ResultLine) -> Any:
    return json.loads(line.payload or b"null")


def test_every_row_gets_the_answer_to_its_text(bench: Bench) -> None:
    documents = [f"document {at}" for at in range(50)]
    job_id = bench.submit([row(at, {"input": text}) for at, text in enumerate(documents)])
    assert bench.run() is End.DONE
    answers = bench.answers(job_id)
    assert [body_of(line)["label"] for line in answers] == [expected_label(text, LABELS, ["{}"]) for text in documents]
    assert {line.model_version for line in answers} == {"fake-encoder@1"}
    assert bench.shard(job_id).state == "done"
    assert bench.shard(job_id).metrics["batches"] > 0
    endings.finalize_jobs(bench.dispatcher)
    assert jobs.get_job(bench.api, bench.actor, job_id).state == "completed"
    assert recent_speeds(bench.dispatcher) == {}, "too short a job says nothing about speed"


@pytest.mark.parametrize(("priority", "interactive"), [(INTERACTIVE_PRIORITY, True), (INTERACTIVE_PRIORITY - 1, False)])
@pytest.mark.parametrize("task", ["classify", "embed", "generate"])
def test_rows_are_handed_to_the_model_as_their_tenants_and_as_interactive_where_their_job_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, task: str, priority: int, interactive: bool
) -> None:
    handed: list[tuple[bool, object]] = []
    lanes = ContinuousBatcher if task == "generate" else Batcher
    submit_rows: Any = lanes.submit

    def spy(*arguments: Any) -> Any:
        handed.append((arguments[-1].interactive, arguments[-1].tenant))
        return submit_rows(*arguments)

    monkeypatch.setattr(lanes, "submit", spy)
    body = {"messages": [{"role": "user", "content": "x"}]} if task == "generate" else {"input": "x"}
    job_id = bench.submit([row(0, body)], task=task, priority=priority)
    assert bench.run() is End.DONE
    assert len(bench.answers(job_id)) == 1
    assert set(handed) == {(interactive, bench.actor.tenant_id)}


def test_the_time_to_load_a_model_is_no_part_of_its_speed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    load = runtime.load_encoder

    def slow(*args: Any) -> Any:
        time.sleep(1.0)
        return load(*args)

    monkeypatch.setattr("workers.inference.runtime.load_encoder", slow)
    job_id = bench.submit([row(0, {"input": "x"})])
    assert bench.run() is End.DONE
    assert bench.shard(job_id).metrics["seconds"] < 1.0


def test_what_shards_took_becomes_the_speed_that_later_jobs_are_cut_by(bench: Bench) -> None:
    job_id = bench.submit([row(0, {"input": "x" * 93})])
    (lease,) = shards.claim_any(bench.worker, "test:1", limit=1)
    done = [WorkRow(0, payload=b"{}")]
    results.write_results(bench.worker, lease, done, finish=True, model_version="", metrics={"chars": 5000.0, "seconds": 10.0})
    endings.finalize_jobs(bench.dispatcher)
    assert jobs.get_job(bench.api, bench.actor, job_id).state == "completed"
    assert recent_speeds(bench.dispatcher) == {("classify", "fake-encoder"): 500.0}


def test_bad_rows_fail_with_their_code_and_their_neighbours_go_on(bench: Bench) -> None:
    job_id = bench.submit(
        [
            row(0, {"input": "fine"}),
            row(1, b"not json"),
            row(2, {"input": ""}),
            row(3, None, defect="invalid_utf8"),
            row(4, {"input": "x", "model": "no-such-model"}),
            row(5, {"input": "x", "model": "fake-decoder"}),
            row(6, {"input": "x", "label_set": "no such set"}),
            row(7, {"input": "x", "model": "head:no such head"}),
            row(8, {"input": "x"}, endpoint="/v1/embeddings"),
            row(9, {"input": "x" * 5000, "on_long": "refuse"}),
            row(10, {"input": MARKS["nan"]}),
            row(11, {"input": MARKS["memory"]}),
            row(12, {"input": MARKS["error"]}),
            row(13, {"input": "x", "labels": ["only one"]}),
            row(14, {"input": "also fine"}),
        ]
    )
    assert bench.run() is End.DONE
    assert [line.idx for line in bench.answers(job_id)] == [0, 14]
    assert bench.failures(job_id) == {
        1: "invalid_json",
        2: "empty_input:input",
        3: "invalid_utf8",
        4: "unknown_model",
        5: "invalid_field:templates:left out with a decoder, which reads `descriptions`",
        6: "unknown_label_set",
        7: "unknown_model",
        8: "url_mismatch",
        9: "input_too_long",
        10: "non_finite_output",
        11: "out_of_memory",
        12: "engine_error",
        13: "too_few_labels",
    }
    assert bench.shard(job_id).failed_count == 13


def test_a_text_longer_than_the_model_is_cut_and_says_so(bench: Bench) -> None:
    job_id = bench.submit([row(0, {"input": "x" * 5000}), row(1, {"input": "x"})])
    bench.run()
    assert [body_of(line)["truncated"] for line in bench.answers(job_id)] == [True, False]


def test_labels_may_come_from_a_set_with_a_name(bench: Bench) -> None:
    label_sets.put_label_set(bench.api, bench.actor, "desks", ["north", "south"], ["{}"])
    job_id = bench.submit([row(0, {"input": "x"})], defaults={"label_set": "desks"})
    assert bench.run() is End.DONE
    assert set(body_of(bench.answers(job_id)[0])["scores"]) == {"north", "south"}


def test_defaults_that_fit_no_row_fail_every_row(bench: Bench) -> None:
    job_id = bench.submit([row(0, {"input": "x"}), row(1, {"input": "y"})], defaults={"labels": ["one"]})
    assert bench.run() is End.DONE
    assert bench.failures(job_id) == {0: "too_few_labels", 1: "too_few_labels"}


def test_a_chat_row_is_answered_by_the_decoder(bench: Bench) -> None:
    job_id = bench.submit(
        [row(0, {"messages": [{"role": "user", "content": "hello"}]}), row(1, {"messages": [{"role": "user", "content": MARKS["empty"]}]})],
        task="generate",
    )
    assert bench.run() is End.DONE
    body = body_of(bench.answers(job_id)[0])
    assert body["choices"][0]["message"]["content"] == expected_text("hello")
    assert body["usage"]["completion_tokens"] > 0
    assert bench.failures(job_id) == {1: "empty_generation"}


def test_an_embedding_row_is_answered_with_a_vector(bench: Bench) -> None:
    job_id = bench.submit([row(0, {"input": "hello"}), row(1, {"input": MARKS["nan"]})], task="embed")
    assert bench.run() is End.DONE
    assert len(body_of(bench.answers(job_id)[0])["data"][0]["embedding"]) == 32
    assert bench.failures(job_id) == {1: "non_finite_output"}


def train(bench: Bench, examples: Sequence[tuple[str, str]], name: str = "desk") -> UUID:
    new_rows = [row(at, {"input": text, "label": label}) for at, (text, label) in enumerate(examples)]
    return bench.submit(new_rows, task="train", head_id=uuid4(), head_name=name)


def test_a_head_is_trained_stored_and_used(bench: Bench) -> None:
    examples = [(f"document {at}", "even" if at % 2 == 0 else "odd") for at in range(20)]
    job_id = train(bench, examples)
    assert bench.run() is End.DONE
    assert body_of(bench.answers(job_id)[0])["label_count"] == 2
    (head,) = heads.list_heads(bench.api, bench.actor)
    assert head.name == "desk"
    using = bench.submit([row(0, {"input": "document 4"})], defaults={}, model="head:desk")
    assert bench.run() is End.DONE
    assert bench.failures(using) == {}
    (line,) = bench.answers(using)
    assert set(body_of(line)["scores"]) == {"even", "odd"}
    assert body_of(line)["model"] == "head:desk"
    assert line.model_version is not None
    assert "+head@" in line.model_version


def test_too_few_examples_fail_every_row_and_the_job_goes_on_to_its_end(bench: Bench) -> None:
    job_id = train(bench, [("a", "one"), ("b", "one")])
    assert bench.run() is End.DONE
    assert set(bench.failures(job_id).values()) == {"too_few_labels"}
    assert bench.shard(job_id).state == "done"
    assert heads.list_heads(bench.api, bench.actor) == []


def test_an_example_of_a_rare_label_fails_and_the_head_is_made_of_the_others(bench: Bench) -> None:
    job_id = train(bench, [*((f"document {at}", "even" if at % 2 == 0 else "odd") for at in range(20)), ("alone", "rare")])
    assert bench.run() is End.DONE
    assert bench.failures(job_id) == {20: "rare_label"}
    assert body_of(bench.answers(job_id)[0])["example_count"] == 20
    (head,) = heads.list_heads(bench.api, bench.actor)
    assert (head.card["labels"], head.card["left_out"]) == (["even", "odd"], {"rare": 1})


def test_a_head_that_would_be_too_large_is_refused_before_any_text_is_embedded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.training.head.MOST_NUMBERS", 4_000)
    job_id = train(bench, [(f"document {at}", "even" if at % 2 == 0 else "odd") for at in range(20)])
    assert bench.run() is End.DONE
    assert set(bench.failures(job_id).values()) == {"too_large_head"}


@pytest.mark.parametrize(("how", "end"), [("draining", End.DRAINED), ("paused", End.PAUSED), ("cancelled", End.CANCELLED)])
def test_a_training_that_must_be_let_go_is_not_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str, end: End) -> None:
    """Claimed just before the slots close: a training may take many minutes, and cannot be cut."""
    begun: list[object] = []
    monkeypatch.setattr(TASKS["train"], "run", lambda *args: begun.append(args))
    job_id = train(bench, [(f"document {at}", "even" if at % 2 == 0 else "odd") for at in range(20)])
    hold = bench.keeper.hold

    def hold_and_let_go(lease: Lease, claimed_at: float) -> Held:
        held = hold(lease, claimed_at)
        bench.draining = how == "draining"
        held.paused = how == "paused"
        if how == "cancelled":
            held.end("cancelled")
        return held

    monkeypatch.setattr(bench.keeper, "hold", hold_and_let_go)
    assert bench.run() is end
    assert begun == []
    shard = bench.shard(job_id)
    assert (shard.state, shard.error_attempts, shard.crash_attempts) == ("ready", 0, 0)


def test_a_lease_that_somebody_took_stores_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit([row(0, {"input": "x"})])
    classify = CLASSIFY.run

    def classify_while_the_lease_goes(*args: Any, **kwargs: Any) -> Any:
        with bench.dispatcher.transaction() as connection:
            connection.execute(update(shards_table).where(shards_table.c.job_id == job_id).values(epoch=shards_table.c.epoch + 1))
        return classify(*args, **kwargs)

    monkeypatch.setattr(CLASSIFY, "run", classify_while_the_lease_goes)
    assert bench.run() is End.LOST
    assert bench.stored(job_id) == set()


def in_small_chunks(bench: Bench, monkeypatch: pytest.MonkeyPatch, after_first: Callable[[], None]) -> None:
    """Ten rows a chunk; ``after_first`` happens before the first one's answers are there, and before the second one's rows can run."""
    monkeypatch.setattr("workers.shard.pace.Pace.take", lambda _self, sizes: min(10, len(sizes)))
    classify = CLASSIFY.run
    first_over = threading.Event()

    def classify_in_turn(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
        first = rows[0].ask.input == "x 0"
        if not first:
            assert first_over.wait(30)
        ran = classify(work, group, rows)
        if first:
            after_first()
            first_over.set()
        return ran

    monkeypatch.setattr(CLASSIFY, "run", classify_in_turn)


def test_a_drain_writes_what_is_done_and_gives_the_shard_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit([row(at, {"input": f"x {at}"}) for at in range(30)])

    def begin_to_drain() -> None:
        bench.draining = True

    in_small_chunks(bench, monkeypatch, begin_to_drain)
    assert bench.run() is End.DRAINED
    assert bench.stored(job_id) in (set(range(10)), set(range(20))), "what was in flight is finished and written, and no more begun"
    shard = bench.shard(job_id)
    assert (shard.state, shard.crash_attempts, shard.error_attempts) == ("ready", 0, 0)
    bench.draining = False
    assert bench.run() is End.DONE
    assert bench.stored(job_id) == set(range(30))


def test_a_cancelled_shard_keeps_what_is_done(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit([row(at, {"input": f"x {at}"}) for at in range(30)])

    def cancel() -> None:
        cancel_job(bench.api, bench.actor, job_id)
        bench.keeper.renew_once()

    in_small_chunks(bench, monkeypatch, cancel)
    assert bench.run() is End.CANCELLED
    assert bench.stored(job_id) == set(range(10))
    endings.cancel_shards(bench.dispatcher)
    endings.finalize_jobs(bench.dispatcher)
    assert jobs.get_job(bench.api, bench.actor, job_id).state == "cancelled"


def test_a_worker_that_fails_gives_the_shard_back_with_a_code(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit([row(0, {"input": "x"})])

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("something with content in it")

    monkeypatch.setattr(CLASSIFY, "run", fail)
    assert bench.run() is End.RELEASED
    shard = bench.shard(job_id)
    assert (shard.state, shard.error_attempts, shard.last_error) == ("ready", 1, "engine_error")


def test_a_failure_is_logged_by_type_and_place_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.submit([row(0, {"input": "x"})])
    monkeypatch.setattr(CLASSIFY, "run", lambda *_, **__: 1 / 0)
    bench.run()
    assert "ZeroDivisionError" in caplog.text
    assert "division by zero" not in caplog.text


def test_a_write_that_fails_for_a_moment_is_tried_again_and_nothing_is_computed_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.submit([row(0, {"input": "x"})])
    write, fails = results.write_results, [1, 1]

    def write_at_the_third_attempt(*args: Any, **kwargs: Any) -> Any:
        if fails:
            fails.pop()
            raise OperationalError("", {}, Exception())
        return write(*args, **kwargs)

    monkeypatch.setattr(results, "write_results", write_at_the_third_attempt)
    assert bench.run() is End.DONE
    assert bench.stored(job_id) == {0}


def test_a_write_is_tried_for_as_long_as_the_store_is_in_trouble_and_the_lease_lasts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit([row(0, {"input": "x"})])
    write, refusals = results.write_results, iter(range(4 * life.WRITE_ATTEMPTS))

    def write_at_last(*args: Any, **kwargs: Any) -> Any:
        if next(refusals, None) is not None:
            raise OperationalError("", {}, DiskFull())
        return write(*args, **kwargs)

    monkeypatch.setattr(results, "write_results", write_at_last)
    monkeypatch.setattr(life, "time", SimpleNamespace(**{**vars(time), "sleep": lambda _seconds: None}))
    assert bench.run() is End.DONE
    assert bench.stored(job_id) == {0}


def test_trouble_of_the_store_costs_a_shard_no_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit([row(0, {"input": "x"})])

    def refuse(*_: Any, **__: Any) -> Any:
        raise OperationalError("", {}, DiskFull())

    monkeypatch.setattr(shards, "open_shard", refuse)
    monkeypatch.setattr(life, "STORE_PAUSE_SECONDS", 0.0)
    assert bench.run() is End.RELEASED
    shard = bench.shard(job_id)
    assert (shard.state, shard.error_attempts, shard.crash_attempts) == ("ready", 0, 0)


def test_a_shard_whose_job_has_spent_its_budget_is_given_back_and_not_offered_again_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = bench.submit([row(0, {"input": "x"})])

    def refuse(*_: Any, **__: Any) -> Any:
        raise BudgetSpent

    monkeypatch.setattr(results, "write_results", refuse)
    assert bench.run() is End.OVER_BUDGET
    assert untouched(bench, job_id)
    assert shards.claim_any(bench.worker, "test:2") == []


def untouched(bench: Bench, job_id: UUID) -> bool:
    shard = bench.shard(job_id)
    return (shard.state, shard.error_attempts, shard.crash_attempts, shard.failed_count) == ("ready", 0, 0, 0)


def test_a_worker_with_another_key_file_costs_a_shard_no_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One such worker failed fifty rows of fifty, as if their model had."""
    job_id = bench.submit([row(0, {"input": "x"})])
    monkeypatch.setattr(life, "STORE_PAUSE_SECONDS", 0.0)
    ours, bench.worker.keyring = bench.worker.keyring, KeyRing(LocalKeyFile("another", bytes(32)))
    for _ in range(5):  # more than a shard's attempts
        assert bench.run() is End.RELEASED
        assert untouched(bench, job_id)
    bench.worker.keyring = ours
    assert bench.run() is End.DONE


@pytest.mark.parametrize("table", ["audit_events", "audit_unsealed", "audit_digests"])
def test_a_record_that_cannot_be_written_costs_a_shard_no_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, as_superuser: AsSuperuser, table: str
) -> None:
    job_id = bench.submit([row(0, {"input": "x"})])
    monkeypatch.setattr(life, "STORE_PAUSE_SECONDS", 0.0)
    as_superuser(f"REVOKE INSERT ON {table} FROM textmill_worker")
    for _ in range(5):  # more than a shard's attempts
        assert bench.run() is End.RELEASED
        assert untouched(bench, job_id)
    as_superuser(f"GRANT INSERT ON {table} TO textmill_worker")
    assert bench.run() is End.DONE


def test_a_shard_tells_where_its_time_went(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit([row(at, {"input": f"x {at}"}) for at in range(30)])
    in_small_chunks(bench, monkeypatch, lambda: None)
    assert bench.run() is End.DONE
    told = bench.shard(job_id).metrics
    assert all(told[metric_of(stage)] > 0 for stage in STAGES if stage != "queue")
    assert told["queue_seconds"] >= 0
    assert told["lane_seconds"] == pytest.approx(told["held_seconds"] * bench.runtime.encoder("fake-encoder").batcher.lanes)
    assert told["model_seconds"] <= told["lane_seconds"], "lanes were not busier than the clock allows"


def test_rows_that_no_model_saw_tell_of_no_lanes(bench: Bench) -> None:
    job_id = bench.submit([row(0, b"not json"), row(1, {"input": ""})])
    assert bench.run() is End.DONE
    assert bench.shard(job_id).metrics is None


@pytest.fixture
def slow_rows(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Rows whose prompt says so stay in their slots until it is set; all others end in one step."""
    may_end = threading.Event()
    step = FakeSlots.step

    def held(self: FakeSlots) -> Any:
        slow = [row for row in self._rows if b"slow" in row.ids.astype("uint8").tobytes() and not may_end.wait(0.01)]
        self._rows = [row for row in self._rows if row not in slow]
        ended = step(self) if self._rows else []
        self._rows += slow
        return ended

    monkeypatch.setattr(FakeSlots, "step", held)
    return may_end


def prompts(*texts: str) -> list[NewRow]:
    return [row(at, {"messages": [{"role": "user", "content": text}]}) for at, text in enumerate(texts)]


def test_rows_of_a_generation_are_stored_as_they_end(
    stores: Stores, tenant: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_rows: threading.Event
) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_ENGINE", "1")
    bench = Bench(stores, tenant, WorkerSettings(home=tmp_path, device="cpu", lanes=1, chunk_seconds=0.05))
    job_id = bench.submit(prompts("slow", *(f"prompt {at}" for at in range(2 * FAKE_SLOTS))), task="generate")
    with ThreadPoolExecutor(1) as threads:
        ending = threads.submit(bench.run)
        wait_until(lambda: len(bench.stored(job_id)) == 2 * FAKE_SLOTS)
        assert 0 not in bench.stored(job_id)
        assert bench.shard(job_id).state == "leased"
        slow_rows.set()
        assert ending.result(20) is End.DONE
    assert [body_of(line)["choices"][0]["finish_reason"] for line in bench.answers(job_id)] == ["stop"] * (2 * FAKE_SLOTS + 1)
    bench.runtime.close()


def test_a_drain_lets_rows_end_that_have_begun_and_gives_the_others_back(
    stores: Stores, tenant: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_rows: threading.Event
) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_ENGINE", "1")
    monkeypatch.setenv("TEXTMILL_FAKE_LOG", str(tmp_path / "calls"))
    bench = Bench(stores, tenant, WorkerSettings(home=tmp_path, device="cpu", lanes=1, chunk_seconds=0.05))
    job_id = bench.submit(prompts("first", *["slow"] * FAKE_SLOTS, "never begun", "nor this"), task="generate")
    with ThreadPoolExecutor(1) as threads:
        ending = threads.submit(bench.run)
        wait_until(lambda: bench.stored(job_id) == {0})
        bench.draining = True
        wait_until(lambda: not any(bench.runtime.decoder("fake-decoder").batcher._waiting.values()))
        slow_rows.set()
        assert ending.result(20) is End.DRAINED
    assert bench.stored(job_id) == set(range(FAKE_SLOTS + 1))
    assert sum(len(call.digests) for call in read_calls(tmp_path / "calls")) == FAKE_SLOTS + 1
    bench.draining = False
    assert bench.run() is End.DONE
    assert len(bench.answers(job_id)) == FAKE_SLOTS + 3
    bench.runtime.close()


def test_the_next_chunk_is_with_the_model_before_the_last_one_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit([row(at, {"input": f"x {at}"}) for at in range(30)])
    in_small_chunks(bench, monkeypatch, lambda: None)
    classify, write = CLASSIFY.run, results.write_results
    second_asked, happened = threading.Event(), []

    def classify_and_tell(*args: Any, **kwargs: Any) -> Any:
        happened.append("ask")
        if len(happened) > 1:
            second_asked.set()
        return classify(*args, **kwargs)

    def write_once_the_second_was_asked(*args: Any, **kwargs: Any) -> Any:
        assert second_asked.wait(30)
        return write(*args, **kwargs)

    monkeypatch.setattr(CLASSIFY, "run", classify_and_tell)
    monkeypatch.setattr(results, "write_results", write_once_the_second_was_asked)
    assert bench.run() is End.DONE
    assert bench.stored(job_id) == set(range(30))


def test_a_shard_that_is_let_go_leaves_nothing_running(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.submit([row(at, {"input": f"x {at}"}) for at in range(30)])
    in_small_chunks(bench, monkeypatch, lambda: None)
    classify = CLASSIFY.run
    begun: list[str] = []
    over: list[str] = []

    def classify_the_first_and_wait_in_the_second(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
        begun.append("call")  # the first ten rows are asked before the second ten
        try:
            if len(begun) > 1:
                assert work.ticket.stop is not None
                assert work.ticket.stop.wait(30)
                raise Stopped
            return classify(work, group, rows)
        finally:
            over.append("call")

    def refuse(*_: Any, **__: Any) -> None:
        raise LeaseLost

    monkeypatch.setattr(CLASSIFY, "run", classify_the_first_and_wait_in_the_second)
    monkeypatch.setattr(results, "write_results", refuse)
    assert bench.run() is End.LOST
    assert len(over) == len(begun)


def test_a_row_that_a_task_left_out_has_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit([row(at, {"input": f"x {at}"}) for at in range(3)])
    classify = CLASSIFY.run
    monkeypatch.setattr(CLASSIFY, "run", lambda work, group, rows: classify(work, group, [rows[0], rows[2]]))
    assert bench.run() is End.DONE
    assert [line.idx for line in bench.answers(job_id)] == [0, 2]
    assert bench.failures(job_id) == {1: "engine_error"}
    assert (bench.shard(job_id).completed_count, bench.shard(job_id).failed_count) == (2, 1)


def test_of_a_chunk_that_failed_nothing_stays_in_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch, no_collector: None) -> None:
    class Texts(list[str]):
        pass

    bench.submit([row(at, {"input": f"x {at}"}) for at in range(30)])
    in_small_chunks(bench, monkeypatch, lambda: None)
    seen: list[weakref.ref[Texts]] = []

    def fail(_work: Work, _group: Group, rows: Sequence[WorkRow]) -> Ran:
        texts = Texts(row.ask.input for row in rows)
        seen.append(weakref.ref(texts))
        raise ValueError

    monkeypatch.setattr(CLASSIFY, "run", fail)
    assert bench.run() is End.RELEASED
    assert len(seen) == life.CHUNKS_IN_FLIGHT
    assert [texts() for texts in seen] == [None] * len(seen)


def test_chunks_in_flight_together_do_not_count_their_time_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = bench.submit([row(at, {"input": f"x {at}"}) for at in range(100)])
    in_small_chunks(bench, monkeypatch, lambda: None)
    began = time.monotonic()
    assert bench.run() is End.DONE
    assert bench.shard(job_id).metrics["seconds"] <= time.monotonic() - began
