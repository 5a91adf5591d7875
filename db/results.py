"""Results: written once per row by the holder of a live lease, read back as a stream of pages.

Everything a write does is one transaction: the fence, the rows, the counts, the event. A commit in doubt is settled by writing the same
rows again at the same epoch.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB

from db import bulk, shards
from db.actors import Actor
from db.audit.acts import record_act, record_work
from db.audit.events import record_digest
from db.connect import Store
from db.errors import LeaseLost, NotFound, StoreError
from db.jobs import no_such_job
from db.lifecycle import JobState, ShardState, after_finish
from db.schema import jobs
from db.sealing import Sealer
from db.shards import Lease

COMPLETED: Final = 1
FAILED: Final = 2
PAGE_ROWS: Final = 2048  # a page is a transaction with its event: one wait for the disk
PAGE_BYTES: Final = 4 << 20  # of sealed payloads; a page ends after the row that passes this

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
# LATERAL with LIMIT 1 makes the join one index look-up a result. As a plain join it is planned, where there are no statistics yet (a new
# file, a job that has just ended), as every result of the page with every row of the file: 1.9 s a page of a 20,000-row file, not 2 ms.
_OUTPUT_PAGE: Final = """
    SELECT idx, line, custom_id_sealed, outcome, code, payload_sealed, model_version
    FROM (SELECT res.idx, r.line, r.custom_id_sealed, res.outcome, res.code, res.payload_sealed, res.model_version,
                 sum(coalesce(octet_length(res.payload_sealed), 0))
                     OVER (ORDER BY res.idx ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
          FROM (SELECT * FROM results WHERE tenant_id = %(tenant)s AND job_id = %(job)s AND idx > %(after)s AND outcome = 1
                ORDER BY idx LIMIT %(limit)s) AS res
          CROSS JOIN LATERAL (SELECT line, custom_id_sealed FROM rows
                WHERE tenant_id = %(tenant)s AND file_id = %(file)s AND idx = res.idx LIMIT 1) AS r) AS page
    WHERE coalesce(before, 0) < %(bytes)s ORDER BY idx
    """
_ERRORS_PAGE: Final = """
    SELECT res.idx, r.line, r.custom_id_sealed, res.outcome, res.code, res.payload_sealed, res.model_version
    FROM (SELECT * FROM results WHERE tenant_id = %(tenant)s AND job_id = %(job)s AND idx > %(after)s AND outcome = 2
          ORDER BY idx LIMIT %(limit)s) AS res
    CROSS JOIN LATERAL (SELECT line, custom_id_sealed FROM rows
                        WHERE tenant_id = %(tenant)s AND file_id = %(file)s AND idx = res.idx LIMIT 1) AS r
    ORDER BY res.idx
    """
# Of a job that ended early: rows that failed, and rows that never ran, which are not stored anywhere.
_ERRORS_PAGE_ENDED_EARLY: Final = """
    SELECT r.idx, r.line, r.custom_id_sealed, CAST(2 AS smallint) AS outcome, coalesce(res.code, %(code)s) AS code,
           res.payload_sealed, res.model_version
    FROM rows r
    LEFT JOIN results res ON res.tenant_id = %(tenant)s AND res.job_id = %(job)s AND res.idx = r.idx AND res.idx > %(after)s
    WHERE r.tenant_id = %(tenant)s AND r.file_id = %(file)s AND r.idx > %(after)s AND (res.idx IS NULL OR res.outcome = 2)
    ORDER BY r.idx LIMIT %(limit)s
    """
_HAS: Final = text(
    """
    SELECT EXISTS (SELECT FROM results WHERE tenant_id = :tenant AND job_id = :job AND outcome = 1) AS output,
           EXISTS (SELECT FROM results WHERE tenant_id = :tenant AND job_id = :job AND outcome = 2) AS errors
    """
)
_NEVER_RAN: Final = {JobState.CANCELLED.value: "batch_cancelled", JobState.EXPIRED.value: "batch_expired"}


class NewResult(msgspec.Struct, frozen=True, gc=False):
    """What became of a row. ``outcome``: 1 completed, with a payload; 2 failed, with a code (``code`` or ``code:field``)."""

    idx: int
    outcome: int
    code: str | None
    payload: bytes | None
    input_tokens: int
    output_tokens: int


class ResultLine(msgspec.Struct, frozen=True, gc=False):
    """A result as it is exported. ``line``: the row's 1-based line in the uploaded file. ``payload``: None where it failed."""

    idx: int
    line: int
    custom_id: str | None
    outcome: int
    code: str | None
    payload: bytes | None
    model_version: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """What a write took: to seal, in its transaction until the counts were made, and from there to the commit."""

    seal_seconds: float
    commit_seconds: float
    late_seconds: float


def write_results(
    store: Store, lease: Lease, results: Sequence[NewResult], *, finish: bool, model_version: str, metrics: dict[str, float] | None
) -> Written:
    """Stores results of a shard, all or none; with ``finish`` the holder is through with it.

    May be called several times for one shard, each time with other rows. Called again with the same rows (after an error that left the
    commit in doubt), it stores what is missing and counts nothing twice. Raises LeaseLost where the lease does not hold, or where a row has
    a result of another epoch; StoreError (``row_outside_shard``) for a row that is not the lease's, or given twice.

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
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        row = shards.lock_shard(conn, lease)
        if row is not None and row.state == ShardState.DONE and row.epoch == lease.epoch:
            return Written(began - started, 0.0, 0.0)  # this very call has committed before: nobody else can have finished this epoch
        if row is None or row.state != ShardState.LEASED or row.epoch != lease.epoch or not row.unexpired:
            raise LeaseLost
        stored = _store(conn, store, lease, results, sealed, model_version) if results else 0
        counted = time.perf_counter()
        if stored or (metrics and not results):
            took = {"seal_seconds": began - started, "commit_seconds": counted - began} if metrics else {}
            _count(conn, lease, row, results if stored else (), metrics, took)
        if finish:
            jitter = random.random()  # noqa: S311 - spreads load, guards nothing
            # Where this very write stored all of the shard's rows, there is nothing left to count.
            open_rows = 0 if stored == lease.end_idx - lease.first_idx else shards.count_open(conn, lease)
            following = after_finish(shards.snapshot(row), row.now, open_rows=open_rows, stored=len(results), jitter=jitter)
            shards.free(conn, store, lease, following)
    return Written(began - started, counted - began, time.perf_counter() - counted)


def iter_results(
    store: Store, actor: Actor, job_id: UUID, *, which: Literal["output", "errors"], page: int = PAGE_ROWS, after_idx: int = -1
) -> Iterator[ResultLine]:
    """The results of a job in the file's order, from the row after ``after_idx``; while it runs, what is done so far.

    ``errors`` of a job that was cancelled or expired has the rows that never ran, too. Raises NotFound at once where there is no such job
    or this part of its results was deleted. Each page is on record before it is opened; a deletion in between ends it with NotFound.
    """
    job = _readable(store, actor, job_id, which)
    return _iter_pages(store, actor, job_id, job.state, which, page, after_idx)


def has_results(store: Store, actor: Actor, job_id: UUID) -> tuple[bool, bool]:
    """Whether there is anything to read: (answers, failures). Deleted is as good as none. Raises NotFound."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        record_act(conn, store, actor, "job.read", object_kind="job", object_id=job_id, job_id=job_id)
        job = _find(conn, actor, job_id)
        if job is not None:
            has = conn.execute(_HAS, {"tenant": actor.tenant_id, "job": job_id}).one()
    if job is None:
        raise no_such_job(store, actor, "job.read", job_id)
    never_ran = job.state in _NEVER_RAN and job.row_count > job.completed_count + job.failed_count
    return has.output and job.output_deleted_at is None, (has.errors or never_ran) and job.errors_deleted_at is None


def _store(
    conn: Connection, store: Store, lease: Lease, results: Sequence[NewResult], sealed: Sequence[tuple[bulk.Value, ...]], model_version: str
) -> int:
    """How many rows were stored: all, or none where an earlier call of the same holder had stored them."""
    bulk.stage(conn, _STAGING, sealed)
    at = {"tenant": lease.tenant_id, "job": lease.job_id, "first": lease.first_idx, "end": lease.end_idx, "epoch": lease.epoch}
    stored = conn.execute(_MOVE, {**at, "version": model_version or None}).rowcount
    if stored == len(results):
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
        return stored
    if stored == 0 and conn.execute(_WRITTEN_NOW, at).scalar_one() == len(results):
        return 0
    raise LeaseLost


def _count(
    conn: Connection,
    lease: Lease,
    row: Row[Any],
    results: Sequence[NewResult],
    metrics: dict[str, float] | None,
    took: dict[str, float],
) -> None:
    summed: dict[str, float] = dict(row.metrics or {})
    for name, value in (*(metrics or {}).items(), *took.items()):
        summed[name] = summed.get(name, 0.0) + value
    conn.execute(
        _COUNT,
        {
            "tenant": lease.tenant_id,
            "shard": lease.shard_id,
            "epoch": lease.epoch,
            "completed": sum(result.outcome == COMPLETED for result in results),
            "failed": sum(result.outcome == FAILED for result in results),
            "input_tokens": sum(result.input_tokens for result in results),
            "output_tokens": sum(result.output_tokens for result in results),
            "metrics": summed or None,
        },
    )


def _seal_all(store: Store, lease: Lease, results: Sequence[NewResult]) -> list[tuple[bulk.Value, ...]]:
    """In the order of the staging's columns."""
    if not results:
        return []
    sealer = store.keyring.cached(lease.tenant_id, "job", lease.job_id)
    if sealer is None:
        with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
            try:
                sealer = store.keyring.sealer(conn, lease.tenant_id, "job", lease.job_id)
            except NotFound:
                raise LeaseLost from None
    payloads = sealer.seal_all("results.payload", [(result.idx, result.payload) for result in results])
    return [
        (result.idx, result.outcome, result.code, sealed, result.input_tokens, result.output_tokens)
        for result, sealed in zip(results, payloads, strict=True)
    ]


def _find(conn: Connection, actor: Actor, job_id: UUID) -> Row[Any] | None:
    found: Row[Any] | None = conn.execute(select(jobs).where(jobs.c.tenant_id == actor.tenant_id, jobs.c.job_id == job_id)).one_or_none()
    return found


def _is_deleted(job: Row[Any], which: str) -> bool:
    return (job.output_deleted_at if which == "output" else job.errors_deleted_at) is not None


def _readable(store: Store, actor: Actor, job_id: UUID, which: str) -> Row[Any]:
    with store.transaction(tenant=actor.tenant_id) as conn:
        job = _find(conn, actor, job_id)
    if job is None or _is_deleted(job, which):
        raise no_such_job(store, actor, "results.read", job_id)
    return job


def _iter_pages(
    store: Store, actor: Actor, job_id: UUID, state: str, which: Literal["output", "errors"], page: int, after_idx: int
) -> Iterator[ResultLine]:
    while (read := _read_page(store, actor, job_id, state, which, page, after_idx)) is not None:
        for idx, line, sealed_id, outcome, code, sealed, version in read.rows:
            custom_id = None if sealed_id is None else read.file_sealer.open("rows.custom_id", idx, sealed_id).decode()
            payload = None if sealed is None else read.job_sealer.open("results.payload", idx, sealed)
            yield ResultLine(idx, line, custom_id, outcome, code, payload, version)
        if read.last:
            return
        after_idx = read.rows[-1][0]


@dataclass(frozen=True, slots=True)
class _Page:
    """Committed to the record, not opened yet: ``rows`` in the order of the queries' columns. ``last``: no row can follow."""

    rows: list[tuple[Any, ...]]
    last: bool
    file_sealer: Sealer
    job_sealer: Sealer


def _read_page(
    store: Store, actor: Actor, job_id: UUID, state: str, which: Literal["output", "errors"], limit: int, after_idx: int
) -> _Page | None:
    """None where no row follows. ``state`` is the job's when reading began: a job that ends meanwhile changes what its errors are, and one
    reading must not mix the two."""
    page: _Page | None = None
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(
            conn, store, actor, "results.read", object_kind="job", object_id=job_id, first_idx=after_idx + 1, job_id=job_id
        )
        job = _find(conn, actor, job_id)
        if job is not None and not _is_deleted(job, which):
            at = {"tenant": actor.tenant_id, "job": job_id, "file": job.file_id, "after": after_idx, "limit": limit}
            if which == "output":
                found = bulk.fetch(conn, _OUTPUT_PAGE, {**at, "bytes": PAGE_BYTES})
            elif state in _NEVER_RAN:
                found = bulk.fetch(conn, _ERRORS_PAGE_ENDED_EARLY, {**at, "code": _NEVER_RAN[state]})
            else:
                found = bulk.fetch(conn, _ERRORS_PAGE, at)
            sealed = [value for row in found for value in (row[2], row[5]) if value is not None]
            record_digest(conn, actor.tenant_id, event_id, sealed)
            if found:
                payload_bytes = sum(len(row[5] or b"") for row in found)
                page = _Page(
                    found,
                    len(found) < limit and payload_bytes < PAGE_BYTES,
                    store.keyring.sealer(conn, actor.tenant_id, "file", job.file_id),
                    store.keyring.sealer(conn, actor.tenant_id, "job", job_id),
                )
    if job is None or _is_deleted(job, which):
        raise no_such_job(store, actor, "results.read", job_id)
    return page
