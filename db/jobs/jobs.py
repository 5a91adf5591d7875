"""Jobs as their owner sees them: looked at, their outputs deleted.

What moves a job by itself is the dispatcher's: see :mod:`db.queue`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, Text, cast, select, tuple_

from db.actors import Actor
from db.audit.acts import act, not_found, record_act
from db.audit.damage import Opening
from db.audit.events import about_job, record_digest
from db.connect import Store
from db.errors import Conflict, NotFound
from db.files import files
from db.id_ranges import IdRange
from db.jobs.chains import IS_INNER_STEP, IS_THERE, NO_JOB, RESULTS_EXPIRED, refuse_if_read
from db.jobs.clear_json import checked
from db.jobs.erasing import Which, erase_results
from db.jobs.in_order import rows_in_order
from db.jobs.looks import Shown, keep_look, look_on_record
from db.jobs.pace import first_writes, rows_per_second, sums_lately
from db.jobs.shard_counts import Counts, count_shards
from db.lifecycle import INTERACTIVE_PRIORITY, LIVE_JOBS, JobState, ended_by, pausable
from db.moments import border_of, is_known
from db.schema import job_specs, jobs
from db.sealing.cells import Opener
from db.sealing.keys import Owner

# Columns of jobs that no record has.
_NOT_SHOWN: Final = {
    "request_hmac",
    "reads_columns",
    "rerun_from_idx",
    "turn_at",
    "spent_before",
    "run_ends_at",
    "deleted_at",
    "erase_from_idx",
    "results_expire_seconds",
}


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as its owner sees it. Counts are exact, also while it runs. ``shards``: how many in each state; empty once it has ended.

    ``errors``: [{"code", "line"}] of a job whose file has no row to run; where every row failed, [{"code", "line", "rows"}], by code, with
    the line of the first. ``metrics``: sums over the micro-batches, once it has ended. ``rows_in_order``: of a running job that was asked
    for by itself, how far its results can be read now; ``pace``, its rows a second, and ``lately``, of one that writes texts what its
    shards counted, see :mod:`db.jobs.pace`.
    ``worker_seconds``: that it takes, and ``promised_at``, when it was to be done, as was known when it was made.
    ``max_output_tokens``, ``max_seconds``: its budget. ``end_code``: what is told of rows that never ran, where its state does not say it.
    ``file_name``: of its input file, while that is there. ``damaged``: metadata or file name do not open, and are None, as they are for who
    may not read; or errors, metrics or a moment are nothing that was written here.
    ``chain_id``: of a step of a chain, the job that is its last, which has all ``steps``, itself among them; ``step``: which it is, from 1.
    """

    job_id: UUID
    tenant_id: UUID
    file_id: UUID
    principal_id: UUID
    task: str
    endpoint: str
    model: str | None
    head_id: UUID | None
    state: str
    priority: int
    completion_window_seconds: int
    row_count: int
    completed_count: int
    failed_count: int
    input_tokens: int
    output_tokens: int
    errors: list[dict[str, Any]] | None
    metrics: dict[str, float] | None
    created_at: datetime
    deadline: datetime
    in_progress_at: datetime | None
    finalizing_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    expired_at: datetime | None
    cancelling_at: datetime | None
    cancelled_at: datetime | None
    output_deleted_at: datetime | None
    errors_deleted_at: datetime | None
    results_expire_at: datetime | None
    paused_at: datetime | None
    retry_count: int
    worker_seconds: float | None
    promised_at: datetime | None
    max_output_tokens: int | None
    max_seconds: int | None
    end_code: str | None
    metadata: dict[str, str] | None
    shards: dict[str, int]
    rows_in_order: int | None = None
    pace: float | None = None
    lately: dict[str, float] | None = None
    file_name: str | None = None
    damaged: bool = False
    chain_id: UUID | None = None
    step: int | None = None
    step_name: str | None = None
    steps: "tuple[JobRecord, ...]" = ()

    @property
    def ended(self) -> bool:
        return self.state not in LIVE_JOBS

    def has(self, which: Which) -> bool:
        """Whether these results of it can still be there: not deleted, not past their expiry."""
        deleted_at = self.output_deleted_at if which == "output" else self.errors_deleted_at
        return deleted_at is None and (self.results_expire_at is None or self.results_expire_at > datetime.now(UTC))

    @property
    def paused(self) -> bool:
        """A pause that it had when it ended says nothing more."""
        return self.paused_at is not None and pausable(JobState(self.state))

    @property
    def interactive(self) -> bool:
        return self.priority >= INTERACTIVE_PRIORITY


