"""What becomes of shards whose lease ran out, or whose holder is known to be dead: offered again, halved around a row that kills its
workers, or ended with that row's failure.

Role dispatcher. Each shard in a transaction of its own, compare-and-set on (state, epoch), by the database's clock: several reconcilers do
no harm, and a holder that comes back finds a new epoch.
"""

from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, text

from db.audit.acts import record_duty
from db.audit.events import About
from db.connect import Store
from db.lifecycle import Failing, JobState, Shard, ShardState, Split, after_crash
from db.sweeps import Page, Place, paged, sweep

REAPED_AT_ONCE: Final = 1000

_FOUND: Final = """
    SELECT s.lease_expires_at AS at, s.shard_id AS id, s.tenant_id, s.shard_id, s.epoch FROM shards s WHERE s.state = 'leased' AND
    """
_EXPIRED: Final = paged(_FOUND + "s.lease_expires_at <= now()", "timestamptz")
_OF_THE_DEAD: Final = paged(_FOUND + "s.worker = :dead", "timestamptz")
_LOCK: Final = text(
    """
    SELECT s.tenant_id, s.shard_id, s.job_id, s.file_id, s.first_idx, s.end_idx, s.state, s.epoch, s.worker, s.crash_attempts,
           s.error_attempts, s.last_error, s.in_company, s.whole, s.priority, s.deadline, s.cost, j.state AS job_state, j.task,
           CAST(extract(epoch FROM clock_timestamp()) AS float8) AS now
    FROM shards s JOIN jobs j ON j.tenant_id = s.tenant_id AND j.job_id = s.job_id
    WHERE s.tenant_id = :tenant AND s.shard_id = :shard AND s.epoch = :epoch
      AND s.state = 'leased' AND (s.lease_expires_at <= clock_timestamp() OR s.worker = CAST(:dead AS text))
    FOR UPDATE OF s SKIP LOCKED
    """
)
_HOLDS: Final = text("SELECT EXISTS (SELECT FROM shards WHERE state = 'leased' AND worker = :worker)")
_OPEN_ROWS: Final = text(
    """
    SELECT idx FROM generate_series(:first, :end - 1) AS idx
    WHERE NOT EXISTS (SELECT FROM results r WHERE r.tenant_id = :tenant AND r.job_id = :job AND r.idx = idx.idx
                      AND r.idx >= :first AND r.idx < :end)
    ORDER BY idx
    """
)
_STORED: Final = text(
    """
    SELECT count(*) FILTER (WHERE r.outcome = 1) AS completed, count(*) FILTER (WHERE r.outcome = 2) AS failed FROM results r
    WHERE r.tenant_id = :tenant AND r.job_id = :job AND r.idx >= :first AND r.idx < :end
    """
)
_FREE: Final = text(
    """
    UPDATE shards SET state = :state, epoch = :next_epoch, end_idx = :end, lease_expires_at = NULL, worker = NULL, dispatched_at = NULL,
        not_before = to_timestamp(:not_before), crash_attempts = :crashes, last_error = :last_error, cost = :cost,
        completed_count = completed_count + :completed, failed_count = failed_count + :failed
    WHERE tenant_id = :tenant AND shard_id = :shard AND epoch = :epoch AND state = 'leased'
    """
)
_LAPSE: Final = text(
    "UPDATE shards SET lease_expires_at = clock_timestamp() WHERE tenant_id = :tenant AND shard_id = :shard AND epoch = :epoch"
)
_INSERT_HALF: Final = text(
    """
    INSERT INTO shards (tenant_id, shard_id, job_id, file_id, first_idx, end_idx, state, priority, deadline, not_before, crash_attempts,
                        last_error, cost, last_worker, completed_count, failed_count)
    VALUES (:tenant, :shard, :job, :file, :first, :end, 'ready', :priority, :deadline, to_timestamp(:not_before), :crashes, :last_error,
            :cost, :last_worker, :completed, :failed)
    """
)
_FAIL_ROWS: Final = text(
    """
    INSERT INTO results (tenant_id, job_id, idx, outcome, code, epoch)
    SELECT :tenant, :job, idx, 2, :code, :epoch FROM unnest(CAST(:open AS integer[])) AS idx
    """
)


