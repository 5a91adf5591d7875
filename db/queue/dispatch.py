"""From a new job to shards, and which shard next. Role dispatcher: ids, counts and codes; it holds no key and reads no ciphertext."""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from db.audit.acts import record_duty
from db.connect import Store
from db.jobs.turn import take_turn
from db.lifecycle import JobState, cut_points, rows_per_shard
from db.queue.turns import ANY_PRIORITY, CANDIDATES, SUSPECTS
from db.sweeps import Page, Place, paged, sweep

CUT_AT_ONCE: Final = 200  # jobs of a round; the next round follows at once where there was something to do
MAX_LISTED_ERRORS: Final = 100
REDISPATCH_SECONDS: Final = 60.0  # a message that nobody acted on for so long is taken for lost; workers also look for themselves

# A job reads what its sources made of its rows: before they have ended, and while they are run again, it is not cut.
_SOURCES_ENDED: Final = """
    NOT EXISTS (SELECT FROM job_sources s JOIN jobs source ON source.tenant_id = s.tenant_id AND source.job_id = s.source_job_id
                WHERE s.tenant_id = j.tenant_id AND s.job_id = j.job_id
                  AND source.state IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
    """
_VALIDATING: Final = paged(
    f"""
    SELECT j.created_at AS at, j.job_id AS id, j.tenant_id, j.job_id, j.file_id, j.task, j.model, f.row_count, f.size_chars, f.defect_count
    FROM jobs j JOIN files f ON f.tenant_id = j.tenant_id AND f.file_id = j.file_id
    WHERE j.state = 'validating' AND {_SOURCES_ENDED}
    """,  # noqa: S608 - constants
    "timestamptz",
)
_START: Final = text(
    f"""
    UPDATE jobs j SET state = 'in_progress', in_progress_at = now(), run_ends_at = now() + make_interval(secs => max_seconds)
    WHERE tenant_id = :tenant AND job_id = :job AND state = 'validating' AND {_SOURCES_ENDED} RETURNING job_id
    """  # noqa: S608 - constants
)
# A step of a chain that is run again has its shards already: it waited for the steps before it to be run again.
_CUT: Final = text(
    """
    INSERT INTO shards (tenant_id, shard_id, job_id, file_id, first_idx, end_idx, state, priority, deadline, cost, whole)
    SELECT j.tenant_id, gen_random_uuid(), j.job_id, j.file_id, part.first, part.last, 'ready', j.priority, j.deadline,
           (part.last - part.first) * CAST(:row_cost AS real), :whole
    FROM jobs j, unnest(CAST(:firsts AS integer[]), CAST(:lasts AS integer[])) AS part (first, last)
    WHERE j.tenant_id = :tenant AND j.job_id = :job
      AND NOT EXISTS (SELECT FROM shards s WHERE s.tenant_id = :tenant AND s.job_id = :job)
    """
)
_LISTED_ERRORS: Final = text(
    """
    SELECT defect, line FROM rows WHERE tenant_id = :tenant AND file_id = :file AND defect IS NOT NULL ORDER BY idx LIMIT :limit
    """
)
_DEFECTS: Final = text(
    """
    SELECT split_part(defect, ':', 1) AS code, count(*) AS rows FROM rows
    WHERE tenant_id = :tenant AND file_id = :file AND defect IS NOT NULL GROUP BY 1
    """
)
_FAIL: Final = text(
    """
    UPDATE jobs SET state = 'failed', failed_at = now(), errors = :errors
    WHERE tenant_id = :tenant AND job_id = :job AND state = 'validating'
    """
).bindparams(bindparam("errors", type_=JSONB))

