"""A worker's hold on shards: claim, renew, open, release. Role worker.

A lease is good by the database's clock, for the epoch it was claimed at. Whatever a holder does names both, and raises LeaseLost once
somebody else may have the shard.
"""

import json
import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, text

from db import bulk
from db.actors import Lease
from db.audit.acts import record_work
from db.audit.damage import DAMAGED, Opening
from db.audit.events import record_digest
from db.connect import Store
from db.errors import LeaseLost
from db.files.columns import decode_table
from db.files.table import Table
from db.lifecycle import (
    INTERACTIVE_PRIORITY,
    LEASE_SECONDS,
    MAX_CRASHES,
    POLL_SECONDS,
    Failing,
    JobState,
    Shard,
    ShardState,
    Verdict,
    after_away,
    after_drain,
    after_error,
    holder_told,
)
from db.queue.row import WorkRow
from db.queue.sources import open_sources, record_sources, select_sources
from db.queue.turns import ANY_PRIORITY, CANDIDATES, SUSPECTS
from db.sealing.cells import BrokenKey, KeyOwner, Opener
from db.sealing.keys import Owner

OPEN_BYTES: Final = 64 << 20  # of ciphertext opened at once; a shard of huge rows comes in parts
TAKEOVER_SECONDS: Final = 2 * POLL_SECONDS  # the reconciler goes first: it tells a crash in company from one alone
CONTENDERS: Final = 32  # shards that other workers may be claiming at this moment, and that are skipped

# A claim is not waited for on the disk. The next transaction of its holder, which records the read and brings the rows, is, and takes the
# claim along: before any row is opened, both are there to stay. If Postgres dies in between, the shard is ready again at the epoch before,
# and somebody claims it once more. Should the first holder live to go on, two work at one epoch: what the second of them writes is there
# already, at its own epoch, and is neither stored nor counted again.
_ONE_AT_A_TIME: Final = text("SELECT set_config('synchronous_commit', 'off', true), pg_advisory_xact_lock(hashtextextended(:worker, 0))")
_HELD: Final = text(
    """
    SELECT count(*) AS shards, coalesce(bool_or(crash_attempts >= :max_crashes), false) AS suspect
    FROM shards WHERE state = 'leased' AND worker = :worker
    """
)
_HEADS: Final = """
    SELECT s.shard_id, s.crash_attempts
    FROM shards s JOIN candidates c ON c.tenant_id = s.tenant_id AND c.shard_id = s.shard_id
    WHERE s.state = 'ready'
    ORDER BY c.turn, c.priority DESC, c.turn_at, c.shard_id LIMIT :limit
    FOR UPDATE OF s SKIP LOCKED
    """
