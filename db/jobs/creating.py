"""How a job is made: in one transaction, once for each request that asks for it. The dispatcher cuts it into shards."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import Connection, DateTime, Interval, func, insert, literal, select, text

from db.actors import Actor
from db.audit.acts import attempt, find_sealer, record_act, refusing
from db.audit.events import about_job
from db.connect import Store
from db.errors import Conflict, NotFound, StoreError
from db.files import files
from db.files.stored_names import Names
from db.jobs.chains import IS_THERE, RESULTS_EXPIRED, steps_of
from db.jobs.forecast import Promise
from db.jobs.jobs import JobRecord, get_changed
from db.jobs.pins import mean_the_same, pin
from db.lifecycle import INTERACTIVE_PRIORITY, MAX_INTERACTIVE_ROWS, JobState
from db.schema import job_sources, job_specs, jobs

INPUT_STEP: Final = "input"  # what a job whose output is another's input is called there
REQUEST_HALF_BYTES: Final = 16  # of `request_hmac`: the first names the request, the second is of its body
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
    request asks for. ``reads_columns``: its rows' cells are opened with them.

    ``before``: the steps before it, in order, of a chain, whose last step this is; what is said of the whole (file, metadata, priority,
    window, request, expiry) is said here. ``step``: what it is called there. ``source_id``: the job whose output is its input: what its
    rows, and those of all steps, read first.
    ``max_output_tokens``, ``max_seconds``: the budget, of a chain that of each step. ``foresee``: of so many rows with so many characters,
    when they will be done; ``refuse_late``: no job, where that is after its window."""

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
    reads_columns: bool = False
    step: str | None = None
    before: "tuple[NewJob, ...]" = ()
    source_id: UUID | None = None
    max_output_tokens: int | None = None
    max_seconds: int | None = None
    foresee: Callable[[int, int], Promise] = lambda _rows, _chars: Promise()
    refuse_late: bool = False


