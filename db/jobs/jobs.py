"""Jobs as their owner sees them: made, looked at, cancelled, their outputs deleted.

What moves a job by itself is the dispatcher's: see :mod:`db.queue`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Connection, DateTime, Interval, Row, Text, cast, func, insert, literal, select, text, tuple_, update

from db.actors import Actor
from db.audit.acts import act, attempt, find_sealer, not_found, record_act, refusing
from db.audit.damage import Opening
from db.audit.events import about_job, record_digest
from db.connect import Store
from db.errors import Conflict, NotFound, StoreError
from db.files import files
from db.files.stored_names import Names
from db.id_ranges import IdRange
from db.jobs.clear_json import checked
from db.jobs.erasing import Which, erase_results
from db.jobs.in_order import rows_in_order
from db.jobs.looks import Shown, keep_look, look_on_record
from db.jobs.pace import first_writes, rows_per_second, sums_lately
from db.jobs.pins import mean_the_same, pin
from db.jobs.shard_counts import Counts, count_shards
from db.lifecycle import INTERACTIVE_PRIORITY, LIVE_JOBS, MAX_INTERACTIVE_ROWS, JobState, cancelled_job, pausable
from db.moments import border_of, is_known
from db.schema import job_specs, jobs
from db.sealing.cells import Opener
from db.sealing.keys import Owner

NO_JOB: Final = "There is no batch with this id."
IS_THERE: Final = jobs.c.deleted_at.is_(None)  # of a job: not one that is being erased
RESULTS_EXPIRED: Final = func.coalesce(jobs.c.results_expire_at <= func.now(), False)
REQUEST_HALF_BYTES: Final = 16  # of `request_hmac`: the first names the request, the second is of its body
# Columns of jobs that no record has.
_NOT_SHOWN: Final = {"request_hmac", "rerun_from_idx", "turn_at", "deleted_at", "erase_from_idx", "results_expire_seconds"}
TWIN_SECONDS: Final = 600  # a client that got no answer tries again within minutes

_TWIN: Final = text(
    """
    SELECT job_id, request_hmac FROM jobs
    WHERE tenant_id = :tenant AND request_hmac BETWEEN :first AND :last AND created_at > now() - make_interval(secs => :seconds)
      AND deleted_at IS NULL
    ORDER BY created_at DESC LIMIT 1
    """
)
# Two tries of one request at once: the second waits, and then finds the first one's job.
_ONE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:tenant, :salt))")


@dataclass(frozen=True, slots=True)
class RequestRef:
    """Digests of the request that makes a job. ``name``: the same for a request that is sent again. ``body``: what it asks for. ``keyed``:
    its caller named it; else it is known by its body alone, which asks for something else once its heads and label sets mean other
    versions."""

    name: bytes
    body: bytes
    keyed: bool = True


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a job is made of. ``spec`` is sealed: the defaults merged under every row's body, a head's name. ``model`` is used where a row
    names none. ``completion_window``: how long it may take, or until when. ``request`` finds the job again when its request is
    repeated. ``head_id``: of the head that the job makes. ``results_expire_seconds``: how long after its end its results are kept.
    ``names``: heads and label sets that its rows and defaults name, None of a task whose rows name none: the spec pins the versions
    that they mean now. ``other_names``: where it is not known what its rows name, all that they may; pinned too, but no part of what the
    request asks for."""

    task: str
    endpoint: str
    file_id: UUID
    model: str | None
    spec: Mapping[str, object]
    metadata: Mapping[str, str] | None
    priority: int
    completion_window: timedelta | datetime
    request: RequestRef | None = None
    head_id: UUID | None = None
    results_expire_seconds: int | None = None
    names: Names | None = None
    other_names: Names | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as its owner sees it. Counts are exact, also while it runs. ``shards``: how many in each state; empty once it has ended.

    ``errors``: [{"code", "line"}] of a job whose file has no row to run; where every row failed, [{"code", "line", "rows"}], by code, with
    the line of the first. ``metrics``: sums over the micro-batches, once it has ended. ``rows_in_order``: of a running job that was asked
    for by itself, how far its results can be read now; ``pace``, its rows a second, and ``lately``, of one that writes texts what its
    shards counted, see :mod:`db.jobs.pace`.
    ``file_name``: of its input file, while that is there. ``damaged``: metadata or file name do not open, and are None, as they are for who
    may not read; or errors, metrics or a moment are nothing that was written here.
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
    metadata: dict[str, str] | None
    shards: dict[str, int]
    rows_in_order: int | None = None
    pace: float | None = None
    lately: dict[str, float] | None = None
    file_name: str | None = None
    damaged: bool = False

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