_LOCK_NEXT: Final = text(CANDIDATES + _HEADS)
_LOCK_OVERDUE: Final = text(
    """
    SELECT s.shard_id, s.crash_attempts FROM shards s
    WHERE s.state = 'leased' AND s.lease_expires_at <= now() - make_interval(secs => :takeover) AND s.crash_attempts < :max_crashes
      AND (s.deadline IS NULL OR s.deadline > now())
      AND EXISTS (SELECT FROM jobs j WHERE j.tenant_id = s.tenant_id AND j.job_id = s.job_id AND j.state = 'in_progress'
                  AND j.paused_at IS NULL)
    ORDER BY s.lease_expires_at LIMIT :limit
    FOR UPDATE OF s SKIP LOCKED
    """
)
# The rows are locked: nothing can have come in between. The state is read before it is set, so an overdue lease counts as a crash.
_TAKE: Final = text(
    """
    UPDATE shards s SET state = 'leased', epoch = s.epoch + 1, worker = :worker, last_worker = :worker,
        lease_expires_at = clock_timestamp() + make_interval(secs => :lease),
        crash_attempts = s.crash_attempts + CASE WHEN s.state = 'leased' THEN 1 ELSE 0 END, in_company = :in_company
    FROM jobs j
    WHERE s.shard_id = ANY(:shards) AND j.tenant_id = s.tenant_id AND j.job_id = s.job_id
    RETURNING s.tenant_id, s.shard_id, s.job_id, s.file_id, s.epoch, s.first_idx, s.end_idx, s.priority, j.task, j.endpoint, j.model,
        j.head_id, j.reads_columns
    """
)
# Locked in one order, so that two heartbeats, or a heartbeat and a deadline, never wait for each other.
_RENEW: Final = text(
    """
    WITH mine AS MATERIALIZED (
        SELECT s.tenant_id, s.shard_id, j.state AS job_state, j.paused_at IS NOT NULL AS paused
        FROM unnest(CAST(:shards AS uuid[]), CAST(:epochs AS integer[])) AS lease (shard_id, epoch)
        JOIN shards s ON s.shard_id = lease.shard_id AND s.epoch = lease.epoch
        JOIN jobs j ON j.tenant_id = s.tenant_id AND j.job_id = s.job_id
        WHERE s.state = 'leased' AND s.lease_expires_at > clock_timestamp()
        ORDER BY s.shard_id
        FOR UPDATE OF s
    )
    UPDATE shards s SET lease_expires_at = clock_timestamp() + make_interval(secs => :lease) FROM mine
    WHERE s.tenant_id = mine.tenant_id AND s.shard_id = mine.shard_id
    RETURNING s.shard_id, mine.job_state, mine.paused
    """
)
_LOCK_LEASE: Final = text(
    """
    SELECT s.first_idx, s.end_idx, s.state, s.epoch, s.crash_attempts, s.error_attempts, s.last_error, s.completed_count, s.failed_count,
           s.input_tokens, s.output_tokens, s.metrics, j.state AS job_state, j.max_output_tokens, j.spent_before,
           extract(epoch FROM s.not_before)::float8 AS not_before,
           coalesce(s.lease_expires_at > clock_timestamp(), false) AS unexpired, extract(epoch FROM clock_timestamp())::float8 AS now
    FROM shards s JOIN jobs j ON j.tenant_id = s.tenant_id AND j.job_id = s.job_id
    WHERE s.tenant_id = :tenant AND s.shard_id = :shard FOR UPDATE OF s
    """
)
_COUNT_OPEN: Final = text(
    """
    SELECT (:end - :first) - count(*) FROM results r
    WHERE r.tenant_id = :tenant AND r.job_id = :job AND r.idx >= :first AND r.idx < :end
    """
)
_FAIL_OPEN: Final = text(
    """
    INSERT INTO results (tenant_id, job_id, idx, outcome, code, epoch)
    SELECT :tenant, :job, idx, 2, :code, :epoch FROM generate_series(:first, :end - 1) AS idx
    WHERE NOT EXISTS (SELECT FROM results r WHERE r.tenant_id = :tenant AND r.job_id = :job AND r.idx = idx.idx
                      AND r.idx >= :first AND r.idx < :end)
    """
)
_FREE: Final = text(
    """
    UPDATE shards SET state = :state, lease_expires_at = NULL, worker = NULL, dispatched_at = NULL,
        not_before = to_timestamp(:not_before), error_attempts = :errors, last_error = :last_error, failed_count = failed_count + :failed
    WHERE tenant_id = :tenant AND shard_id = :shard AND epoch = :epoch AND state = 'leased'
    """
)
_SPEC: Final = text("SELECT spec_sealed FROM job_specs WHERE tenant_id = :tenant AND job_id = :job")
_TABLE: Final = text("SELECT columns_sealed FROM files WHERE tenant_id = :tenant AND file_id = :file")
_ROWS: Final = """
    SELECT idx, endpoint, defect, body_sealed, kept_sealed
    FROM (SELECT r.idx, r.endpoint, r.defect, r.body_sealed, CASE WHEN %(columns)s THEN r.columns_sealed END AS kept_sealed,
                 sum(coalesce(octet_length(r.body_sealed), 0)
                     + CASE WHEN %(columns)s THEN coalesce(octet_length(r.columns_sealed), 0) ELSE 0 END
                     + CASE WHEN cardinality(%(sources)s::uuid[]) = 0 THEN 0 ELSE (
                           SELECT coalesce(sum(octet_length(a.payload_sealed)), 0) FROM results a
                           WHERE a.tenant_id = %(tenant)s AND a.job_id = ANY(%(sources)s::uuid[]) AND a.idx = r.idx
                             AND a.idx >= %(first)s AND a.idx < %(end)s AND a.outcome = 1) END)
                     OVER (ORDER BY r.idx ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
          FROM rows r
          WHERE r.tenant_id = %(tenant)s AND r.file_id = %(file)s AND r.idx >= %(first)s AND r.idx < %(end)s
            AND NOT EXISTS (SELECT FROM results d WHERE d.tenant_id = %(tenant)s AND d.job_id = %(job)s AND d.idx = r.idx
                            AND d.idx >= %(first)s AND d.idx < %(end)s)) AS open
    WHERE coalesce(before, 0) < %(bytes)s ORDER BY idx
    """


