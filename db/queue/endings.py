"""How jobs end: done, with every row failed, cancelled, at their deadline, or with their budget used up. Role dispatcher; every move is
compare-and-set."""

from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db.audit.acts import record_duty
from db.connect import Store
from db.lifecycle import OVER_BUDGET, JobState, next_job_state
from db.sweeps import Page, Place, paged, sweep

CANCELLED_AT_ONCE: Final = 5_000  # shards of a sweep
MAX_REASONS: Final = 100  # codes of a job in which every row failed
ENDED_AT_ONCE: Final = 500  # jobs of a sweep; the next one follows at once where there was something to do

_JOBS: Final = """
    SELECT {at} AS at, j.job_id AS id, j.tenant_id, j.job_id, j.chain_id, j.file_id, j.task, j.state, j.retry_count,
           j.deadline <= now() AS deadline_passed, live.shards AS live_shards
    FROM jobs j
    CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM shards s WHERE s.tenant_id = j.tenant_id AND s.job_id = j.job_id AND s.state = 'ready')
                            OR EXISTS (SELECT FROM shards s WHERE s.tenant_id = j.tenant_id AND s.job_id = j.job_id AND s.state = 'leased')
                            AS shards) AS live
    """
# Each state has an index of its own; a look over all shards of a job would read those that are done again and again.
# Those that may move, and no others: a sweep is as long as there is to do, however many jobs are running.
_WITHOUT_WORK: Final = paged(
    _JOBS.format(at="j.created_at") + "WHERE j.state IN ('in_progress', 'finalizing', 'cancelling') AND NOT live.shards", "timestamptz"
)
_OVERDUE: Final = paged(
    _JOBS.format(at="j.deadline") + "WHERE j.state IN ('validating', 'in_progress') AND j.deadline <= now()", "timestamptz"
)
# All of their shards are counted at each round, by index: 10,000 take some 5 ms.
_IS_OVER: Final = """
    WHERE j.state = 'in_progress' AND (j.max_output_tokens IS NOT NULL OR j.run_ends_at IS NOT NULL)
      AND (j.run_ends_at <= now() OR j.max_output_tokens <= (
           SELECT sum(s.output_tokens) FROM shards s WHERE s.tenant_id = j.tenant_id AND s.job_id = j.job_id) - j.spent_before)
    """