def create_job(store: Store, actor: Actor, new: NewJob, *, find_twin: bool = False) -> JobRecord:
    """Makes a job over a processed file, in one transaction; the dispatcher cuts it into shards.

    With ``find_twin``, a job that the same request made within ten minutes is returned instead, whatever has become of it since (but a
    request that nobody named is another one once its heads and label sets mean other versions: it must not get their answers); Conflict
    (``idempotency_key_reused``) where that request had another body. Raises NotFound where there is no such file, Conflict
    (``file_not_processed``) where it is still being uploaded, StoreError (``too_many_rows``) where it is interactive and has
    more than 256 rows.
    """
    job_id = uuid4()
    request_hmac: bytes | None = None
    if new.request is not None:
        own = find_sealer(store, actor, "tenant", actor.tenant_id)
        halves = (own.hmac("jobs.request", actor.principal_id.bytes + digest) for digest in (new.request.name, new.request.body))
        request_hmac = b"".join(half[:REQUEST_HALF_BYTES] for half in halves)
    with attempt(store, actor, "job.create", object_kind="file", object_id=new.file_id) as conn:
        twin = None if request_hmac is None or not find_twin else _find_twin(conn, store, actor, request_hmac)
        if twin is not None and not _asks_the_same(conn, store, actor, new, twin):
            twin = None
        if twin is None:
            _insert_job(conn, store, actor, new, job_id, request_hmac)
        else:
            job_id = twin
    metadata = None if new.metadata is None else dict(new.metadata)  # the caller's own words, whether it may read or not
    return replace(get_changed(store, actor, job_id), metadata=metadata)


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
            found = _fetch(conn, actor, jobs.c.job_id == job_id)
            shown, sealers = _select_shown(conn, store, actor, found)
            record_digest(conn, actor.tenant_id, event_id, shown.ciphertexts)
            if found:
                keep_look(conn, job_id, shown)
        else:
            found = _fetch(conn, actor, jobs.c.job_id == job_id)
        counts = _count(conn, actor, found)
        alive = bool(found) and found[0].state in LIVE_JOBS
        in_order = rows_in_order(conn, actor.tenant_id, job_id) if alive else None
        writes = first_writes(conn, actor.tenant_id, job_id) if alive else []
        says = in_order is not None and any(part.output_tokens for part in counts.get(job_id, {}).values())
        lately = sums_lately(conn, actor.tenant_id, job_id, in_order or 0) if says else None
    if not found:
        raise no_such_job(store, actor, "job.read", job_id)
    with Opening(store, actor, on_record=on_record) as opening:
        (job,) = _Page(counts, shown, sealers).records(opening, found)
    pace = rows_per_second(job.completed_count + job.failed_count, writes, datetime.now(UTC))
    return replace(job, rows_in_order=in_order, pace=pace, lately=lately)


def list_jobs(
    store: Store, actor: Actor, *, limit: int, after: UUID | None = None, within: IdRange | None = None
) -> tuple[list[JobRecord], bool]:
    """A page of the tenant's jobs, newest first, and whether there are more. ``after``: the last id of the page before; NotFound where
    unknown. ``within``: only jobs whose ids lie there."""
    which: list[Any] = [] if within is None else [jobs.c.job_id.between(within.first, within.last)]
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
            found = page[:limit]
            told = _Page(_count(conn, actor, found), *_select_shown(conn, store, actor, found))
            record_digest(conn, actor.tenant_id, event_id, told.shown.ciphertexts, objects=[row.job_id for row in found])
    if after is not None and last is None:
        raise no_such_job(store, actor, "job.list", after)
    with Opening(store, actor) as opening:
        return told.records(opening, found), len(page) > limit