class Kept(StrEnum):
    """What a claim may be confined to, for a slot that a worker keeps for it."""

    INTERACTIVE = "interactive"
    NEWCOMER = "newcomer"  # a tenant of whom nothing is in work


def claim_any(store: Store, worker: str, limit: int = 1, lease_seconds: float = LEASE_SECONDS, *, only: Kept | None = None) -> list[Lease]:
    """Up to ``limit`` shards whose turn it is, or, of ready ones, those of interactive jobs or of newcomers only. With a broker that is
    away this is how workers find their work. A worker that holds nothing gets no newcomer's shard: a slot is kept beside others."""
    with store.transaction() as conn:
        idle = _idle(conn, worker)
        if idle is None or limit < 1 or (idle and only is Kept.NEWCOMER):
            return []
        turn = {
            "depth": limit + CONTENDERS,
            "limit": limit,
            "redispatch": 0.0,
            "idle": idle,
            "least_priority": INTERACTIVE_PRIORITY if only is Kept.INTERACTIVE else ANY_PRIORITY,
            "only_newcomers": only is Kept.NEWCOMER,
            **SUSPECTS,
        }
        found = list(conn.execute(_LOCK_NEXT, turn))
        if found and found[0].crash_attempts >= MAX_CRASHES:
            return _take(conn, found[:1], worker, lease_seconds, idle=idle)  # a suspect runs alone
        found = [row for row in found if row.crash_attempts < MAX_CRASHES]
        if len(found) < limit and only is None:
            overdue = {"takeover": TAKEOVER_SECONDS, "limit": limit - len(found), "max_crashes": MAX_CRASHES}
            found += conn.execute(_LOCK_OVERDUE, overdue)
        return _take(conn, found, worker, lease_seconds, idle=idle)


def renew(store: Store, leases: Sequence[Lease], lease_seconds: float = LEASE_SECONDS) -> dict[UUID, Verdict]:
    """One heartbeat for all ``leases``. A lost one must not be worked on; a cancelled or paused one is still held, to be let go."""
    asked = {"shards": [lease.shard_id for lease in leases], "epochs": [lease.epoch for lease in leases], "lease": lease_seconds}
    with store.transaction() as conn:
        told = {row.shard_id: holder_told(JobState(row.job_state), paused=row.paused) for row in conn.execute(_RENEW, asked)}
    return {lease.shard_id: told.get(lease.shard_id, "lost") for lease in leases}


def release(store: Store, lease: Lease, *, code: str | None, kind: Literal["drain", "away", "error"], away_seconds: float = 0.0) -> None:
    """Gives a shard back. A drain costs nothing, nor does what runs the model being away, which puts it off for so many seconds; an error
    puts it off, and after too many each open row fails with ``code``.

    Of a job that is being cancelled, nobody else gets it. Raises LeaseLost.
    """
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        row = lock_lease(conn, lease)
        shard, job_state = snapshot(row), JobState(row.job_state)
        if kind == "drain":
            free(conn, store, lease, after_drain(shard, job_state=job_state))
            return
        if kind == "away":
            free(conn, store, lease, after_away(shard, row.now, away_seconds, job_state=job_state))
            return
        jitter = random.random()  # noqa: S311 - spreads load, guards nothing
        record_count(conn, store, lease)
        open_rows = count_open(conn, lease)
        following = after_error(shard, code or "engine_error", row.now, open_rows=open_rows, jitter=jitter, job_state=job_state)
        failed = free(conn, store, lease, following)
    store.tally.rows_failed(lease.task, failed)