_OVER_BUDGET: Final = paged(_JOBS.format(at="j.created_at") + _IS_OVER, "timestamptz")
# Not FOR UPDATE: the reconciler, which has locked a shard that it halves, needs the job to be there for the new half (its foreign key locks
# FOR KEY SHARE), and the end of the job needs that shard. Each would wait for the other.
# A job that was retried since it was looked at is in the same state again, with other shards and another deadline.
_LOCK: Final = text(
    """
    SELECT FROM jobs WHERE tenant_id = :tenant AND job_id = :job AND state = :state AND retry_count = :retries
    FOR NO KEY UPDATE SKIP LOCKED
    """
)
_CANCEL_SHARDS: Final = text(
    """
    WITH waiting AS MATERIALIZED (
        SELECT s.tenant_id, s.shard_id FROM jobs j JOIN shards s ON s.tenant_id = j.tenant_id AND s.job_id = j.job_id
        WHERE j.state = 'cancelling' AND s.state = 'ready' ORDER BY s.shard_id LIMIT :limit
        FOR UPDATE OF s SKIP LOCKED
    )
    UPDATE shards s SET state = 'cancelled', epoch = s.epoch + 1, not_before = NULL
    FROM waiting w WHERE s.tenant_id = w.tenant_id AND s.shard_id = w.shard_id
    """
)
# In the order in which heartbeats lock (as above, and when a job is deleted), so that no two ever wait for each other.
_LOCK_LIVE_SHARDS: Final = text(
    """
    SELECT FROM shards WHERE tenant_id = :tenant AND job_id = :job AND state IN ('ready', 'leased') ORDER BY shard_id FOR UPDATE
    """
)
_EXPIRE_SHARDS: Final = text(
    """
    UPDATE shards SET state = 'expired', epoch = epoch + 1, lease_expires_at = NULL, worker = NULL
    WHERE tenant_id = :tenant AND job_id = :job AND state IN ('ready', 'leased')
    """
)
_TO_FINALIZING: Final = text(
    """
    UPDATE jobs SET state = 'finalizing', finalizing_at = now()
    WHERE tenant_id = :tenant AND job_id = :job AND state = 'in_progress'
    """
)
_END: Final = text(
    """
    UPDATE jobs SET state = CAST(:next AS text),
        completed_at = CASE WHEN :next = 'completed' THEN now() ELSE completed_at END,
        cancelled_at = CASE WHEN :next = 'cancelled' THEN now() ELSE cancelled_at END,
        expired_at = CASE WHEN :next = 'expired' THEN now() ELSE expired_at END,
        failed_at = CASE WHEN :next = 'failed' THEN now() ELSE failed_at END, errors = :reasons, end_code = :end_code,
        results_expire_at = CASE WHEN chain_id IS NULL OR chain_id = job_id THEN now() + make_interval(secs => results_expire_seconds)
            ELSE results_expire_at END,
        completed_count = sums.completed, failed_count = sums.failed,
        input_tokens = sums.input_tokens, output_tokens = sums.output_tokens, metrics = sums.metrics
    FROM (SELECT coalesce(sum(completed_count), 0) AS completed, coalesce(sum(failed_count), 0) AS failed,
                 coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(output_tokens), 0) AS output_tokens,
                 (SELECT jsonb_object_agg(key, total) FROM (
                      SELECT m.key, sum(m.value::float8) AS total FROM shards n, jsonb_each_text(n.metrics) m
                      WHERE n.tenant_id = :tenant AND n.job_id = :job GROUP BY m.key) AS totals) AS metrics
          FROM shards WHERE tenant_id = :tenant AND job_id = :job) AS sums
    WHERE jobs.tenant_id = :tenant AND jobs.job_id = :job AND jobs.state = :state
    RETURNING jobs.row_count - jobs.completed_count - jobs.failed_count
    """
).bindparams(bindparam("reasons", type_=JSONB(none_as_null=True)))
# What the steps of a chain made is kept as long as what its last one made: until then they are read.
_EXPIRE_CHAIN: Final = text(
    """
    UPDATE jobs s SET results_expire_at = j.results_expire_at FROM jobs j
    WHERE j.tenant_id = :tenant AND j.job_id = :job AND s.tenant_id = :tenant AND s.chain_id = :job AND s.job_id <> :job
    """
)
_ALL_FAILED: Final = text(
    """
    SELECT coalesce(sum(failed_count), 0) > 0 AND coalesce(sum(completed_count), 0) = 0
    FROM shards WHERE tenant_id = :tenant AND job_id = :job
    """
)
_REASONS: Final = text(
    """
    SELECT why.code, why.rows, r.line
    FROM (SELECT code, count(*) AS rows, min(idx) AS first_idx FROM results WHERE tenant_id = :tenant AND job_id = :job GROUP BY code
          ORDER BY rows DESC, first_idx LIMIT :limit) AS why
    LEFT JOIN LATERAL (SELECT line FROM rows WHERE tenant_id = :tenant AND file_id = :file AND idx = why.first_idx LIMIT 1) AS r ON true
    ORDER BY why.rows DESC, why.first_idx
    """
)


def finalize_jobs(store: Store, place: Place | None = None) -> int:
    """Ends the jobs whose shards are all over: in_progress → finalizing → completed, or failed where every row did; cancelling → cancelled.
    Returns how many moved.

    ``place``: of the caller's last pass; so :func:`expire_jobs` and whatever else sweeps.
    Raises Unfinished after all others where some could not be moved.
    """

    def finish(store: Store, job: Row[Any]) -> int:
        state = _next(job, deadline_passed=False)
        if state == job.state:
            return 0
        moved = _move(store, job, state)
        if state is JobState.FINALIZING:
            moved += _move(store, job, JobState.COMPLETED, since=JobState.FINALIZING)
        return moved

    return sweep(store, Page.look(store, _WITHOUT_WORK, place, limit=ENDED_AT_ONCE), finish)