def cancel_job(store: Store, actor: Actor, job_id: UUID) -> JobRecord:
    """Asks for the job's end; what is done is kept. Asking again changes nothing. Raises Conflict (``cannot_cancel``, 400) once it has
    ended otherwise."""
    with act(store, actor, "job.cancel", **about_job(job_id)) as (conn, _):
        state = conn.execute(
            select(jobs.c.state).where(jobs.c.tenant_id == actor.tenant_id, jobs.c.job_id == job_id, IS_THERE).with_for_update()
        ).scalar_one_or_none()
        if state is None:
            raise NotFound(NO_JOB)
        following = cancelled_job(JobState(state))
        if following is None:
            raise Conflict(code="cannot_cancel", message=f"The batch is {state} and can no longer be cancelled.", status=400)
        if following != state:
            conn.execute(
                update(jobs)
                .where(jobs.c.tenant_id == actor.tenant_id, jobs.c.job_id == job_id, jobs.c.state == state)
                .values(state=following.value, cancelling_at=func.now())
            )
    return get_changed(store, actor, job_id)


def delete_outputs(store: Store, actor: Actor, job_id: UUID, which: Which) -> bool:
    """Deletes the answers of an ended job, or its failures; False where they are out of sight, and go page by page from now on. Raises
    Conflict (``job_not_ended``) before, NotFound where they are gone."""
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
        return erase_results(conn, actor.tenant_id, job_id, (which,))


def no_such_job(store: Store, actor: Actor, action: str, job_id: UUID) -> NotFound:
    return not_found(store, actor, action, "job", job_id, NO_JOB)


def _find_twin(conn: Connection, store: Store, actor: Actor, request_hmac: bytes) -> UUID | None:
    salt = int.from_bytes(request_hmac[:8], "big", signed=True)
    conn.execute(_ONE_AT_A_TIME, {"tenant": str(actor.tenant_id), "salt": salt})
    name = request_hmac[:REQUEST_HALF_BYTES]
    bounds = {"first": name, "last": name + b"\xff" * (REQUEST_HALF_BYTES + 1)}
    twin = conn.execute(_TWIN, {"tenant": actor.tenant_id, "seconds": TWIN_SECONDS, **bounds}).one_or_none()
    if twin is None:
        return None
    job_id: UUID = twin.job_id
    with refusing(store, actor, "job.create", **about_job(job_id)):
        if twin.request_hmac != request_hmac:
            raise Conflict(code="idempotency_key_reused", message="This Idempotency-Key came with another request before.")
    return job_id


def _asks_the_same(conn: Connection, store: Store, actor: Actor, new: NewJob, twin: UUID) -> bool:
    """Of a job that came of the same body."""
    if new.request is None or new.request.keyed or new.names is None:
        return True
    record_act(conn, store, actor, "job.read", **about_job(twin))
    own = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
    return mean_the_same(conn, own, actor.tenant_id, twin, new.names, pins_others=new.other_names is not None)


def _insert_job(conn: Connection, store: Store, actor: Actor, new: NewJob, job_id: UUID, request_hmac: bytes | None) -> None:
    """Raises what :func:`create_job` does."""
    record_act(conn, store, actor, "job.create", **about_job(job_id))
    file = files.lock_for_job(conn, actor.tenant_id, new.file_id)
    if file is None:
        raise NotFound(files.NO_FILE)
    if file.state != "processed":
        raise Conflict(code="file_not_processed", message="The input file is still being uploaded: wait until its status is processed.")
    if new.priority >= INTERACTIVE_PRIORITY and file.row_count > MAX_INTERACTIVE_ROWS:
        message = f"An interactive job has at most {MAX_INTERACTIVE_ROWS} rows; this file has more: run it as bulk."
        raise StoreError(code="too_many_rows", message=message, status=400)
    sealer = store.keyring.new_data_key(conn, actor.tenant_id, "job", job_id)
    window = new.completion_window
    deadline = literal(window, DateTime(timezone=True)) if isinstance(window, datetime) else func.now() + literal(window, Interval)
    conn.execute(
        insert(jobs).values(
            tenant_id=actor.tenant_id,
            job_id=job_id,
            file_id=new.file_id,
            principal_id=actor.principal_id,
            task=new.task,
            endpoint=new.endpoint,
            model=new.model,
            head_id=new.head_id,
            state=JobState.VALIDATING.value,
            priority=new.priority,
            completion_window_seconds=func.greatest(1, func.ceil(func.extract("epoch", deadline - func.now()))),
            row_count=file.row_count,
            request_hmac=request_hmac,
            results_expire_seconds=new.results_expire_seconds,
            deadline=deadline,
        )
    )
    spec = dict(new.spec)
    if new.names is not None:
        own = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        spec["pins"] = pin(conn, own, actor.tenant_id, job_id, new.names | (new.other_names or Names())).as_spec()
    conn.execute(
        insert(job_specs).values(
            tenant_id=actor.tenant_id,
            job_id=job_id,
            spec_sealed=sealer.seal("job_specs.spec", job_id, _json(spec)),
            metadata_sealed=None if new.metadata is None else sealer.seal("job_specs.metadata", job_id, _json(new.metadata)),
        )
    )