def record_sending(store: Store, lease: Lease, rows: Sequence[WorkRow], address: str) -> None:
    """Before texts leave this machine: which rows, and where to. Raises what a record that cannot be written raises."""
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        first_idx, end_idx = min(row.idx for row in rows), max(row.idx for row in rows) + 1
        record_work(
            conn,
            store,
            lease,
            "rows.send",
            object_kind="file",
            object_id=lease.file_id,
            first_idx=first_idx,
            end_idx=end_idx,
            model_version=address,
        )


class Opened(NamedTuple):
    """A job's spec; rows of a shard without a result; and what its file's columns are, of a job that reads them."""

    spec: dict[str, Any]
    rows: list[WorkRow]
    table: Table | None


def open_shard(store: Store, lease: Lease, *, whole: bool = False) -> Opened:
    """The job's spec, and the rows of a shard that have no result yet (the first 64 MiB of them and of what they read of sources, or
    ``whole``: all), opened after the read is on record; with their cells where the job reads them. Raises LeaseLost.

    A row of which a sealed value does not open, or was taken, has failed with ``sealed_value_damaged``, which is on record; its neighbours
    are unharmed. Where the spec does not, or what the columns are, or a key is altered or gone under a lease that holds, all have.
    """
    at = {"tenant": lease.tenant_id, "job": lease.job_id, "file": lease.file_id, "first": lease.first_idx, "end": lease.end_idx}
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        event_id = record_work(
            conn, store, lease, "rows.read", object_kind="file", object_id=lease.file_id, first_idx=lease.first_idx, end_idx=lease.end_idx
        )
        spec_sealed = conn.execute(_SPEC, at).scalar_one_or_none()
        if spec_sealed is None:  # row-level security shows nothing without a live lease
            lock_lease(conn, lease)
            spec_sealed = b""  # somebody took it
        table_sealed = conn.execute(_TABLE, at).scalar_one_or_none() if lease.reads_columns else None
        of_sources = record_sources(conn, store, lease)
        bounds = {"columns": lease.reads_columns, "sources": list(of_sources), "bytes": 1 << 62 if whole else OPEN_BYTES}
        found = bulk.fetch(conn, _ROWS, {**at, **bounds})
        idxs = [idx for idx, *_ in found]
        sources = select_sources(conn, store, lease, of_sources, idxs)
        of_rows = (sealed for *_, body, kept in found for sealed in (body, kept) if sealed is not None)
        sealed_values = [spec_sealed, *(() if table_sealed is None else (table_sealed,)), *of_rows]
        record_digest(conn, lease.tenant_id, event_id, sealed_values, rows=idxs)
        job, file = _openers(conn, store, lease)
    to_open = [None if defect else sealed or b"" for _, _, defect, sealed, _ in found]
    with Opening(store, lease) as opening:
        spec = opening.open(job, "job_specs.spec", lease.job_id, spec_sealed)
        table = None if table_sealed is None else opening.open(file, "files.columns", lease.file_id, table_sealed)
        bodies = file.open_all("rows.body", idxs, to_open)
        if bodies.count(None) != to_open.count(None):
            opening.note_all(file, "rows.body", idxs, to_open, bodies)
        unreadable = spec is None or (table is None and table_sealed is not None)
        rows = [
            WorkRow(idx, endpoint, body, DAMAGED if defect is None and (unreadable or body is None) else defect)
            for (idx, endpoint, defect, *_), body in zip(found, bodies, strict=True)
        ]
        if table is not None:
            _open_cells(opening, file, rows, [kept for *_, kept in found])
        read: dict[str, Any] = {} if spec is None else json.loads(spec)
        if read.get("sources"):
            open_sources(opening, sources, rows, len(read["sources"]))
    return Opened(read, rows, None if table is None else decode_table(table))


def _open_cells(opening: Opening, file: Opener, rows: Sequence[WorkRow], sealed: Sequence[bytes | None]) -> None:
    """What was good when it was uploaded has cells: those of a table."""
    idxs, to_open = [row.idx for row in rows], [None if row.code else value or b"" for row, value in zip(rows, sealed, strict=True)]
    cells = file.open_all("rows.columns", idxs, to_open)
    opening.note_all(file, "rows.columns", idxs, to_open, cells)
    for row, kept in zip(rows, cells, strict=True):
        row.kept = kept
        if kept is None and row.code is None:
            row.fail(DAMAGED)