def get_job(store: Store, actor: Actor, job_id: UUID) -> JobRecord:
    """Raises NotFound for a missing or foreign job."""
    return _look(store, actor, job_id, watched=False)


def get_changed(store: Store, actor: Actor, job_id: UUID) -> JobRecord:
    """As :func:`get_job`, after a change that may have taken long: it is done, and is not to be told as one that was not."""
    store.renew_patience()
    return get_job(store, actor, job_id)


def watch_job(store: Store, actor: Actor, job_id: UUID) -> JobRecord:
    """As :func:`get_job`, for who asks again and again: see :mod:`db.jobs.looks`."""
    return _look(store, actor, job_id, watched=True)


def _look(store: Store, actor: Actor, job_id: UUID, *, watched: bool) -> JobRecord:
    with store.transaction(tenant=actor.tenant_id) as conn:
        shown = look_on_record(conn, actor, job_id) if watched else None
        sealers = None if shown is None else _cached_sealers(store, actor, shown)
        on_record = shown is not None and sealers is not None
        if shown is None or sealers is None:
            event_id = record_act(conn, store, actor, "job.read", object_kind="job", object_id=job_id, job_id=job_id)
            found = _with_steps(conn, actor, _fetch(conn, actor, jobs.c.job_id == job_id))
            shown, sealers = _select_shown(conn, store, actor, found)
            record_digest(conn, actor.tenant_id, event_id, shown.ciphertexts)
            if found:
                keep_look(conn, job_id, shown)
        else:
            found = _with_steps(conn, actor, _fetch(conn, actor, jobs.c.job_id == job_id))
        counts = _count(conn, actor, found)
        alive = bool(found) and found[0].state in LIVE_JOBS
        in_order_of = {row.job_id: rows_in_order(conn, actor.tenant_id, row.job_id) for row in found if row.state in LIVE_JOBS}
        in_order = in_order_of.get(job_id)
        writes = first_writes(conn, actor.tenant_id, job_id) if alive else []
        says = in_order is not None and any(part.output_tokens for part in counts.get(job_id, {}).values())
        lately = sums_lately(conn, actor.tenant_id, job_id, in_order or 0) if says else None
    if not found:
        raise no_such_job(store, actor, "job.read", job_id)
    with Opening(store, actor, on_record=on_record) as opening:
        (job,) = _Page(counts, shown, sealers).records(opening, found)
    pace = rows_per_second(job.completed_count + job.failed_count, writes, datetime.now(UTC))
    steps = tuple(replace(step, rows_in_order=in_order_of.get(step.job_id)) for step in job.steps)
    return replace(job, rows_in_order=in_order, pace=pace, lately=lately, steps=steps)


def list_jobs(
    store: Store, actor: Actor, *, limit: int, after: UUID | None = None, within: IdRange | None = None
) -> tuple[list[JobRecord], bool]:
    """A page of the tenant's jobs, newest first, and whether there are more. ``after``: the last id of the page before; NotFound where
    unknown. ``within``: only jobs whose ids lie there."""
    which: list[Any] = [~IS_INNER_STEP]
    if within is not None:
        which.append(jobs.c.job_id.between(within.first, within.last))
    with store.transaction(tenant=actor.tenant_id) as conn:
        last: str | None = None
        if after is not None:
            last = conn.execute(
                select(cast(jobs.c.created_at, Text)).where(jobs.c.tenant_id == actor.tenant_id, jobs.c.job_id == after)
            ).scalar_one_or_none()
            which.append(tuple_(jobs.c.created_at, jobs.c.job_id) < border_of(last, after))
        if after is None or last is not None:
            event_id = record_act(conn, store, actor, "job.list")
            page = _fetch(conn, actor, *which, limit=limit + 1)
            found = _with_steps(conn, actor, page[:limit])
            told = _Page(_count(conn, actor, found), *_select_shown(conn, store, actor, found))
            record_digest(conn, actor.tenant_id, event_id, told.shown.ciphertexts, objects=[row.job_id for row in found])
    if after is not None and last is None:
        raise no_such_job(store, actor, "job.list", after)
    with Opening(store, actor) as opening:
        return told.records(opening, found), len(page) > limit


