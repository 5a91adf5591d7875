"""The life of one shard, from a claimed lease to the last write: open → prepare → read → answer, chunk by chunk → write.

One :class:`ShardLife` runs on one thread, and its calls of the model on others, so that writing a chunk never keeps the lanes waiting. Bad
rows become failures at once and never fail their neighbours. What is written is written with the lease's epoch, so a worker that lost the
lease stores nothing, and every row once. Between two chunks the task looks whether it should stop: a drain or a pause gives the shard back
without costing an attempt, a cancel keeps what is done, a lost lease is left alone.
"""

import itertools
import logging
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext
from enum import StrEnum
from typing import Any, Final, Literal

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.actors import Lease
from db.connect import Store
from db.errors import AnotherKeyFile, AuditUnavailable, BudgetSpent, LeaseLost, TextmillError
from db.failures import FAILURES, parts_of
from db.queue import results, shards
from db.queue.row import WorkRow
from db.server.outages import passes
from workers import metrics
from workers.batches.batcher import Watch
from workers.batches.outcomes import EngineAway, EngineBroken, Stopped
from workers.claims.lease import Held, LeaseKeeper
from workers.claims.slots import KEPT_SLOTS
from workers.inference.runtime import Runtime
from workers.logs import place_of
from workers.settings import WorkerSettings
from workers.shard.chunks import Chunk, Uncut
from workers.shard.in_flight import InFlight
from workers.shard.names import StoredNames
from workers.shard.pace import Pace
from workers.shard.preparing import PREPARED, prepare
from workers.shard.reading import read_rows
from workers.stages import StageSeconds
from workers.tasks import TASKS
from workers.tasks.task import SKIPPED, Group, Task, Work

WRITE_ATTEMPTS: Final = 6  # where the write itself is to blame; else as long as the lease lasts: the answers stay in memory
STORE_PAUSE_SECONDS: Final = 1.0  # before a shard is given back to a store in trouble, which would offer it again at once

CHARS_PER_SECOND_WITHOUT_MODEL: Final = 2_000_000.0  # of rules and templates
LOADED_SECONDS: Final = 0.5  # a model that is there is had sooner
SPENT_SECONDS: Final = 30.0  # until a shard is offered again whose job should have ended by then
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
    OVER_BUDGET = "over_budget"  # its job is, and ends at the dispatcher's next round
    AWAY = "away"  # what runs its model is: given back, for later
    BROKEN = "broken"  # the device is lost, and so is this process