def expire_jobs(store: Store, place: Place | None = None) -> int:
    """Ends the jobs whose deadline has passed, also those that wait for what they are to read: what is done is kept, holders of leases
    are fenced off. Returns how many moved."""

    def expire(store: Store, job: Row[Any]) -> int:
        ends = _next(job, deadline_passed=job.deadline_passed) is JobState.EXPIRED
        return _move(store, job, JobState.EXPIRED) if ends else 0

    return sweep(store, Page.look(store, _OVERDUE, place, limit=ENDED_AT_ONCE), expire)


def end_over_budget(store: Store, place: Place | None = None) -> int:
    """Ends the jobs whose budget is used up, as :func:`expire_jobs` does those whose deadline has passed. Returns how many moved."""

    def end(store: Store, job: Row[Any]) -> int:
        ends = next_job_state(JobState(job.state), live_shards=job.live_shards, deadline_passed=False, over_budget=True)
        return _move(store, job, JobState.EXPIRED, end_code=OVER_BUDGET) if ends is JobState.EXPIRED else 0

    return sweep(store, Page.look(store, _OVER_BUDGET, place, limit=ENDED_AT_ONCE), end)


def cancel_shards(store: Store) -> int:
    """Takes the shards of jobs being cancelled out of the queue. Returns how many.

    Those in work end when their holder hears of it, and those that somebody has locked are taken at the next round.
    """
    with store.transaction() as conn:
        return conn.execute(_CANCEL_SHARDS, {"limit": CANCELLED_AT_ONCE}).rowcount


def _next(job: Row[Any], *, deadline_passed: bool) -> JobState:
    return next_job_state(JobState(job.state), live_shards=job.live_shards, deadline_passed=deadline_passed)


def _move(store: Store, job: Row[Any], following: JobState, *, since: JobState | None = None, end_code: str | None = None) -> int:
    """One move in one transaction; 0 where somebody else was there first. Whether a job that is over is completed or failed is decided
    here, where its shards can no longer change."""
    key = {"tenant": job.tenant_id, "job": job.job_id}
    reasons: list[dict[str, object]] | None = None
    with store.transaction(tenant=job.tenant_id) as conn:
        if conn.execute(_LOCK, {**key, "state": since or job.state, "retries": job.retry_count}).one_or_none() is None:
            return 0
        if following is JobState.FINALIZING:
            return conn.execute(_TO_FINALIZING, key).rowcount
        if following is JobState.EXPIRED:
            if conn.execute(_LOCK_LIVE_SHARDS, key).first() is None and job.state != JobState.VALIDATING:
                return 0  # the last shard was finished just now: the job is complete
            conn.execute(_EXPIRE_SHARDS, key)
        if following is JobState.COMPLETED:
            all_failed = bool(conn.execute(_ALL_FAILED, key).scalar_one())
            following = next_job_state(JobState.FINALIZING, live_shards=False, deadline_passed=False, all_failed=all_failed)
            reasons = _reasons(conn, job) if following is JobState.FAILED else None
        record_duty(conn, store, job.tenant_id, f"job.{following}", object_kind="job", object_id=job.job_id, job_id=job.job_id)
        end = {**key, "state": since or job.state, "next": following.value, "reasons": reasons, "end_code": end_code}
        without_outcome = conn.execute(_END, end).scalar_one_or_none()
        if job.chain_id == job.job_id:
            conn.execute(_EXPIRE_CHAIN, key)
    if without_outcome is None:
        return 0
    store.tally.job_ended(job.task, following.value)
    if following in {JobState.CANCELLED, JobState.EXPIRED} and without_outcome:
        store.tally.rows_failed(job.task, {end_code or f"batch_{following}": without_outcome})
    return 1


def _reasons(conn: Connection, job: Row[Any]) -> list[dict[str, object]]:
    """Why all rows failed, code by code: how many, and the line of the first."""
    found = conn.execute(_REASONS, {"tenant": job.tenant_id, "job": job.job_id, "file": job.file_id, "limit": MAX_REASONS})
    return [{"code": row.code or "engine_error", "line": row.line, "rows": row.rows} for row in found]
