"""Results as their holder writes them: once per row, under a live lease.

Everything a write does is one transaction: the fence, the rows, the counts, the event. A commit in doubt is settled by writing the same
rows again at the same epoch.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db import bulk
from db.actors import Lease
from db.audit.acts import record_work
from db.connect import Store
from db.errors import BudgetSpent, LeaseLost, NotFound, StoreError
from db.lifecycle import ShardState, after_finish, budget_spent
from db.queue import shards
from db.queue.row import WorkRow
from db.sealing.cells import Sealer

_STAGING: Final = bulk.Staging(
    "staged_results",
    (
        ("idx", "integer"),
        ("outcome", "smallint"),
        ("code", "text"),
        ("payload_sealed", "bytea"),
        ("input_tokens", "integer"),
        ("output_tokens", "integer"),
    ),
)


_MOVE: Final = text(
    """
    INSERT INTO results (tenant_id, job_id, idx, outcome, code, payload_sealed, model_version, input_tokens, output_tokens, epoch)
    SELECT :tenant, :job, n.idx, n.outcome, n.code, n.payload_sealed, :version, n.input_tokens, n.output_tokens, :epoch
    FROM pg_temp.staged_results n
    WHERE NOT EXISTS (SELECT FROM results r WHERE r.tenant_id = :tenant AND r.job_id = :job AND r.idx = n.idx
                      AND r.idx >= :first AND r.idx < :end)
    """
)


_WRITTEN_NOW: Final = text(
    """
    SELECT count(*) FROM pg_temp.staged_results n
    JOIN results r ON r.tenant_id = :tenant AND r.job_id = :job AND r.idx = n.idx AND r.idx >= :first AND r.idx < :end AND r.epoch = :epoch
    """
)


_COUNT: Final = text(
    """
    UPDATE shards SET completed_count = completed_count + :completed, failed_count = failed_count + :failed,
        input_tokens = input_tokens + :input_tokens, output_tokens = output_tokens + :output_tokens, metrics = :metrics,
        progressed_at = now()
    WHERE tenant_id = :tenant AND shard_id = :shard AND epoch = :epoch AND state = 'leased'
    """
).bindparams(bindparam("metrics", type_=JSONB(none_as_null=True)))


_ONE_WRITE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:job, 0))")
_SPENT: Final = text("SELECT coalesce(sum(output_tokens), 0) FROM shards WHERE tenant_id = :tenant AND job_id = :job")


@dataclass(frozen=True, slots=True)
class Written:
    """What a write took: to seal, in its transaction until the counts were made, and from there to the commit."""

    seal_seconds: float
    commit_seconds: float
    late_seconds: float


def write_results(
    store: Store, lease: Lease, results: Sequence[WorkRow], *, finish: bool, model_version: str, metrics: dict[str, float] | None
) -> Written:
    """Stores results of a shard, all or none; with ``finish`` the holder is through with it.

    May be called several times for one shard, each time with other rows. Called again with the same rows (after an error that left the
    commit in doubt), it stores what is missing and counts nothing twice. Raises LeaseLost where the lease does not hold, or where a row has
    a result of another epoch, BudgetSpent where the job's budget of tokens was used up by what is stored; StoreError
    (``row_outside_shard``) for a row that is not the lease's, or given twice.

    ``metrics`` are added to the shard's sums, and with them ``seal_seconds`` and ``commit_seconds`` of this call, the latter as far as it
    has come when the sums are made.
    """
    idxs = {result.idx for result in results}
    if len(idxs) != len(results) or any(not lease.first_idx <= idx < lease.end_idx for idx in idxs):
        raise StoreError(code="row_outside_shard", message="A result names a row outside its shard, or a row twice.")
    started = time.perf_counter()
    sealed = _seal_all(store, lease, results)  # before the transaction, which locks the shard
    began = time.perf_counter()
    counted = began
    failed: dict[str, int] = {}
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        row = shards.lock_shard(conn, lease)
        if row is not None and row.state == ShardState.DONE and row.epoch == lease.epoch:
            return Written(began - started, 0.0, 0.0)  # this very call has committed before: nobody else can have finished this epoch
        if row is None or row.state != ShardState.LEASED or row.epoch != lease.epoch or not row.unexpired:
            raise LeaseLost
        if row.max_output_tokens is not None:
            _ensure_budget(conn, lease, row)
        stored = 0
        if results:
            stored = _store(conn, store, lease, results, sealed, model_version)
            if not stored and not finish:
                conn.rollback()  # of the event, too: an earlier call stored them, on record
                return Written(began - started, 0.0, 0.0)
        elif finish:
            shards.record_count(conn, store, lease)
        counted = time.perf_counter()
        if stored or (metrics and not results):
            failures = sum(result.code is not None for result in results)
            counts = {
                "completed": len(results) - failures,
                "failed": failures,
                "input_tokens": sum(result.input_tokens for result in results),
                "output_tokens": sum(result.output_tokens for result in results),
            }
            took = {"seal_seconds": began - started, "commit_seconds": counted - began} if metrics else {}
            _count(conn, lease, row, counts, {**(metrics or {}), **took})
        if finish:
            jitter = random.random()  # noqa: S311 - spreads load, guards nothing
            # Where this very write stored all of the shard's rows, there is nothing left to count.
            open_rows = 0 if stored == lease.end_idx - lease.first_idx else shards.count_open(conn, lease)
            following = after_finish(shards.snapshot(row), row.now, open_rows=open_rows, stored=len(results), jitter=jitter)
            failed = shards.free(conn, store, lease, following)
    store.tally.rows_failed(lease.task, failed)
    return Written(began - started, counted - began, time.perf_counter() - counted)


def _ensure_budget(conn: Connection, lease: Lease, row: Row[Any]) -> None:
    """Raises BudgetSpent. Writes of one such job come one after the other, so that each sees all before it: of its budget no more is
    passed than by the one write that reached it."""
    at = {"tenant": lease.tenant_id, "job": lease.job_id}
    conn.execute(_ONE_WRITE_AT_A_TIME, {"job": str(lease.job_id)})
    spent = conn.execute(_SPENT, at).scalar_one() - row.spent_before
    if budget_spent(spent, row.max_output_tokens, run_over=False):
        raise BudgetSpent


def _store(
    conn: Connection, store: Store, lease: Lease, results: Sequence[WorkRow], sealed: tuple[Sequence[bulk.Value], ...], model_version: str
) -> int:
    """How many rows were stored: all, or none where an earlier call of the same holder had stored them."""
    record_work(
        conn,
        store,
        lease,
        "results.write",
        object_kind="job",
        object_id=lease.job_id,
        first_idx=min(result.idx for result in results),
        end_idx=max(result.idx for result in results) + 1,
        model_version=model_version or None,
    )
    bulk.stage(conn, _STAGING, sealed)
    at = {"tenant": lease.tenant_id, "job": lease.job_id, "first": lease.first_idx, "end": lease.end_idx, "epoch": lease.epoch}
    stored = conn.execute(_MOVE, {**at, "version": model_version or None}).rowcount
    if stored == len(results):
        return stored
    if stored == 0 and conn.execute(_WRITTEN_NOW, at).scalar_one() == len(results):
        return 0
    raise LeaseLost


def _count(conn: Connection, lease: Lease, row: Row[Any], counts: dict[str, int], sums: dict[str, float]) -> None:
    """``counts``: of the rows that were stored just now. ``sums``: what is added to the shard's."""
    summed: dict[str, float] = dict(row.metrics or {})
    for name, value in sums.items():
        summed[name] = summed.get(name, 0.0) + value
    at = {"tenant": lease.tenant_id, "shard": lease.shard_id, "epoch": lease.epoch}
    conn.execute(_COUNT, {**at, **counts, "metrics": summed or None})


def _seal_all(store: Store, lease: Lease, results: Sequence[WorkRow]) -> tuple[Sequence[bulk.Value], ...]:
    """The staging's columns."""
    if not results:
        return ()
    idxs, payloads = [result.idx for result in results], [result.payload for result in results]
    if payloads.count(None) < len(payloads):  # of failures nothing is sealed: they are stored where the job's key does not open, too
        payloads = _job_sealer(store, lease).seal_all("results.payload", idxs, payloads)
    return (
        idxs,
        [result.outcome for result in results],
        [result.code for result in results],
        payloads,
        [result.input_tokens for result in results],
        [result.output_tokens for result in results],
    )


def _job_sealer(store: Store, lease: Lease) -> Sealer:
    sealer = store.keyring.cached(lease.tenant_id, "job", lease.job_id)
    if sealer is None:
        with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
            record_work(conn, store, lease, "key.read", object_kind="job", object_id=lease.job_id)
            try:
                sealer = store.keyring.sealer(conn, lease.tenant_id, "job", lease.job_id)
            except NotFound:
                raise LeaseLost from None
    return sealer