def _openers(conn: Connection, store: Store, lease: Lease) -> Sequence[Opener]:
    """The job's key, and its file's. Raises LeaseLost where they are not seen because the lease has ended meanwhile."""
    owners: Sequence[Owner] = (("job", lease.job_id), ("file", lease.file_id))
    found = store.keyring.load(conn, lease.tenant_id, owners)
    if len(found) < len(owners):
        lock_lease(conn, lease)
    return [found.get(owner) or BrokenKey(KeyOwner(lease.tenant_id, *owner)) for owner in owners]


# What writing results shares with releasing.


def lock_lease(conn: Connection, lease: Lease) -> Row[Any]:
    """The shard's row, locked, with ``job_state`` and the database's ``now``. Raises LeaseLost where the lease does not hold."""
    row = lock_shard(conn, lease)
    if row is None or row.state != ShardState.LEASED or row.epoch != lease.epoch or not row.unexpired:
        raise LeaseLost
    return row


def lock_shard(conn: Connection, lease: Lease) -> Row[Any] | None:
    return conn.execute(_LOCK_LEASE, {"tenant": lease.tenant_id, "shard": lease.shard_id}).one_or_none()


def snapshot(row: Row[Any]) -> Shard:
    """The locked row, for the pure rules."""
    return Shard(
        first_idx=row.first_idx,
        end_idx=row.end_idx,
        state=ShardState(row.state),
        epoch=row.epoch,
        crash_attempts=row.crash_attempts,
        error_attempts=row.error_attempts,
        last_error=row.last_error,
        not_before=row.not_before,
    )


def record_count(conn: Connection, store: Store, lease: Lease) -> None:
    """Before :func:`count_open` where the transaction has nothing on record: it would see no result."""
    record_work(
        conn, store, lease, "results.count", object_kind="job", object_id=lease.job_id, first_idx=lease.first_idx, end_idx=lease.end_idx
    )


def count_open(conn: Connection, lease: Lease) -> int:
    """How many rows of the shard have no result. The shard must be locked, and an event of it on record."""
    at = {"tenant": lease.tenant_id, "job": lease.job_id, "first": lease.first_idx, "end": lease.end_idx}
    return int(conn.execute(_COUNT_OPEN, at).scalar_one())


def free(conn: Connection, store: Store, lease: Lease, following: Shard | Failing) -> dict[str, int]:
    """Ends the hold on a locked shard. Where it is over for its open rows, each gets its failure: returns how many, by code."""
    failed: dict[str, int] = {}
    shard = following
    if isinstance(shard, Failing):
        at = {"tenant": lease.tenant_id, "job": lease.job_id, "first": lease.first_idx, "end": lease.end_idx}
        record_work(
            conn, store, lease, "results.write", object_kind="job", object_id=lease.job_id, first_idx=lease.first_idx, end_idx=lease.end_idx
        )
        failed = {shard.code: conn.execute(_FAIL_OPEN, {**at, "code": shard.code, "epoch": lease.epoch}).rowcount}
        shard = shard.shard
    conn.execute(
        _FREE,
        {
            "tenant": lease.tenant_id,
            "shard": lease.shard_id,
            "epoch": lease.epoch,
            "state": shard.state.value,
            "not_before": shard.not_before,
            "errors": shard.error_attempts,
            "last_error": shard.last_error,
            "failed": sum(failed.values()),
        },
    )
    return failed


def _idle(conn: Connection, worker: str) -> bool | None:
    """Whether the worker holds nothing; None where it holds a suspect and gets nothing else. Claims of one worker wait for each other."""
    conn.execute(_ONE_AT_A_TIME, {"worker": worker})
    held = conn.execute(_HELD, {"worker": worker, "max_crashes": MAX_CRASHES}).one()
    return None if held.suspect else held.shards == 0


def _take(conn: Connection, locked: Sequence[Row[Any]], worker: str, lease_seconds: float, *, idle: bool) -> list[Lease]:
    """Leases the locked shards, in their order. ``idle``: the worker held nothing until now."""
    if not locked:
        return []
    order = {row.shard_id: at for at, row in enumerate(locked)}
    in_company = not idle or len(order) > 1
    taken = conn.execute(_TAKE, {"shards": list(order), "worker": worker, "lease": lease_seconds, "in_company": in_company})
    return sorted((Lease(**row._mapping) for row in taken), key=lambda lease: order[lease.shard_id])
