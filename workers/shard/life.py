"""The life of one shard, from a claimed lease to the last write: open → read → answer, chunk by chunk → write.

One :class:`ShardTask` runs on one thread, and its calls of the model on others, so that writing a chunk never keeps the lanes waiting. Bad
rows become failures at once and never fail their neighbours. What is written is written with the lease's epoch, so a worker that lost the
lease stores nothing, and every row once. Between two chunks the task looks whether it should stop: a drain or a pause gives the shard back
without costing an attempt, a cancel keeps what is done, a lost lease is left alone.
"""

import itertools
import logging
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from enum import StrEnum
from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.actors import Lease
from db.catalogue import heads
from db.connect import Store
from db.errors import LeaseLost, TextmillError
from db.failures import FAILURES
from db.jobs.results import COMPLETED
from db.outages import passes
from db.queue import results, shards
from db.queue.results import NewResult
from db.queue.shards import ShardWork
from workers import metrics
from workers.batches.batcher import Watch
from workers.batches.outcomes import BatchShare, EngineBroken, Stopped
from workers.claims.lease import Held, LeaseKeeper
from workers.claims.slots import KEPT_SLOTS
from workers.inference.runtime import Runtime
from workers.logs import place_of
from workers.models import registry
from workers.settings import WorkerSettings
from workers.shard.answering import NO_MODEL, Chunk, answer_rows, failure, nothing_ran
from workers.shard.in_flight import InFlight
from workers.shard.pace import DECODER_ROWS, Pace
from workers.shard.rows import Asked, BadRow, Group, Uncut, group_rows, read_rows
from workers.stages import StageSeconds
from workers.tasks import answers
from workers.tasks.requests import HEAD_PREFIX, TrainingExample

WRITE_ATTEMPTS: Final = 6  # where the write itself is to blame; else as long as the lease lasts: the answers stay in memory
STORE_PAUSE_SECONDS: Final = 1.0  # before a shard is given back to a store in trouble, which would offer it again at once

CHUNKS_IN_FLIGHT: Final = 2  # of a shard: one that runs, and one that waits for the lanes

log = logging.getLogger("textmill.shard")


class End(StrEnum):
    """How a worker's hold on a shard ended."""

    DONE = "done"
    DRAINED = "drained"
    PAUSED = "paused"  # its job is: the rest is given back, for later
    CANCELLED = "cancelled"
    LOST = "lost"
    RELEASED = "released"  # after an error: somebody tries again, later
    BROKEN = "broken"  # the device is lost, and so is this process