def _json(value: Mapping[str, object]) -> bytes:
    """ASCII, so that nothing a client may send fails to encode with an error that quotes it."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise StoreError(code="invalid_spec", message="The batch's defaults or metadata are not plain JSON.", status=400) from None


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
        return [self._record(opening, row) for row in found]

    def _record(self, opening: Opening, row: Row[Any]) -> JobRecord:
        values = {name: value for name, value in row._mapping.items() if name not in _NOT_SHOWN}
        metadata = file_name = None
        if (sealed_metadata := self.shown.metadata.get(row.job_id)) is not None:
            metadata = opening.open(self.sealers[row.job_id], "job_specs.metadata", row.job_id, sealed_metadata)
        if (sealed_name := self.shown.file_names.get(row.file_id)) is not None:
            file_name = opening.open_text(self.sealers[row.file_id], "files.name", row.file_id, sealed_name)
        damaged = (metadata is None) != (sealed_metadata is None) or (file_name is None) != (sealed_name is None)
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
            damaged=damaged,
            shards={state: part.shards for state, part in by_state.items()},
        )


def _count(conn: Connection, actor: Actor, found: list[Row[Any]]) -> Mapping[UUID, Mapping[str, Counts]]:
    live = {row.job_id: row.retry_count for row in found if row.state in LIVE_JOBS}
    return count_shards(conn, actor.tenant_id, live) if live else {}


def _select_shown(conn: Connection, store: Store, actor: Actor, found: list[Row[Any]]) -> tuple[Shown, Mapping[UUID, Opener]]:
    """With what opens it, by owner; nothing for who may not read. Keys are looked for first: of what is deleted meanwhile both are gone,
    and of what is there and has no key, somebody took it."""
    if not actor.may_read:
        return Shown({}, {}), {}
    tenant_id = actor.tenant_id
    job_ids, file_ids = [row.job_id for row in found], {row.file_id for row in found}
    owners: list[Owner] = [*(("job", job_id) for job_id in job_ids), *(("file", file_id) for file_id in file_ids)]
    openers = store.keyring.openers(conn, tenant_id, owners)  # not in one query each
    specs = conn.execute(
        select(job_specs.c.job_id, job_specs.c.metadata_sealed)
        .join(jobs, (jobs.c.tenant_id == job_specs.c.tenant_id) & (jobs.c.job_id == job_specs.c.job_id))
        .where(jobs.c.tenant_id == tenant_id, IS_THERE, jobs.c.job_id.in_(job_ids), job_specs.c.metadata_sealed.is_not(None))
        .order_by(job_specs.c.job_id)
    )
    shown = Shown({row.job_id: row.metadata_sealed for row in specs}, files.sealed_names(conn, tenant_id, file_ids))
    return shown, {owner_id: opener for (_, owner_id), opener in openers.items()}


def _cached_sealers(store: Store, actor: Actor, shown: Shown) -> Mapping[UUID, Opener] | None:
    """Of what was read before; None where a key must be read again."""
    cached = {
        **{job_id: store.keyring.cached(actor.tenant_id, "job", job_id) for job_id in shown.metadata},
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
