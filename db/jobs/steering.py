"""What a job's owner may ask of it on its way: cancel, pause, go on, go sooner or later, run its failed rows again, be deleted. Role API.

Each is one transaction, compare-and-set on the job's state; of a chain it is done to all steps, each on record. Where shards are touched
they are locked in the order in which heartbeats and deadlines lock them; a new epoch, or none at all, fences off whoever is at work on
them.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, text

from db.actors import Actor
from db.audit.acts import act, record_act
from db.audit.events import about_job
from db.connect import Store
from db.errors import Conflict, StoreError
from db.files import files
from db.jobs.chains import lock_chain, refuse_if_read
from db.jobs.erasing import erase_job
from db.jobs.in_order import rows_in_order
from db.jobs.jobs import JobRecord, get_changed
from db.jobs.turn import take_turn
from db.lifecycle import INTERACTIVE_PRIORITY, EndedStep, JobState, cancelled_chain, pausable, retried_chain

_LOCK_SHARDS: Final = text("SELECT FROM shards WHERE tenant_id = :tenant AND job_id = :job ORDER BY shard_id FOR UPDATE")
_CANCEL: Final = text("UPDATE jobs SET state = :next, cancelling_at = now() WHERE tenant_id = :tenant AND job_id = :job AND state = :state")
_PAUSE: Final = text("UPDATE jobs SET paused_at = coalesce(paused_at, now()) WHERE tenant_id = :tenant AND job_id = :job")
_RESUME: Final = text("UPDATE jobs SET paused_at = NULL WHERE tenant_id = :tenant AND job_id = :job")
_ORDER_JOB: Final = text("UPDATE jobs SET priority = :priority WHERE tenant_id = :tenant AND job_id = :job")
_ORDER_SHARDS: Final = text(
    """
    UPDATE shards SET priority = :priority WHERE tenant_id = :tenant AND job_id = :job AND state IN ('ready', 'leased')
    """
)
# The failures go, with what they counted; the answers stay where they are. Each shard looks up its own failures, by index.
_UNCOUNT_FAILURES: Final = text(
    """
    UPDATE shards s SET failed_count = s.failed_count - own.rows, input_tokens = s.input_tokens - own.input_tokens,
        output_tokens = s.output_tokens - own.output_tokens
    FROM shards t CROSS JOIN LATERAL (
        SELECT count(*) AS rows, sum(r.input_tokens) AS input_tokens, sum(r.output_tokens) AS output_tokens FROM results r
        WHERE r.tenant_id = :tenant AND r.job_id = :job AND r.outcome = 2 AND r.idx >= t.first_idx AND r.idx < t.end_idx) AS own
    WHERE t.tenant_id = :tenant AND t.job_id = :job AND own.rows > 0 AND s.tenant_id = :tenant AND s.shard_id = t.shard_id
    """
)
_FORGET_FAILURES: Final = text("DELETE FROM results WHERE tenant_id = :tenant AND job_id = :job AND outcome = 2")
_IS_WHOLE: Final = text(
    """
    SELECT coalesce(bool_or(whole) AND sum(completed_count) < :rows, false) FROM shards WHERE tenant_id = :tenant AND job_id = :job
    """
)
_UNCOUNT_ALL: Final = text(
    """
    UPDATE shards SET completed_count = 0, failed_count = 0, input_tokens = 0, output_tokens = 0
    WHERE tenant_id = :tenant AND job_id = :job
    """
)
# Applies `after_retry` to the shards with open rows, as the results say.
_OFFER_AGAIN: Final = text(
    """
    UPDATE shards SET state = 'ready', epoch = epoch + 1, priority = :priority, deadline = :deadline, not_before = NULL,
        dispatched_at = NULL, crash_attempts = 0, error_attempts = 0, last_error = NULL
    WHERE tenant_id = :tenant AND job_id = :job
      AND (SELECT count(*) FROM results r WHERE r.tenant_id = :tenant AND r.job_id = :job AND r.idx >= first_idx AND r.idx < end_idx)
          < end_idx - first_idx
    """
)
_RETRY: Final = text(
    """
    UPDATE jobs SET state = :next, retry_count = retry_count + 1, deadline = now() + make_interval(secs => completion_window_seconds),
        in_progress_at = CASE WHEN :next = 'validating' THEN NULL ELSE in_progress_at END, paused_at = NULL, finalizing_at = NULL,
        completed_at = NULL, failed_at = NULL, expired_at = NULL, cancelling_at = NULL, cancelled_at = NULL, errors = NULL,
        promised_at = NULL, end_code = NULL, run_ends_at = now() + make_interval(secs => max_seconds),
        spent_before = (SELECT coalesce(sum(output_tokens), 0) FROM shards WHERE tenant_id = :tenant AND job_id = :job),
        head_id = CASE WHEN head_id IS NOT NULL THEN gen_random_uuid() END
    WHERE tenant_id = :tenant AND job_id = :job AND state = :state RETURNING deadline, priority, row_count
    """
)
# What a step that stays as it is has made is read again by those that run: it goes with what the last of them makes.
_KEEP: Final = text("UPDATE jobs SET results_expire_at = NULL WHERE tenant_id = :tenant AND job_id = :job")
_RERUN_FROM: Final = text("UPDATE jobs SET rerun_from_idx = least(rerun_from_idx, :first) WHERE tenant_id = :tenant AND job_id = :job")
_ERASE_RESULTS: Final = text("DELETE FROM results WHERE tenant_id = :tenant AND job_id = :job")


def cancel_job(store: Store, actor: Actor, job_id: UUID) -> JobRecord:
    """Asks for the job's end; what is done is kept. Asking again changes nothing. Raises Conflict (``cannot_cancel``, 400) once it has
    ended otherwise."""
    with act(store, actor, "job.cancel", **about_job(job_id)) as (conn, _):
        steps = _lock(conn, store, actor, "job.cancel", job_id)
        following = cancelled_chain([JobState(step.state) for step in steps])
        if following is None:
            message = f"The batch is {steps[-1].state} and can no longer be cancelled."
            raise Conflict(code="cannot_cancel", message=message, status=400)
        for step, state in zip(steps, following, strict=True):
            if state != step.state:
                conn.execute(_CANCEL, {"tenant": actor.tenant_id, "job": step.job_id, "state": step.state, "next": state.value})
    return get_changed(store, actor, job_id)


def pause_job(store: Store, actor: Actor, job_id: UUID) -> JobRecord:
    """Nothing more of it is begun. What is with a model is finished and written; its deadline goes on. Asking again changes nothing.

    Raises NotFound; Conflict (``cannot_pause``) where it ends by itself within moments, or has ended.
    """
    return _set_paused(store, actor, job_id, _PAUSE, "job.pause")


def resume_job(store: Store, actor: Actor, job_id: UUID) -> JobRecord:
    """Goes on with a paused job. Raises NotFound; Conflict (``cannot_resume``) where it has ended."""
    return _set_paused(store, actor, job_id, _RESUME, "job.resume")


def set_priority(store: Store, actor: Actor, job_id: UUID, priority: int) -> JobRecord:
    """Puts a job before or behind its tenant's others, also what is waiting of it already. Raises NotFound; Conflict (``cannot_reorder``)
    where it has ended, or where somebody waits for it: that is decided when it is made."""
    if not -INTERACTIVE_PRIORITY < priority < INTERACTIVE_PRIORITY:
        limit = INTERACTIVE_PRIORITY - 1
        raise StoreError(code="invalid_priority", message=f"A priority goes from -{limit} to {limit}.", status=400)
    with act(store, actor, "job.priority", **about_job(job_id)) as (conn, _):
        steps = _lock(conn, store, actor, "job.priority", job_id)
        job = steps[-1]
        if not pausable(JobState(job.state)) or job.priority >= INTERACTIVE_PRIORITY:
            what = "interactive" if job.priority >= INTERACTIVE_PRIORITY else job.state
            raise Conflict(code="cannot_reorder", message=f"The batch is {what}: its priority cannot be changed.")
        for step in steps:
            key = {"tenant": actor.tenant_id, "job": step.job_id, "priority": priority}
            _lock_shards(conn, key)
            conn.execute(_ORDER_JOB, key)
            conn.execute(_ORDER_SHARDS, key)
    return get_changed(store, actor, job_id)


def retry_job(store: Store, actor: Actor, job_id: UUID) -> JobRecord:
    """Runs the rows again that failed, and those that never ran, of a job that has ended; answers are kept. Its window begins anew. Of a
    task that needs all rows at once, all of them run again, and a training makes another head.

    Raises NotFound; Conflict: ``cannot_retry`` where the job has not ended or never had a row to run, ``nothing_to_retry`` where every row
    has its answer, ``batch_in_use`` where another job that runs reads these,
    ``file_deleted`` and ``output_deleted`` where what it takes is gone.
    """
    with act(store, actor, "job.retry", **about_job(job_id)) as (conn, _):
        _retry(conn, actor, _lock(conn, store, actor, "job.retry", job_id))
    return get_changed(store, actor, job_id)


def delete_job(store: Store, actor: Actor, job_id: UUID) -> bool:
    """Removes a job in whatever state, with its results, its settings and its key. Who is at work on it stores nothing more. False where it
    is out of sight, and its rows go page by page from now on.

    Raises NotFound; Conflict (``batch_in_use``) while another job reads its results. The record of what was done with it stays.
    """
    with act(store, actor, "job.delete", **about_job(job_id)) as (conn, _):
        step_ids = [step.job_id for step in _lock(conn, store, actor, "job.delete", job_id)]
        refuse_if_read(conn, actor.tenant_id, step_ids)
        gone = [erase_job(conn, actor.tenant_id, step_id) for step_id in step_ids]
    for step_id in step_ids:
        store.keyring.forget(actor.tenant_id, "job", step_id)
    return all(gone)


def _lock(conn: Connection, store: Store, actor: Actor, action: str, job_id: UUID) -> list[Row[Any]]:
    """As :func:`lock_chain`; that something is done to the other steps is on record too."""
    steps = lock_chain(conn, actor, job_id)
    for step in steps[:-1]:
        record_act(conn, store, actor, action, **about_job(step.job_id))
    return steps


def _lock_shards(conn: Connection, key: dict[str, Any]) -> int:
    """How many there are. A shard that was waited for may have been halved meanwhile, and its new half is seen by the next look only."""
    locked = -1
    while (found := conn.execute(_LOCK_SHARDS, key).rowcount) != locked:
        locked = found
    return locked


def _set_paused(store: Store, actor: Actor, job_id: UUID, change: Any, action: str) -> JobRecord:
    with act(store, actor, action, **about_job(job_id)) as (conn, _):
        steps = _lock(conn, store, actor, action, job_id)
        if not pausable(JobState(steps[-1].state)):
            verb = action.removeprefix("job.")
            raise Conflict(code=f"cannot_{verb}", message=f"The batch is {steps[-1].state}: there is nothing to {verb}.")
        for step in steps:
            conn.execute(change, {"tenant": actor.tenant_id, "job": step.job_id})
    return get_changed(store, actor, job_id)


def _retry(conn: Connection, actor: Actor, steps: Sequence[Row[Any]]) -> None:
    """Of a chain, in order: the first step with a row to run again goes on, and those behind it wait for it."""
    has_shards = [bool(_lock_shards(conn, {"tenant": actor.tenant_id, "job": step.job_id})) for step in steps]
    if any(step.output_deleted_at is not None or step.errors_deleted_at is not None or step.results_expired for step in steps):
        raise Conflict(code="output_deleted", message="A part of this batch's results was deleted: make a new batch of its file.")
    following = retried_chain(
        [
            EndedStep(JobState(step.state), cut, open_rows=step.completed_count < step.row_count)
            for step, cut in zip(steps, has_shards, strict=True)
        ]
    )
    state = steps[-1].state
    if following is None:
        if state == JobState.FAILED:
            message = "No row of the batch's file can be read, so that none of it ever ran: upload it corrected and make a new batch."
            raise Conflict(code="cannot_retry", message=message)
        raise Conflict(code="cannot_retry", message=f"The batch is {state}: only one that has ended can be run again where it failed.")
    if not files.is_readable(conn, actor.tenant_id, steps[-1].file_id):
        raise Conflict(code="file_deleted", message="The batch's input file was deleted: upload it again and make a new batch.")
    changed = [(step, state) for step, state in zip(steps, following, strict=True) if state != step.state]
    if not changed:
        raise Conflict(code="nothing_to_retry", message="Every row of this batch has its answer.")
    # One that waits goes on waiting.
    refuse_if_read(conn, actor.tenant_id, [step.job_id for step in steps], {JobState.IN_PROGRESS.value})
    for step in steps:
        conn.execute(_KEEP, {"tenant": actor.tenant_id, "job": step.job_id})
    for step, next_state in changed:
        _retry_step(conn, actor, step, next_state)


def _retry_step(conn: Connection, actor: Actor, job: Row[Any], following: JobState) -> None:
    key = {"tenant": actor.tenant_id, "job": job.job_id}
    if conn.execute(_IS_WHOLE, {**key, "rows": job.row_count}).scalar_one():
        conn.execute(_UNCOUNT_ALL, key)
        conn.execute(_ERASE_RESULTS, key)
    else:
        conn.execute(_UNCOUNT_FAILURES, key)
        conn.execute(_FORGET_FAILURES, key)
    retried = conn.execute(_RETRY, {**key, "state": job.state, "next": following.value}).one()
    again = conn.execute(_OFFER_AGAIN, {**key, "deadline": retried.deadline, "priority": retried.priority}).rowcount
    if again:
        take_turn(conn, actor.tenant_id, job.job_id)
    conn.execute(_RERUN_FROM, {**key, "first": rows_in_order(conn, actor.tenant_id, job.job_id)})