class ShardTask:
    """Parameters: ``store`` (role worker), the process's runtime and lease keeper, ``watch``, entered around each call of a model,
    ``draining``, asked between chunks, ``done``, told of each shard that is, and ``wrote``, told how many rows were stored."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        keeper: LeaseKeeper,
        watch: Watch,
        settings: WorkerSettings,
        draining: Callable[[], bool],
        done: Callable[[], object] = lambda: None,
        wrote: Callable[[int], object] = lambda _rows: None,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._keeper = keeper
        self._watch = watch
        self._settings = settings
        self._draining = draining
        self._done = done
        self._wrote = wrote
        self._in_flight = InFlight()
        self._calls = ThreadPoolExecutor((settings.threads + sum(KEPT_SLOTS.values())) * CHUNKS_IN_FLIGHT, thread_name_prefix="chunk")
        self._paces: dict[str, Pace] = {}  # by model: what one shard measured, the next one starts with

    def run(self, lease: Lease, claimed_at: float) -> End:
        """Works on the shard until it is done or must be let go. Raises nothing. ``claimed_at``: the keeper's clock before the claim."""
        started = time.monotonic()
        held = self._keeper.hold(lease, claimed_at)
        self._in_flight.enter(lease.job_id)
        metrics.leases.inc()
        try:
            end = self._live(held)
        finally:
            self._keeper.drop(held)
            self._in_flight.leave(lease.job_id)
            metrics.leases.dec()
        if end is End.DONE:
            self._done()
        metrics.shards.labels(lease.task, end).inc()
        metrics.shard_seconds.labels(lease.task).observe(time.monotonic() - started)
        return end

    def _live(self, held: Held) -> End:
        lease = held.lease
        try:
            return self._work(held)
        except (Stopped, LeaseLost):
            if held.ended == "cancelled":
                return self._give_back(lease, End.CANCELLED)
            if self._draining() and held.ended in {None, "drained"}:
                return self._give_back(lease, End.DRAINED)
            if held.paused and held.ended is None:
                return self._give_back(lease, End.PAUSED)
            metrics.leases_lost.inc()
            log.warning("shard %s: the lease of epoch %d is lost; nothing more is written", lease.shard_id, lease.epoch)
            return End.LOST
        except EngineBroken:
            # Not released: the lease runs out, and the store counts a crash, which finds a row that kills every device it meets.
            log.error("shard %s: the device is lost", lease.shard_id)
            return End.BROKEN
        except Exception as error:
            if passes(error):  # the store's trouble and not the rows': no attempt is counted
                log.warning("shard %s: %s at %s; given back untouched", lease.shard_id, type(error).__name__, place_of(error))
                time.sleep(STORE_PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311 - jitter
                return self._give_back(lease, End.RELEASED)
            code = error.code if isinstance(error, TextmillError) else "out_of_memory" if isinstance(error, MemoryError) else "engine_error"
            log.error("shard %s: %s at %s; released (%s)", lease.shard_id, type(error).__name__, place_of(error), code)
            return self._give_back(lease, End.RELEASED, code if code in FAILURES else "engine_error")

    def _work(self, held: Held) -> End:
        lease, started = held.lease, time.perf_counter()
        work = shards.open_shard(self._store, lease)
        asked, bad = read_rows(lease, work, max_labels=self._settings.max_labels)
        if lease.task == "train":
            self._train(held, work, asked, bad)
            return End.DONE
        groups, unresolved = group_rows(self._store, lease, asked, max_labels=self._settings.max_labels)
        failures = nothing_ran([failure(idx, code) for idx, code in bad + unresolved])
        opening = StageSeconds(open=time.perf_counter() - started)  # told with the first chunk that a model answered
        uncut = Uncut(groups, self._pace_of)
        if failures.results or not uncut:
            self._write(held, failures, finish=not uncut)
        with closing(self._answered(held, uncut)) as chunks:
            for chunk, is_last in chunks:
                chunk.stages.add(opening)
                opening = StageSeconds()
                self._write(held, chunk, finish=is_last)
        return End.DONE

    # Answering: calls of the runtime, one a chunk, some chunks ahead of the one that is being written.

    def _answered(self, held: Held, uncut: Uncut) -> Generator[tuple[Chunk, bool], None, None]:
        """The chunks in their order, each with whether it is the last. Raises Stopped where there are more that must not be begun.

        While one chunk is written, the next one's rows run and those of the one after it wait for the lanes: with every chunk begun only
        after the last was written, a lone shard left the lanes idle for a tenth of the time. What is in flight when a drain begins is
        finished and written. When this is closed early, what is still in flight is stopped, and nothing of it runs afterwards.
        """
        in_flight: deque[tuple[Future[Chunk], Pace, list[Asked]]] = deque()
        ended_at = 0.0
        try:
            while uncut or in_flight:
                while uncut and len(in_flight) < CHUNKS_IN_FLIGHT and not self._must_let_go(held):
                    group, rows, pace = uncut.take()
                    if not uncut and not in_flight:  # the only one, of a small shard: no other thread is needed
                        yield self._answer(held, group, rows), True
                        return
                    in_flight.append((self._calls.submit(self._answer, held, group, rows), pace, rows))
                if not in_flight:
                    raise Stopped
                future, pace, rows = in_flight.popleft()
                chunk = future.result()
                # Chunks in flight together share the lanes: a chunk took the time since the one before it was done.
                chunk.seconds = chunk.ended_at - max(chunk.began_at, ended_at)
                ended_at = chunk.ended_at
                pace.report(sum(row.cost for row in rows), chunk.seconds)
                yield chunk, not uncut and not in_flight
        finally:
            if in_flight:
                held.set()
                wait([future for future, _, _ in in_flight])

    def _must_let_go(self, held: Held) -> bool:
        return self._draining() or held.paused or held.is_set()

    def _pace_of(self, model: str) -> Pace:
        if model not in self._paces:  # the guess is divided: other shards are in flight and take their part of the device
            card = registry.get(model)
            least_rows = DECODER_ROWS if card.kind == "decoder" else 1
            self._paces[model] = Pace(self._settings.chunk_seconds, card.speed_chars_per_second / self._settings.threads, least_rows)
        return self._paces[model]

    def _answer(self, held: Held, group: Group, rows: Sequence[Asked]) -> Chunk:
        with self._watch():
            self._runtime.load(group.model)  # not part of what the chunk took: shards are sized by that
            began_at = time.monotonic()
            chunk = answer_rows(self._runtime, held, group, rows)
            chunk.began_at, chunk.ended_at = began_at, time.monotonic()
            chunk.seconds, chunk.chars = chunk.ended_at - began_at, sum(row.size for row in rows)
            return chunk

    # Training: the whole file makes one head, and every row says so.

    def _train(self, held: Held, work: ShardWork, asked: Sequence[Asked], bad: Sequence[BadRow]) -> None:
        if self._must_let_go(held):  # claimed just before the slots closed; a drain waits for what has begun
            raise Stopped
        lease = held.lease
        model = lease.model or registry.default_model("classify").id
        failures = [failure(idx, code) for idx, code in bad]
        examples = [row.request for row in asked if isinstance(row.request, TrainingExample)]
        try:
            with self._watch():
                trained = self._runtime.train_head(
                    model,
                    [example.text for example in examples],
                    [example.label for example in examples],
                    stop=held,
                    tenant=lease.tenant_id,
                )
        except TextmillError as error:
            if error.code not in TRAINING_FAILURES:
                raise
            failures += [failure(row.idx, error.code) for row in asked]
            self._write(held, nothing_ran(failures), finish=True)
            return
        if lease.head_id is None:
            raise TextmillError("This training job names no head to store; create it again.", code="engine_error")
        name = str(work.spec.get("head_name", ""))
        heads.store_head(
            self._store,
            lease,
            head_id=lease.head_id,
            name=name,
            base=model,
            version=trained.version,
            card=trained.card,
            weights=trained.weights,
        )
        labels = trained.card["labels"]
        rows = [
            NewResult(
                row.idx,
                COMPLETED,
                None,
                answers.training_row(
                    answer=answers.answer_id("trn_", lease.job_id, row.idx),
                    model=f"{HEAD_PREFIX}{name}",
                    model_version=trained.version,
                    labels=labels if isinstance(labels, list) else [],
                    example_count=len(examples),
                ),
                0,
                0,
            )
            for row in asked
        ]
        self._write(held, Chunk(failures + rows, BatchShare(), model, trained.version), finish=True)

    # Writing, and letting go.

    def _write(self, held: Held, chunk: Chunk, *, finish: bool) -> None:
        """One transaction, fenced by the epoch. Tries again where the database is away; the store refuses a row it already has."""
        job_id = held.lease.job_id
        if chunk.model != NO_MODEL:
            chunk.held_seconds, late = self._in_flight.take(job_id)
            chunk.stages.add(late)
        for attempt in itertools.count():
            try:
                written = results.write_results(
                    self._store,
                    held.lease,
                    chunk.results,
                    finish=finish,
                    model_version=chunk.model_version,
                    metrics=chunk.metrics(),
                )
                break
            except (DBAPIError, PoolTimeout) as error:
                if held.is_set() or (attempt >= WRITE_ATTEMPTS - 1 and not passes(error)):
                    raise
                log.warning("shard %s: a write failed (%s); trying again", held.lease.shard_id, type(error).__name__)
                time.sleep(min(4.0, 0.2 * 2.0 ** min(attempt, 5)) * (0.5 + random.random()))  # noqa: S311 - jitter
        self._wrote(len(chunk.results))
        self._in_flight.come_late(job_id, StageSeconds(commit=written.late_seconds))
        _count(held.lease, chunk, StageSeconds(seal=written.seal_seconds, commit=written.commit_seconds + written.late_seconds))

    def _give_back(self, lease: Lease, end: End, code: str | None = None) -> End:
        try:
            shards.release(self._store, lease, code=code, kind="drain" if code is None else "error")
        except LeaseLost:
            return End.LOST
        except Exception as error:  # the lease runs out by itself
            log.warning("shard %s: could not be given back (%s)", lease.shard_id, type(error).__name__)
        return end


# What the rows of a training file can be told; anything else is the worker's trouble, and tried again.
TRAINING_FAILURES: Final = {"too_few_labels", "too_few_examples", "unknown_model", "model_task_mismatch"}


def _count(lease: Lease, chunk: Chunk, writing: StageSeconds) -> None:
    by_outcome: dict[int, int] = defaultdict(int)
    for result in chunk.results:
        by_outcome[result.outcome] += 1
    for outcome, count in by_outcome.items():
        metrics.rows.labels(lease.task, chunk.model or "none", "completed" if outcome == COMPLETED else "failed").inc(count)
    metrics.observe_stages(lease.task, chunk.stages)
    metrics.observe_stages(lease.task, writing)