def reap_leases(store: Store, place: Place | None = None, *, dead: str | None = None) -> list[UUID]:
    """Frees the shards whose lease ran out; or, whatever their leases, those of ``dead`` (host:pid:start), a process that is known to have
    ended. Returns their ids.

    To call a living worker dead costs work and nothing else: like any holder that was thought dead, it finds its lease gone. Rows that
    were the death of it are left to the next look for leases that ran out: who looks there counts them.
    Raises Unfinished after all others where some could not be freed.
    """
    if dead is None:
        expired = Page.look(store, _EXPIRED, place, limit=REAPED_AT_ONCE)
    else:
        expired = Page.look(store, _OF_THE_DEAD, place, limit=REAPED_AT_ONCE, dead=dead)
    reaped: list[UUID] = []

    def free(store: Store, row: Row[Any]) -> int:
        if _reap(store, row, dead=dead):
            reaped.append(row.shard_id)
            return 1
        return 0

    sweep(store, expired, free)
    return reaped


def holds_leases(store: Store, worker: str) -> bool:
    """Whether a shard is leased to ``worker``, its lease good or not."""
    with store.transaction() as conn:
        return bool(conn.execute(_HOLDS, {"worker": worker}).scalar_one())


def _reap(store: Store, expired: Row[Any], *, dead: str | None = None) -> bool:
    key = {"tenant": expired.tenant_id, "shard": expired.shard_id, "epoch": expired.epoch, "dead": dead}
    with store.transaction(tenant=expired.tenant_id) as conn:
        row = conn.execute(_LOCK, key).one_or_none()
        if row is None:
            return False
        where = {"tenant": row.tenant_id, "job": row.job_id, "first": row.first_idx, "end": row.end_idx}
        open_idx = list(conn.execute(_OPEN_ROWS, where).scalars())
        shard = Shard(
            first_idx=row.first_idx,
            end_idx=row.end_idx,
            state=ShardState(row.state),
            epoch=row.epoch,
            worker=row.worker,
            crash_attempts=row.crash_attempts,
            error_attempts=row.error_attempts,
            last_error=row.last_error,
            in_company=row.in_company,
            whole=row.whole,
        )
        following = after_crash(shard, row.now, open_idx=open_idx, job_state=JobState(row.job_state))
        match following:
            case Failing() if dead is not None:
                conn.execute(_LAPSE, key)
                return False
            case Failing(freed, code):
                conn.execute(_FAIL_ROWS, {"tenant": row.tenant_id, "job": row.job_id, "code": code, "epoch": row.epoch, "open": open_idx})
                _free(conn, row, freed, failed=len(open_idx))
                _record(conn, store, row, "results.write", open_idx[0], open_idx[-1] + 1)
            case Split(first, second):
                # Rows are stored in any order: what the second half has already is counted there.
                stored = conn.execute(_STORED, {**where, "first": second.first_idx}).one()
                _free(conn, row, first, cost=row.cost / 2, completed=-stored.completed, failed=-stored.failed)
                _insert(conn, row, second, stored)
                _record(conn, store, row, "shard.split", row.first_idx, row.end_idx)
            case freed:
                _free(conn, row, freed)
                _record(conn, store, row, "shard.reap", row.first_idx, row.end_idx)
    if isinstance(following, Failing):
        store.tally.rows_failed(row.task, {following.code: len(open_idx)})
    return True


def _free(conn: Connection, row: Row[Any], shard: Shard, *, cost: float | None = None, completed: int = 0, failed: int = 0) -> None:
    conn.execute(
        _FREE,
        {
            "tenant": row.tenant_id,
            "shard": row.shard_id,
            "epoch": row.epoch,
            "next_epoch": shard.epoch,
            "state": shard.state.value,
            "end": shard.end_idx,
            "not_before": shard.not_before,
            "crashes": shard.crash_attempts,
            "last_error": shard.last_error,
            "cost": row.cost if cost is None else cost,
            "completed": completed,
            "failed": failed,
        },
    )


def _insert(conn: Connection, row: Row[Any], shard: Shard, stored: Row[Any]) -> None:
    conn.execute(
        _INSERT_HALF,
        {
            "tenant": row.tenant_id,
            "shard": uuid4(),
            "job": row.job_id,
            "file": row.file_id,
            "first": shard.first_idx,
            "end": shard.end_idx,
            "priority": row.priority,
            "deadline": row.deadline,
            "not_before": shard.not_before,
            "crashes": shard.crash_attempts,
            "last_error": shard.last_error,
            "cost": row.cost / 2,
            "last_worker": row.worker,
            "completed": stored.completed,
            "failed": stored.failed,
        },
    )


def _record(conn: Connection, store: Store, row: Row[Any], action: str, first_idx: int, end_idx: int) -> None:
    about = About(object_kind="shard", object_id=row.shard_id, first_idx=first_idx, end_idx=end_idx, job_id=row.job_id)
    record_duty(conn, store, row.tenant_id, action, **about)