class ShardLife:
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
        self._away_until: dict[str, float] = {}  # by model, of a monotonic clock
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
        except BudgetSpent:
            return self._give_back(lease, End.OVER_BUDGET, away_seconds=SPENT_SECONDS)
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
        except EngineAway as away:
            log.warning("shard %s: what runs its model is away; given back for %.0f s", lease.shard_id, away.seconds)
            return self._give_back(lease, End.AWAY, away_seconds=away.seconds)
        except EngineBroken:
            # Not released: the lease runs out, and the store counts a crash, which finds a row that kills every device it meets.
            log.error("shard %s: the device is lost", lease.shard_id)
            return End.BROKEN
        except Exception as error:
            if passes(error) or isinstance(error, AnotherKeyFile):  # the store's trouble, or this process's, and not the rows': no attempt
                log.warning("shard %s: %s at %s; given back untouched", lease.shard_id, type(error).__name__, place_of(error))
                time.sleep(STORE_PAUSE_SECONDS * (0.5 + random.random()))  # noqa: S311 - jitter
                return self._give_back(lease, End.RELEASED)
            code = error.code if isinstance(error, TextmillError) else "out_of_memory" if isinstance(error, MemoryError) else "engine_error"
            log.error("shard %s: %s at %s; released (%s)", lease.shard_id, type(error).__name__, place_of(error), code)
            return self._give_back(lease, End.RELEASED, code if code in FAILURES else "engine_error")

    def _work(self, held: Held) -> End:
        lease, started = held.lease, time.perf_counter()
        task = TASKS.get(lease.task)
        if task is None:
            raise TextmillError("This worker does not know the job's task; it is older than the API.", code="engine_error")
        if (seconds := self._away_until.get(lease.model or "", 0.0) - time.monotonic()) > 0:
            raise EngineAway(seconds)  # nothing is opened for nothing
        opened = shards.open_shard(self._store, lease, whole=task.whole)
        spec = opened.spec
        names = StoredNames(self._store, lease, task, spec, max_labels=self._settings.max_labels)
        ready = not lease.reads_columns and not spec.keys() & PREPARED
        rows = opened.rows if ready else prepare(task, lease, opened, names)
        groups = read_rows(task, lease, spec, rows, names, max_labels=self._settings.max_labels)
        work = Work(self._store, lease, held.ticket, spec, self._runtime)
        over = [row for row in rows if row.code is not None or row.payload is not None]  # failed, or skipped
        opening = StageSeconds(open=time.perf_counter() - started)  # told with the first chunk that a model answered
        uncut = Uncut(groups, self._pace_of if not task.whole and not task.streams else lambda _group: Pace(math.inf, 1.0))
        for group, own in groups:
            if group.card is not None and group.card.sends_to:
                shards.record_sending(self._store, lease, own, group.card.sends_to)
        if over or not uncut:
            self._write(held, Chunk(over), 0.0, StageSeconds(), finish=not uncut)
        with closing((self._streamed if task.streams else self._answered)(held, task, work, uncut)) as chunks:
            for chunk, seconds, is_last in chunks:
                self._write(held, chunk, seconds, opening, finish=is_last)
                opening = StageSeconds()
        return End.DONE

    # Answering: calls of the task, one a chunk, some chunks ahead of the one that is being written.

    def _answered(self, held: Held, task: Task[Any], work: Work, uncut: Uncut) -> Generator[tuple[Chunk, float, bool], None, None]:
        """The chunks in their order, each with the seconds it took and whether it is the last. Raises Stopped where there are more that
        must not be begun.

        While one chunk is written, the next one's rows run and those of the one after it wait for the lanes: with every chunk begun only
        after the last was written, a lone shard left the lanes idle for a tenth of the time. What is in flight when a drain begins is
        finished and written. When this is closed early, what is still in flight is stopped, and nothing of it runs afterwards.
        """
        in_flight: deque[tuple[Future[Chunk], Pace]] = deque()
        ended_at, away = 0.0, None
        try:
            while uncut or in_flight:
                while uncut and len(in_flight) < CHUNKS_IN_FLIGHT and not self._must_let_go(held):
                    group, rows, pace = uncut.take()
                    if not uncut and not in_flight and away is None:  # the only one, of a small shard: no other thread is needed
                        chunk = self._answer(task, work, group, rows)
                        yield chunk, chunk.ended_at - chunk.began_at, True
                        return
                    in_flight.append((self._calls.submit(self._answer, task, work, group, rows), pace))
                if not in_flight:
                    raise Stopped
                try:
                    chunk, pace = _finished(*in_flight.popleft())
                except EngineAway as error:  # rows of other models do not wait for it
                    away = error
                    continue
                # Chunks in flight together share the lanes: a chunk took the time since the one before it was done.
                seconds, ended_at = chunk.ended_at - max(chunk.began_at, ended_at), chunk.ended_at
                pace.report(sum(row.cost for row in chunk.rows), seconds)
                yield chunk, seconds, not uncut and not in_flight and away is None
            if away is not None:
                raise away
        finally:
            if in_flight:
                held.set()
                wait([future for future, _ in in_flight])

    def _streamed(self, held: Held, task: Task[Any], work: Work, uncut: Uncut) -> Generator[tuple[Chunk, float, bool], None, None]:
        """The same of a task whose rows end one by one: all of a model's begin together, and a chunk is what ended since the one before."""
        away: EngineAway | None = None
        try:
            while uncut:
                if self._must_let_go(held):
                    raise Stopped
                group, rows, _ = uncut.take()
                try:
                    for chunk, seconds, left in self._stream(held, task, work, group, rows):
                        yield chunk, seconds, not uncut and not left and away is None
                except EngineAway as error:  # rows of other models do not wait for it
                    away = error
            if away is not None:
                raise away
        except GeneratorExit:
            held.set()  # what has begun is stopped
            raise

    def _stream(self, held: Held, task: Task[Any], work: Work, group: Group, rows: Sequence[WorkRow]) -> Iterator[tuple[Chunk, float, int]]:
        """Of one model: each chunk, the seconds that it took, and how many rows have not ended."""
        with self._using(work.lease, group) as lanes:
            left, began_at = len(rows), time.monotonic()
            stream = task.stream(work, group, rows, self._settings.chunk_seconds, lambda: self._must_let_go(held))
            while left:
                with self._watch():
                    ran = next(stream, None)
                if ran is None:
                    raise Stopped
                left -= len(ran.rows)
                ended_at = time.monotonic()
                yield Chunk(ran.rows, group.model, ran, lanes, began_at, ended_at), ended_at - began_at, left
                began_at = ended_at

    @contextmanager
    def _using(self, lease: Lease, group: Group) -> Iterator[int]:
        """The model's lanes; one of rows that need none. Notes where what runs it is away, and that it had to be loaded."""
        asked_at = time.monotonic()
        try:
            with self._runtime.using(group.model) if group.card is not None else nullcontext(1) as lanes:
                if time.monotonic() - asked_at >= LOADED_SECONDS:
                    self._in_flight.loaded(lease.job_id)
                yield lanes
        except EngineAway as away:
            self._away_until[group.model] = time.monotonic() + away.seconds
            raise

    def _must_let_go(self, held: Held) -> bool:
        return self._draining() or held.paused or held.is_set()

    def _pace_of(self, group: Group) -> Pace:
        if group.model not in self._paces:  # the guess is divided: other shards are in flight and take their part of the device
            speed = group.card.speed_chars_per_second if group.card is not None else CHARS_PER_SECOND_WITHOUT_MODEL
            self._paces[group.model] = Pace(self._settings.chunk_seconds, speed / self._settings.threads)
        return self._paces[group.model]

    def _answer(self, task: Task[Any], work: Work, group: Group, rows: Sequence[WorkRow]) -> Chunk:
        # Loading is not part of what the chunk took: shards are sized by that.
        with self._watch(), self._using(work.lease, group) as lanes:
            began_at = time.monotonic()
            ran = task.run(work, group, rows)
            for row in rows:
                if row.payload is None and row.code is None:  # a fault of the task's: it must not count as an answer
                    row.fail("engine_error")
            return Chunk(rows, group.model, ran, lanes, began_at, time.monotonic())

    # Writing, and letting go.

    def _write(self, held: Held, chunk: Chunk, seconds: float, opening: StageSeconds, *, finish: bool) -> None:
        """One transaction, fenced by the epoch. Tries again where the database is away; the store refuses a row it already has."""
        lease = held.lease
        version = ""
        skipped = sum(row.payload is SKIPPED for row in chunk.rows) if chunk.ran is None else 0
        told: dict[str, float] | None = {"skipped": float(skipped)} if skipped else None
        if chunk.ran is not None:
            version = chunk.ran.model_version
            taken = self._in_flight.take(lease.job_id)
            chunk.ran.stages.add(opening)
            chunk.ran.stages.add(taken.late)
            told = {
                **chunk.ran.share.as_dict(),
                **chunk.ran.stages.as_dict(),
                "seconds": seconds,
                "chars": float(sum(len(row.body or b"") for row in chunk.rows)),
                "held_seconds": taken.held_seconds,  # in which lanes could have worked for the job
                "lane_seconds": taken.held_seconds * chunk.lanes,
                "worker_seconds": taken.worker_seconds,  # of this process, the job's part
            }
        for attempt in itertools.count():
            try:
                written = results.write_results(
                    self._store,
                    lease,
                    chunk.rows,
                    finish=finish,
                    model_version=version,
                    metrics=told,
                )
                break
            except (DBAPIError, PoolTimeout, AuditUnavailable) as error:
                if held.is_set() or (attempt >= WRITE_ATTEMPTS - 1 and not passes(error)):
                    raise
                log.warning("shard %s: a write failed (%s); trying again", lease.shard_id, type(error).__name__)
                time.sleep(min(4.0, 0.2 * 2.0 ** min(attempt, 5)) * (0.5 + random.random()))  # noqa: S311 - jitter
        self._wrote(len(chunk.rows))
        self._in_flight.come_late(lease.job_id, StageSeconds(commit=written.late_seconds))
        failed = sum(row.code is not None for row in chunk.rows)
        for outcome, count in (("completed", len(chunk.rows) - failed), ("failed", failed)):
            if count:
                metrics.rows.labels(lease.task, chunk.model or "none", outcome).inc(count)
        if failed:
            metrics.count_failed_rows(lease.task, Counter(parts_of(row.code)[0] for row in chunk.rows if row.code is not None))
        if chunk.ran is not None:
            metrics.observe_stages(lease.task, chunk.ran.stages)
        writing = StageSeconds(seal=written.seal_seconds, commit=written.commit_seconds + written.late_seconds)
        metrics.observe_stages(lease.task, writing)

    def _give_back(self, lease: Lease, end: End, code: str | None = None, *, away_seconds: float = 0.0) -> End:
        kind: Literal["drain", "away", "error"] = "error" if code is not None else "away" if away_seconds else "drain"
        try:
            shards.release(self._store, lease, code=code, kind=kind, away_seconds=away_seconds)
        except LeaseLost:
            return End.LOST
        except Exception as error:  # the lease runs out by itself
            log.warning("shard %s: could not be given back (%s)", lease.shard_id, type(error).__name__)
        return end


def _finished(call: Future[Chunk], pace: Pace) -> tuple[Chunk, Pace]:
    """Waits. What it raises holds no call: a call holds its error, and rows would stay in memory until the collector comes."""
    try:
        return call.result(), pace
    finally:
        del call