def delete_outputs(store: Store, actor: Actor, job_id: UUID, which: Which) -> bool:
    """Deletes the answers of an ended job, or its failures; False where they are out of sight, and go page by page from now on. Raises
    Conflict (``job_not_ended``) before, and (``batch_in_use``) while others read them; NotFound where they are gone."""
    column = jobs.c.output_deleted_at if which == "output" else jobs.c.errors_deleted_at
    with act(store, actor, f"results.delete.{which}", **about_job(job_id)) as (conn, _):
        state = conn.execute(
            select(jobs.c.state)
            .where(jobs.c.tenant_id == actor.tenant_id, jobs.c.job_id == job_id, column.is_(None), ~RESULTS_EXPIRED)
            .with_for_update()
        ).scalar_one_or_none()
        if state is None:
            raise NotFound(NO_JOB)
        if state in LIVE_JOBS:
            raise Conflict(code="job_not_ended", message="The batch is still running: cancel it, or wait for its end.")
        refuse_if_read(conn, actor.tenant_id, [job_id])
        return erase_results(conn, actor.tenant_id, job_id, (which,))


def no_such_job(store: Store, actor: Actor, action: str, job_id: UUID) -> NotFound:
    return not_found(store, actor, action, "job", job_id, NO_JOB)


def _fetch(conn: Connection, actor: Actor, *which: Any, limit: int | None = None) -> list[Row[Any]]:
    return list(
        conn.execute(
            select(jobs)
            .where(jobs.c.tenant_id == actor.tenant_id, IS_THERE, *which)
            .order_by(jobs.c.created_at.desc(), jobs.c.job_id.desc())
            .limit(limit)
        )
    )


@dataclass(frozen=True, slots=True)
class _Page:
    """What a page of jobs needs besides its rows: shards' counts, and what of them is sealed, with its sealers by job and by file."""

    counts: Mapping[UUID, Mapping[str, Counts]]
    shown: Shown
    sealers: Mapping[UUID, Opener]

    def records(self, opening: Opening, found: list[Row[Any]]) -> list[JobRecord]:
        """Of chains the last steps, with all; of a step that was asked for by itself, that."""
        every = {row.job_id: self._record(opening, row) for row in found}
        told = [job for job in every.values() if job.chain_id is None or job.chain_id == job.job_id or job.chain_id not in every]
        return [replace(job, steps=_steps_of(job, every.values())) if job.chain_id == job.job_id else job for job in told]

    def _record(self, opening: Opening, row: Row[Any]) -> JobRecord:
        values = {name: value for name, value in row._mapping.items() if name not in _NOT_SHOWN}
        metadata = file_name = step_name = None
        if (sealed_step := self.shown.steps.get(row.job_id)) is not None:
            step_name = opening.open_text(self.sealers[row.job_id], "job_specs.step", row.job_id, sealed_step)
        if (sealed_metadata := self.shown.metadata.get(row.job_id)) is not None:
            metadata = opening.open(self.sealers[row.job_id], "job_specs.metadata", row.job_id, sealed_metadata)
        if (sealed_name := self.shown.file_names.get(row.file_id)) is not None:
            file_name = opening.open_text(self.sealers[row.file_id], "files.name", row.file_id, sealed_name)
        damaged = (metadata is None) != (sealed_metadata is None) or (file_name is None) != (sealed_name is None)
        damaged |= (step_name is None) != (sealed_step is None)
        values["end_code"] = ended_by(row.end_code)
        values["errors"], errors_fit = checked("errors", row.errors)
        values["metrics"], metrics_fit = checked("metrics", row.metrics)
        if not (errors_fit and metrics_fit and all(map(is_known, values.values()))):
            opening.note_plain("jobs", row.job_id)
            damaged = True
        by_state = self.counts.get(row.job_id, {})
        if by_state:
            whole = sum(by_state.values(), Counts())
            values |= {"completed_count": whole.completed, "failed_count": whole.failed}
            values |= {"input_tokens": whole.input_tokens, "output_tokens": whole.output_tokens}
        return JobRecord(
            **values,
            metadata=None if metadata is None else json.loads(metadata),
            file_name=file_name,
            step_name=step_name,
            damaged=damaged,
            shards={state: part.shards for state, part in by_state.items()},
        )


