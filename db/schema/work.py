"""Jobs, the shards that they are cut into, and what came of their rows."""

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from db.schema.columns import metadata, moment, of_tenant

jobs = Table(
    "jobs",
    metadata,
    of_tenant(),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("file_id", UUID(as_uuid=True), nullable=False),
    Column("principal_id", UUID(as_uuid=True), nullable=False),
    Column("task", Text, nullable=False),  # classify | generate | embed | train
    Column("endpoint", Text, nullable=False),
    Column("model", Text),  # registry id used where a row names none
    Column("head_id", UUID(as_uuid=True)),  # task train: the head this job makes
    Column("state", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False, server_default="0"),  # higher runs first
    Column("completion_window_seconds", Integer, nullable=False),
    Column("row_count", Integer, nullable=False, server_default="0"),
    Column("completed_count", Integer, nullable=False, server_default="0"),  # exact once the job has ended; shards count before
    Column("failed_count", Integer, nullable=False, server_default="0"),
    Column("input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("errors", JSONB),  # [{code, line}], never content
    Column("request_hmac", LargeBinary),  # of the creating request, to find a retried twin: 16 bytes name it, 16 are of its body
    Column("metrics", JSONB),  # sums of the shards' metrics, once the job has ended
    moment("created_at", nullable=False),
    moment("deadline"),
    moment("in_progress_at"),
    moment("finalizing_at"),
    moment("completed_at"),
    moment("failed_at"),
    moment("expired_at"),
    moment("cancelling_at"),
    moment("cancelled_at"),
    moment("output_deleted_at"),
    moment("errors_deleted_at"),
    moment("paused_at"),  # nothing more of it is begun until it is NULL again
    Column("retry_count", SmallInteger, nullable=False, server_default="0"),  # how often its failed rows were run again
    Column("rerun_from_idx", Integer),  # the first row that any of these runs did again: rows before it are as they were at first
    moment("turn_at", nullable=False),  # orders a tenant's jobs of one priority: see db.queue.turns
    moment("deleted_at"),  # nobody's any more: :mod:`db.jobs.purge` is at its rows
    Column("erase_from_idx", Integer),  # of what was deleted of it: rows before this one are erased; NULL where nothing is left to erase
    Column("results_expire_seconds", Integer),  # so long after its end its results are deleted; NULL: never
    moment("results_expire_at"),
    Column("chain_id", UUID(as_uuid=True)),  # of a step of a chain: the last step's job, which is the batch that its owner holds
    Column("step", SmallInteger),  # which step of it, from 1
    Column("worker_seconds", REAL),  # that it takes, as was known when it was made; NULL: nothing was
    moment("promised_at"),  # when it was to be done, as was known then
    Column("reads_columns", Boolean, nullable=False, server_default="false"),  # its prompt is written from its rows' cells
    Column("max_output_tokens", BigInteger),  # its budget: once so many are stored, it ends
    Column("max_seconds", Integer),  # its budget: so long after its start it ends
    Column("spent_before", BigInteger, nullable=False, server_default="0"),  # output tokens of the runs before this one
    moment("run_ends_at"),  # when its seconds are over; NULL before it has begun, and where they are not limited
    Column("end_code", Text),  # what is told of rows that never ran, where its state does not say it
    PrimaryKeyConstraint("tenant_id", "job_id"),
    ForeignKeyConstraint(["tenant_id", "file_id"], ["files.tenant_id", "files.file_id"]),
    Index("jobs_of_file", "tenant_id", "file_id"),
    Index("jobs_completed", "completed_at", postgresql_where="state = 'completed'"),
    Index("jobs_by_age", "tenant_id", "created_at", "job_id"),
    Index("jobs_twins", "tenant_id", "request_hmac", postgresql_where="request_hmac IS NOT NULL"),
    Index(
        "jobs_turn",
        "tenant_id",
        text("priority DESC"),
        "turn_at",
        "job_id",
        postgresql_where="state = 'in_progress' AND paused_at IS NULL",
    ),
    Index(
        "jobs_with_budget",
        "tenant_id",
        "job_id",
        postgresql_where="state = 'in_progress' AND (max_output_tokens IS NOT NULL OR run_ends_at IS NOT NULL)",
    ),
    Index("jobs_erasing", "job_id", postgresql_where="erase_from_idx IS NOT NULL"),
    Index("jobs_of_chain", "tenant_id", "chain_id", "step", postgresql_where="chain_id IS NOT NULL"),
    Index("jobs_live", "state", postgresql_where="state IN ('validating', 'in_progress', 'finalizing', 'cancelling')"),
)

job_specs = Table(  # the sealed half of a job, apart so that the dispatcher never sees ciphertext
    "job_specs",
    metadata,
    of_tenant(),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("spec_sealed", LargeBinary, nullable=False),
    Column("metadata_sealed", LargeBinary),
    Column("step_sealed", LargeBinary),  # of a step of a chain: its name
    PrimaryKeyConstraint("tenant_id", "job_id"),
    ForeignKeyConstraint(["tenant_id", "job_id"], ["jobs.tenant_id", "jobs.job_id"], ondelete="CASCADE"),
)

job_sources = Table(  # jobs whose results a job's rows read with them, each of the same row: all of one file
    "job_sources",
    metadata,
    of_tenant(),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("number", SmallInteger, nullable=False),  # in which order, from 1
    Column("source_job_id", UUID(as_uuid=True), nullable=False),
    PrimaryKeyConstraint("tenant_id", "job_id", "number"),
    ForeignKeyConstraint(["tenant_id", "job_id"], ["jobs.tenant_id", "jobs.job_id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["tenant_id", "source_job_id"], ["jobs.tenant_id", "jobs.job_id"], ondelete="CASCADE"),
    Index("job_sources_of_source", "tenant_id", "source_job_id"),
)

shards = Table(
    "shards",
    metadata,
    of_tenant(),
    Column("shard_id", UUID(as_uuid=True), nullable=False, unique=True),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("file_id", UUID(as_uuid=True), nullable=False),
    Column("first_idx", Integer, nullable=False),
    Column("end_idx", Integer, nullable=False),  # exclusive
    Column("state", Text, nullable=False),  # ready | leased | done | cancelled | expired
    Column("epoch", Integer, nullable=False, server_default="0"),  # +1 at each claim: the fence
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    moment("deadline"),
    moment("not_before"),  # backoff after an error
    moment("dispatched_at"),  # last time a message was published for it
    moment("lease_expires_at"),
    Column("worker", Text),  # host:pid:start of the lease holder
    Column("crash_attempts", SmallInteger, nullable=False, server_default="0"),
    Column("error_attempts", SmallInteger, nullable=False, server_default="0"),
    Column("last_error", Text),  # a failure code
    Column("completed_count", Integer, nullable=False, server_default="0"),
    Column("failed_count", Integer, nullable=False, server_default="0"),
    Column("input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("metrics", JSONB),  # its share of the micro-batches: see BatchShare; and seconds, chars
    Column("cost", REAL, nullable=False, server_default="1"),  # its rows' characters, in full-sized shards of its model
    Column("last_worker", Text),  # host:pid:start of the last holder, kept when the lease is over
    moment("progressed_at"),  # last time that rows of it were stored
    Column("in_company", Boolean, nullable=False, server_default="false"),  # its last holder held others when it was claimed
    Column("whole", Boolean, nullable=False, server_default="false"),  # all rows of its job, which its task needs at once: never halved
    PrimaryKeyConstraint("tenant_id", "shard_id"),
    ForeignKeyConstraint(["tenant_id", "job_id"], ["jobs.tenant_id", "jobs.job_id"], ondelete="CASCADE"),
    Index("shards_of_job", "tenant_id", "job_id", "first_idx"),
    Index("shards_open", "tenant_id", "job_id", "first_idx", postgresql_where="state <> 'done'"),
    Index(
        "shards_turn",
        "tenant_id",
        "job_id",
        text("(crash_attempts >= 2)"),
        text("coalesce(not_before, '-infinity')"),
        "first_idx",
        postgresql_where="state = 'ready'",
    ),
    Index("shards_leased", "lease_expires_at", postgresql_where="state = 'leased'"),
    Index("shards_offered", "dispatched_at", postgresql_where="state = 'ready' AND dispatched_at IS NOT NULL"),
)

results = Table(  # hash-partitioned by job_id; written once per (job, idx)
    "results",
    metadata,
    of_tenant(),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("idx", Integer, nullable=False),
    Column("outcome", SmallInteger, nullable=False),  # 1 completed, 2 failed
    Column("code", Text),  # the failure code where outcome is 2
    Column("payload_sealed", LargeBinary),  # the answer's JSON; NULL where outcome is 2
    Column("model_version", Text),
    Column("input_tokens", Integer, nullable=False, server_default="0"),
    Column("output_tokens", Integer, nullable=False, server_default="0"),
    Column("epoch", Integer, nullable=False),
    moment("created_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "job_id", "idx"),
    Index("results_failed", "tenant_id", "job_id", "idx", postgresql_where="outcome = 2"),
)

schedules = Table(
    "schedules",
    metadata,
    of_tenant(),
    Column("schedule_id", UUID(as_uuid=True), nullable=False),
    Column("principal_id", UUID(as_uuid=True), nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("spec_sealed", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),  # active | paused
    moment("next_run_at"),
    moment("created_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "schedule_id"),
)