_OFFER: Final = """
    , picked AS MATERIALIZED (
        SELECT s.tenant_id, s.shard_id, c.turn, c.priority, c.turn_at
        FROM shards s JOIN candidates c ON c.tenant_id = s.tenant_id AND c.shard_id = s.shard_id
        WHERE s.state = 'ready'
        ORDER BY c.turn, c.priority DESC, c.turn_at, c.shard_id LIMIT :depth
        FOR UPDATE OF s SKIP LOCKED
    ), offered AS (
        UPDATE shards s SET dispatched_at = now() FROM picked p
        WHERE s.tenant_id = p.tenant_id AND s.shard_id = p.shard_id
        RETURNING s.shard_id, s.epoch, p.turn, p.priority, p.turn_at
    )
    SELECT shard_id, epoch FROM offered ORDER BY turn, priority DESC, turn_at, shard_id
    """
_PICK: Final = text(CANDIDATES + _OFFER)
_ANY: Final = {"idle": True, "only_newcomers": False, "least_priority": ANY_PRIORITY, **SUSPECTS}


ShardChars = Callable[[str | None, str], int | None]


def cut_validating_jobs(store: Store, shard_chars: ShardChars, place: Place | None = None) -> int:
    """Cuts new jobs into shards and starts them; fails those whose every row is defective. Returns how many moved.

    ``shard_chars(model, task)`` is how many characters make some seconds of work, or None where the task needs all rows at once.
    Raises Unfinished after all others where some could not be cut.
    """
    waiting = Page.look(store, _VALIDATING, place, limit=CUT_AT_ONCE)
    return sweep(store, waiting, lambda store, job: _cut(store, job, shard_chars))


def pick_dispatchable(store: Store, limit: int, *, redispatch_seconds: float = REDISPATCH_SECONDS) -> list[tuple[UUID, int]]:
    """The next ``limit`` shards to offer to workers, with their epochs, in the order to offer them; marks them as offered.

    One that nobody claimed for ``redispatch_seconds`` is offered again. Publish after this returns: it has committed.
    """
    with store.transaction() as conn:
        picked = conn.execute(_PICK, _ANY | {"depth": limit, "redispatch": redispatch_seconds})
        return [(row.shard_id, row.epoch) for row in picked]


def _cut(store: Store, job: Row[Any], shard_chars: ShardChars) -> bool:
    if job.defect_count >= job.row_count:
        return _fail(store, job)
    key = {"tenant": job.tenant_id, "job": job.job_id}
    with store.transaction(tenant=job.tenant_id) as conn:
        if conn.execute(_START, key).one_or_none() is None:
            return False
        conn.execute(_CUT, {**key, **_parts(job, shard_chars(job.model, job.task))})
        take_turn(conn, job.tenant_id, job.job_id)
        record_duty(conn, store, job.tenant_id, "job.start", object_kind="job", object_id=job.job_id, job_id=job.job_id)
    return True


def _parts(job: Row[Any], target_chars: int | None) -> dict[str, object]:
    """Where the shards of a job begin and end, and what a row costs, in shards of ``target_chars``. None: one shard, which costs as one
    and stays whole."""
    if target_chars is None:
        return {"firsts": [0], "lasts": [job.row_count], "row_cost": 1 / job.row_count, "whole": True}
    row_cost = max(1.0, job.size_chars / job.row_count) / max(1, target_chars)
    points = cut_points(job.row_count, rows_per_shard(job.row_count, job.size_chars, target_chars))
    return {"firsts": points[:-1], "lasts": points[1:], "row_cost": row_cost, "whole": False}


def _fail(store: Store, job: Row[Any]) -> bool:
    """A job in which no row can be run."""
    at = {"tenant": job.tenant_id, "file": job.file_id}
    with store.transaction(tenant=job.tenant_id) as conn:
        listed = conn.execute(_LISTED_ERRORS, {**at, "limit": MAX_LISTED_ERRORS})
        errors = [{"code": row.defect, "line": row.line} for row in listed]
        if conn.execute(_FAIL, {"tenant": job.tenant_id, "job": job.job_id, "errors": errors}).rowcount != 1:
            return False
        record_duty(conn, store, job.tenant_id, "job.fail", object_kind="job", object_id=job.job_id, job_id=job.job_id)
        defects = {row.code: row.rows for row in conn.execute(_DEFECTS, at)}
    store.tally.job_ended(job.task, JobState.FAILED.value)
    store.tally.rows_failed(job.task, defects)
    return True