def _with_steps(conn: Connection, actor: Actor, found: list[Row[Any]]) -> list[Row[Any]]:
    """With those of the chains that end with one of them."""
    chains = [row.job_id for row in found if row.chain_id == row.job_id]
    return [*found, *_fetch(conn, actor, jobs.c.chain_id.in_(chains), IS_INNER_STEP)] if chains else found


def _steps_of(job: JobRecord, every: Iterable[JobRecord]) -> tuple[JobRecord, ...]:
    return tuple(sorted((step for step in every if step.chain_id == job.job_id), key=lambda step: step.step or 0))


def _count(conn: Connection, actor: Actor, found: list[Row[Any]]) -> Mapping[UUID, Mapping[str, Counts]]:
    live = {row.job_id: row.retry_count for row in found if row.state in LIVE_JOBS}
    return count_shards(conn, actor.tenant_id, live) if live else {}


def _select_shown(conn: Connection, store: Store, actor: Actor, found: list[Row[Any]]) -> tuple[Shown, Mapping[UUID, Opener]]:
    """With what opens it, by owner; nothing for who may not read. Keys are looked for first: of what is deleted meanwhile both are gone,
    and of what is there and has no key, somebody took it."""
    if not actor.may_read:
        return Shown({}, {}, {}), {}
    tenant_id = actor.tenant_id
    job_ids, file_ids = [row.job_id for row in found], {row.file_id for row in found}
    owners: list[Owner] = [*(("job", job_id) for job_id in job_ids), *(("file", file_id) for file_id in file_ids)]
    openers = store.keyring.openers(conn, tenant_id, owners)  # not in one query each
    specs = conn.execute(
        select(job_specs.c.job_id, job_specs.c.metadata_sealed, job_specs.c.step_sealed)
        .join(jobs, (jobs.c.tenant_id == job_specs.c.tenant_id) & (jobs.c.job_id == job_specs.c.job_id))
        .where(jobs.c.tenant_id == tenant_id, IS_THERE, jobs.c.job_id.in_(job_ids))
        .where(job_specs.c.metadata_sealed.is_not(None) | job_specs.c.step_sealed.is_not(None))
        .order_by(job_specs.c.job_id)
    ).all()
    shown = Shown(
        {row.job_id: row.metadata_sealed for row in specs if row.metadata_sealed is not None},
        files.sealed_names(conn, tenant_id, file_ids),
        {row.job_id: row.step_sealed for row in specs if row.step_sealed is not None},
    )
    return shown, {owner_id: opener for (_, owner_id), opener in openers.items()}


def _cached_sealers(store: Store, actor: Actor, shown: Shown) -> Mapping[UUID, Opener] | None:
    """Of what was read before; None where a key must be read again."""
    cached = {
        **{job_id: store.keyring.cached(actor.tenant_id, "job", job_id) for job_id in (*shown.metadata, *shown.steps)},
        **{file_id: store.keyring.cached(actor.tenant_id, "file", file_id) for file_id in shown.file_names},
    }
    sealers: dict[UUID, Opener] = {owner_id: sealer for owner_id, sealer in cached.items() if sealer is not None}
    return sealers if len(sealers) == len(cached) else None


def read_spec(store: Store, actor: Actor, job_id: UUID) -> dict[str, Any]:
    """The sealed half of a job: its defaults, a head's name."""
    with act(store, actor, "job.spec.read", **about_job(job_id)) as (conn, event_id):
        sealed = conn.execute(
            select(job_specs.c.spec_sealed).where(job_specs.c.tenant_id == actor.tenant_id, job_specs.c.job_id == job_id)
        ).scalar_one_or_none()
        if sealed is None:
            raise NotFound(NO_JOB)
        sealer = store.keyring.sealer(conn, actor.tenant_id, "job", job_id)
        record_digest(conn, actor.tenant_id, event_id, [sealed])
    spec: dict[str, Any] = json.loads(sealer.open("job_specs.spec", job_id, sealed))
    return spec