def create_job(store: Store, actor: Actor, new: NewJob, *, find_twin: bool = False) -> JobRecord:
    """Makes a job over a processed file, or all jobs of a chain, in one transaction; the dispatcher cuts them into shards.

    With ``find_twin``, a job that the same request made within ten minutes is returned instead, whatever has become of it since (but a
    request that nobody named is another one once its heads and label sets mean other versions: it must not get their answers); Conflict
    (``idempotency_key_reused``) where that request had another body. Raises NotFound where there is no such file, Conflict
    (``file_not_processed``) where it is still being uploaded, StoreError (``too_many_rows``) where it is interactive and has
    more than 256 rows, Conflict (``would_be_late``) where it would be late and is not to be made then.
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
            _insert_jobs(conn, store, actor, new, job_id, request_hmac)
        else:
            job_id = twin
    metadata = None if new.metadata is None else dict(new.metadata)  # the caller's own words, whether it may read or not
    return replace(get_changed(store, actor, job_id), metadata=metadata)


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
    if new.request is None or new.request.keyed:
        return True
    asked: dict[UUID, NewJob] = {twin: new}
    if new.before:
        asked = dict(zip(steps_of(conn, actor.tenant_id, twin), (*new.before, new), strict=True))
    for job_id, step in asked.items():
        if step.names is None:
            continue
        record_act(conn, store, actor, "job.read", **about_job(job_id))
        own = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        if not mean_the_same(conn, own, actor.tenant_id, job_id, step.names, pins_others=step.other_names is not None):
            return False
    return True


def _insert_jobs(conn: Connection, store: Store, actor: Actor, new: NewJob, job_id: UUID, request_hmac: bytes | None) -> None:
    """Of a chain all steps, each of which reads those before it. Raises what :func:`create_job` does."""
    sources = [] if new.source_id is None else [_lock_source(conn, actor, new.source_id, new.file_id)]
    for number, step in enumerate((*new.before, new), start=1):
        last = step is new
        step_id = job_id if last else uuid4()
        place = {"chain_id": job_id, "step": number} if new.before else {}
        told = {"sources": [{"name": source.name, "task": source.task} for source in sources]} if sources else {}
        own = replace(step, spec={**step.spec, **told}, metadata=new.metadata if last else None)
        _insert_job(conn, store, actor, own, new, step_id, place, request_hmac if last else None)
        read = [{"number": at, "source_job_id": source.job_id} for at, source in enumerate(sources, start=1)]
        if read:
            conn.execute(insert(job_sources), [{"tenant_id": actor.tenant_id, "job_id": step_id, **each} for each in read])
        sources.append(_Source(step_id, step.step or "", step.task))


class _Source(NamedTuple):
    """A job whose results others read; they call it ``name``."""

    job_id: UUID
    name: str
    task: str


def _lock_source(conn: Connection, actor: Actor, source_id: UUID, file_id: UUID) -> _Source:
    """The job whose output is read, which is there until this transaction has ended. Raises NotFound, as for a file that is not there."""
    found = conn.execute(
        select(jobs.c.task)
        .where(jobs.c.tenant_id == actor.tenant_id, jobs.c.job_id == source_id, jobs.c.file_id == file_id)
        .where(IS_THERE, jobs.c.output_deleted_at.is_(None), ~RESULTS_EXPIRED)
        .with_for_update(key_share=True)
    ).scalar_one_or_none()
    if found is None:
        raise NotFound(files.NO_FILE)
    return _Source(source_id, INPUT_STEP, found)


def _insert_job(
    conn: Connection,
    store: Store,
    actor: Actor,
    new: NewJob,
    whole: NewJob,
    job_id: UUID,
    place: Mapping[str, object],
    request_hmac: bytes | None,
) -> None:
    """``whole``: the last step, which says what is so for all. ``place``: in the chain."""
    record_act(conn, store, actor, "job.create", **about_job(job_id))
    file = files.lock_for_job(conn, actor.tenant_id, whole.file_id)
    if file is None:
        raise NotFound(files.NO_FILE)
    if file.state != "processed":
        raise Conflict(code="file_not_processed", message="The input file is still being uploaded: wait until its status is processed.")
    if whole.priority >= INTERACTIVE_PRIORITY and file.row_count > MAX_INTERACTIVE_ROWS:
        message = f"An interactive job has at most {MAX_INTERACTIVE_ROWS} rows; this file has more: run it as bulk."
        raise StoreError(code="too_many_rows", message=message, status=400)
    window = whole.completion_window
    promise = new.foresee(file.row_count - file.defect_count, file.size_chars)
    if new.refuse_late and is_late(promise, window):
        raise too_late(promise)
    sealer = store.keyring.new_data_key(conn, actor.tenant_id, "job", job_id)
    deadline = literal(window, DateTime(timezone=True)) if isinstance(window, datetime) else func.now() + literal(window, Interval)
    conn.execute(
        insert(jobs).values(
            tenant_id=actor.tenant_id,
            job_id=job_id,
            file_id=whole.file_id,
            principal_id=actor.principal_id,
            task=new.task,
            endpoint=new.endpoint,
            model=new.model,
            head_id=new.head_id,
            state=JobState.VALIDATING.value,
            priority=whole.priority,
            completion_window_seconds=func.greatest(1, func.ceil(func.extract("epoch", deadline - func.now()))),
            row_count=file.row_count,
            request_hmac=request_hmac,
            results_expire_seconds=whole.results_expire_seconds,
            reads_columns=new.reads_columns,
            deadline=deadline,
            **place,
            max_output_tokens=whole.max_output_tokens,
            max_seconds=whole.max_seconds,
            worker_seconds=promise.worker_seconds,
            promised_at=None if promise.seconds is None else func.now() + literal(timedelta(seconds=promise.seconds), Interval),
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
            step_sealed=None if new.step is None else sealer.seal("job_specs.step", job_id, new.step.encode()),
        )
    )


def is_late(promise: Promise, window: timedelta | datetime) -> bool:
    """Whether the job would be done after its window, as far as that is known."""
    left = window - datetime.now(UTC) if isinstance(window, datetime) else window
    return promise.seconds is not None and promise.seconds > left.total_seconds()


def too_late(promise: Promise) -> Conflict:
    at = datetime.now(UTC) + timedelta(seconds=promise.seconds or 0.0)
    message = (
        f"The batch would be done at {at:%Y-%m-%dT%H:%M:%SZ} at the earliest, which is after its completion window: give it a longer one,"
        " or leave `if_late` out."
    )
    return Conflict(code="would_be_late", message=message)


def _json(value: Mapping[str, object]) -> bytes:
    """ASCII, so that nothing a client may send fails to encode with an error that quotes it."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise StoreError(code="invalid_spec", message="The batch's defaults or metadata are not plain JSON.", status=400) from None
