"""Short ways through the store for its tests: upload rows, make and cut a job, claim, answer."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from db.actors import Actor, Lease
from db.connect import Store
from db.files.files import FileRecord, create_file
from db.files.rows import NewRow, RowWriter
from db.files.stored_names import Names
from db.files.table import Table
from db.jobs.creating import NewJob, RequestRef, create_job
from db.jobs.jobs import JobRecord, get_job
from db.jobs.steering import cancel_job
from db.operators.api_keys import SCOPES
from db.operators.tenants import create_tenant
from db.queue.dispatch import cut_validating_jobs
from db.queue.endings import cancel_shards, finalize_jobs
from db.queue.results import write_results
from db.queue.row import WorkRow
from db.queue.shards import claim_any
from db.settings import Role
from tests.looking import on_record

Stores = Callable[[Role], Store]


@dataclass(frozen=True)
class Flow:
    """One database, as all its components see it."""

    stores: Stores

    @property
    def api(self) -> Store:
        return self.stores(Role.API)

    @property
    def worker(self) -> Store:
        return self.stores(Role.WORKER)

    @property
    def dispatcher(self) -> Store:
        return self.stores(Role.DISPATCHER)

    def new_tenant(self) -> Actor:
        return Actor(tenant_id=create_tenant(self.api, "another tenant"), principal_id=uuid.uuid4(), key_id=None, scopes=SCOPES)

    def upload(
        self, actor: Actor, rows: int | Iterable[NewRow], *, name: str = "a file", purpose: str = "batch", table: Table | None = None
    ) -> FileRecord:
        writer = RowWriter(self.api, actor, create_file(self.api, actor, name=name, purpose=purpose))
        writer.append([plain(at) for at in range(rows)] if isinstance(rows, int) else list(rows))
        return writer.finish(1000, names=Names(), table=table or Table(form="cells", names=["text"], text="text"))

    def submit(self, actor: Actor, file: FileRecord, *, priority: int = 0, window_seconds: int = 3600, task: str = "classify") -> JobRecord:
        return create_job(self.api, actor, new_job(file.file_id, priority=priority, window_seconds=window_seconds, task=task))

    def cut(self, shard_chars: int | None = 100) -> int:
        """Bodies made by :func:`plain` count ten characters each: shards of ten rows unless told otherwise."""
        return cut_validating_jobs(self.dispatcher, lambda _model, _task: shard_chars)

    def job(
        self, actor: Actor, rows: int | Iterable[NewRow], *, shard_chars: int | None = 100, priority: int = 0, task: str = "classify"
    ) -> JobRecord:
        """A job in progress over a new file."""
        job = self.submit(actor, self.upload(actor, rows), priority=priority, task=task)
        self.cut(shard_chars)
        return get_job(self.api, actor, job.job_id)

    def claim(self, worker: str = "host:1", limit: int = 1) -> Lease:
        return claim_any(self.worker, worker, limit)[0]

    def answer(self, lease: Lease, idxs: Iterable[int] | None = None, *, finish: bool = True, fail: bool = False) -> None:
        """Answers, or failures, of all rows of the lease, or of some."""
        wanted = range(lease.first_idx, lease.end_idx) if idxs is None else idxs
        written = failures(wanted) if fail else answers(wanted)
        write_results(self.worker, lease, written, finish=finish, model_version="model-1", metrics={"tokens": 2.0})

    def cancel(self, actor: Actor, job_id: uuid.UUID) -> None:
        """To its end."""
        cancel_job(self.api, actor, job_id)
        cancel_shards(self.dispatcher)
        finalize_jobs(self.dispatcher)

    def execute(self, actor: Actor, statement: str, **parameters: object) -> list[tuple[object, ...]]:
        """As the API's role, under the tenant; on record, but for looks at the record."""
        looking = self.api.transaction(tenant=actor.tenant_id) if "audit_" in statement else on_record(self.api, actor.tenant_id)
        with looking as conn:
            result = conn.execute(text(statement), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    def count(self, actor: Actor, table: str) -> int:
        """Rows of a table, or of ``TABLE WHERE …``: as the dispatcher where that erases them, for the API's role is shown nothing of what
        has lost its job or its file."""
        if table.partition(" ")[0] not in {"results", "rows", "shards", "jobs", "files"}:
            [(found,)] = self.execute(actor, f"SELECT count(*) FROM {table}")
            return int(str(found))
        with self.dispatcher.transaction(tenant=actor.tenant_id) as conn:
            return int(conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())

    def file_counts(self, actor: Actor) -> tuple[object, ...]:
        """(files, rows, keys of files) in the tables, of this tenant."""
        return tuple(self.count(actor, table) for table in ("files", "rows", "data_keys WHERE owner_kind = 'file'"))

    def change_shards(self, change: str, **parameters: object) -> int:
        """As the dispatcher, on the shards of all tenants: puts clocks on or back, which the tests cannot wait for."""
        with self.dispatcher.transaction() as conn:
            return conn.execute(text("UPDATE shards SET " + change), parameters).rowcount

    def end_leases(self) -> None:
        """Every lease ran out a minute ago."""
        self.change_shards("lease_expires_at = now() - interval '1 minute' WHERE state = 'leased'")

    def unlocked_shards(self) -> int:
        """How many shards no open transaction holds."""
        with self.worker.transaction() as conn:
            return int(conn.execute(text("SELECT count(*) FROM (SELECT FROM shards FOR UPDATE SKIP LOCKED) AS free")).scalar_one())

    def shards(self, job: JobRecord) -> list[tuple[object, ...]]:
        """(first, end, state, epoch, completed, failed, crash attempts, error attempts) of the job's shards, in order."""
        with self.dispatcher.transaction() as conn:
            found = conn.execute(
                text(
                    "SELECT first_idx, end_idx, state, epoch, completed_count, failed_count, crash_attempts, error_attempts"
                    " FROM shards WHERE tenant_id = :tenant AND job_id = :job ORDER BY first_idx"
                ),
                {"tenant": job.tenant_id, "job": job.job_id},
            )
            return [tuple(row) for row in found]


def plain(at: int, **changes: object) -> NewRow:
    values: dict[str, object] = {
        "line": at + 1,
        "endpoint": None,
        "defect": None,
        "custom_id": f"id-{at}",
        "body": b'{"input":"text %d"}' % at,
        "size": 10,
    }
    return NewRow(**{**values, **changes})  # type: ignore[arg-type]


def new_job(
    file_id: uuid.UUID,
    *,
    priority: int = 0,
    window_seconds: int = 3600,
    task: str = "classify",
    request: RequestRef | None = None,
    metadata: dict[str, str] | None = None,
    reads_columns: bool = False,
) -> NewJob:
    return NewJob(
        task=task,
        endpoint="/v1/classifications",
        file_id=file_id,
        model="fake-encoder",
        spec={"defaults": {"labels": ["a", "b"]}},
        metadata=metadata,
        priority=priority,
        completion_window=timedelta(seconds=window_seconds),
        request=request,
        head_id=uuid.uuid4() if task == "train" else None,
        reads_columns=reads_columns,
    )


def failures(idxs: Iterable[int]) -> Sequence[WorkRow]:
    return [WorkRow(idx, code="engine_error") for idx in idxs]


def answers(idxs: Iterable[int]) -> Sequence[WorkRow]:
    return [WorkRow(idx, payload=b'{"label":"a"}', input_tokens=3) for idx in idxs]
