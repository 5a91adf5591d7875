"""Tables of the sealed store, as SQLAlchemy Core metadata.

This is what the queries are written against; the migrations create the same tables (a test compares the two) and add what metadata cannot
say: partitions, roles, grants and row-level security.

Columns named ``*_sealed`` hold ciphertext made by :mod:`db.sealing.cells`. Columns named ``*_hmac`` hold 16-byte keyed digests for
look-ups. Everything else is readable by whoever gets the database, so it holds ids, counts, codes and times only, never content.
"""

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INET, JSONB, UUID

metadata = MetaData()


def _tenant() -> Column[object]:
    return Column("tenant_id", UUID(as_uuid=True), nullable=False)


def _when(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=None if nullable else func.now())


tenants = Table(
    "tenants",
    metadata,
    Column("tenant_id", UUID(as_uuid=True), primary_key=True),
    Column("name_sealed", LargeBinary),
    _when("created_at", nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    _tenant(),
    Column("key_id", UUID(as_uuid=True), nullable=False),
    Column("principal_id", UUID(as_uuid=True), nullable=False),
    Column("name_sealed", LargeBinary),
    Column("key_hash", LargeBinary, nullable=False, unique=True),  # keyed, of a 256-bit random secret: db/sealing/authority.py
    Column("scopes", ARRAY(Text), nullable=False),
    _when("created_at", nullable=False),
    _when("expires_at"),
    _when("revoked_at"),
    Column("mac", LargeBinary),  # over all of the above but the name and the moment of its making; a row without one is no key
    PrimaryKeyConstraint("tenant_id", "key_id"),
)

store_keys = Table(  # of no tenant: the one that vouches for API keys, wrapped by the KEK
    "store_keys",
    metadata,
    Column("purpose", Text, primary_key=True),  # authority
    Column("kek_id", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)

tenant_keys = Table(  # one row per tenant key epoch, wrapped by the KEK
    "tenant_keys",
    metadata,
    _tenant(),
    Column("key_epoch", Integer, nullable=False),
    Column("kek_id", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),  # active | retired
    _when("created_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "key_epoch"),
)

data_keys = Table(  # one data key per tenant, file or job, wrapped by a tenant key epoch
    "data_keys",
    metadata,
    _tenant(),
    Column("key_id", UUID(as_uuid=True), nullable=False),
    Column("owner_kind", Text, nullable=False),  # tenant | file | job
    Column("owner_id", UUID(as_uuid=True), nullable=False),
    Column("key_epoch", Integer, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    _when("created_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "key_id"),
    UniqueConstraint("tenant_id", "owner_kind", "owner_id"),
)

files = Table(
    "files",
    metadata,
    _tenant(),
    Column("file_id", UUID(as_uuid=True), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("state", Text, nullable=False),  # uploading | processed | error (being erased) | deleted (a tombstone that jobs go on naming)
    Column("error_code", Text),
    Column("name_sealed", LargeBinary, nullable=False),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),
    Column("size_chars", BigInteger, nullable=False, server_default="0"),
    Column("row_count", Integer, nullable=False, server_default="0"),
    Column("defect_count", Integer, nullable=False, server_default="0"),
    _when("created_at", nullable=False),
    _when("expires_at"),
    Column("content_bytes", BigInteger),  # of its rows as they are read back, as JSON lines; size_bytes is what was uploaded
    Column("stored_names_sealed", LargeBinary),  # heads and label sets that its rows name; NULL where that is not known
    Column("columns_sealed", LargeBinary),  # what its columns are called and hold; NULL where it was no table
    PrimaryKeyConstraint("tenant_id", "file_id"),
    Index("files_by_age", "tenant_id", "created_at", "file_id"),
)

rows = Table(  # hash-partitioned by file_id
    "rows",
    metadata,
    _tenant(),
    Column("file_id", UUID(as_uuid=True), nullable=False),
    Column("idx", Integer, nullable=False),  # 0-based position among the rows of the file
    Column("line", Integer, nullable=False),  # 1-based line (or record) in the uploaded file, for messages
    Column("endpoint", Text),  # what the line's url named, from a closed list; NULL fits every endpoint
    Column("defect", Text),  # a failure code found while parsing; such a row never reaches a model
    Column("size", Integer, nullable=False),  # characters of the body
    Column("custom_id_sealed", LargeBinary),
    Column("custom_id_hmac", LargeBinary),
    Column("body_sealed", LargeBinary),
    Column("columns_sealed", LargeBinary),  # a table's other columns; NULL where there are none
    PrimaryKeyConstraint("tenant_id", "file_id", "idx"),
)

jobs = Table(
    "jobs",
    metadata,
    _tenant(),
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
    _when("created_at", nullable=False),
    _when("deadline"),
    _when("in_progress_at"),
    _when("finalizing_at"),
    _when("completed_at"),
    _when("failed_at"),
    _when("expired_at"),
    _when("cancelling_at"),
    _when("cancelled_at"),
    _when("output_deleted_at"),
    _when("errors_deleted_at"),
    _when("paused_at"),  # nothing more of it is begun until it is NULL again
    Column("retry_count", SmallInteger, nullable=False, server_default="0"),  # how often its failed rows were run again
    Column("rerun_from_idx", Integer),  # the first row that any of these runs did again: rows before it are as they were at first
    _when("turn_at", nullable=False),  # orders a tenant's jobs of one priority: see db.queue.turns
    _when("deleted_at"),  # nobody's any more: :mod:`db.jobs.purge` is at its rows
    Column("erase_from_idx", Integer),  # of what was deleted of it: rows before this one are erased; NULL where nothing is left to erase
    Column("results_expire_seconds", Integer),  # so long after its end its results are deleted; NULL: never
    _when("results_expire_at"),
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
    Index("jobs_erasing", "job_id", postgresql_where="erase_from_idx IS NOT NULL"),
    Index("jobs_live", "state", postgresql_where="state IN ('validating', 'in_progress', 'finalizing', 'cancelling')"),
)

job_specs = Table(  # the sealed half of a job, apart so that the dispatcher never sees ciphertext
    "job_specs",
    metadata,
    _tenant(),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("spec_sealed", LargeBinary, nullable=False),
    Column("metadata_sealed", LargeBinary),
    PrimaryKeyConstraint("tenant_id", "job_id"),
    ForeignKeyConstraint(["tenant_id", "job_id"], ["jobs.tenant_id", "jobs.job_id"], ondelete="CASCADE"),
)

shards = Table(
    "shards",
    metadata,
    _tenant(),
    Column("shard_id", UUID(as_uuid=True), nullable=False, unique=True),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("file_id", UUID(as_uuid=True), nullable=False),
    Column("first_idx", Integer, nullable=False),
    Column("end_idx", Integer, nullable=False),  # exclusive
    Column("state", Text, nullable=False),  # ready | leased | done | cancelled | expired
    Column("epoch", Integer, nullable=False, server_default="0"),  # +1 at each claim: the fence
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    _when("deadline"),
    _when("not_before"),  # backoff after an error
    _when("dispatched_at"),  # last time a message was published for it
    _when("lease_expires_at"),
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
    _when("progressed_at"),  # last time that rows of it were stored
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
    _tenant(),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("idx", Integer, nullable=False),
    Column("outcome", SmallInteger, nullable=False),  # 1 completed, 2 failed
    Column("code", Text),  # the failure code where outcome is 2
    Column("payload_sealed", LargeBinary),  # the answer's JSON; NULL where outcome is 2
    Column("model_version", Text),
    Column("input_tokens", Integer, nullable=False, server_default="0"),
    Column("output_tokens", Integer, nullable=False, server_default="0"),
    Column("epoch", Integer, nullable=False),
    _when("created_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "job_id", "idx"),
    Index("results_failed", "tenant_id", "job_id", "idx", postgresql_where="outcome = 2"),
)

label_sets = Table(
    "label_sets",
    metadata,
    _tenant(),
    Column("label_set_id", UUID(as_uuid=True), nullable=False),
    Column("name_hmac", LargeBinary, nullable=False),
    Column("body_sealed", LargeBinary, nullable=False),  # {"name", "labels", "templates"?}
    _when("created_at", nullable=False),
    Column("number", Integer, nullable=False, server_default="1"),  # the version: of one name, in the order they were made
    Column("first_id", UUID(as_uuid=True)),  # the first version of the name; NULL of that itself
    _when("deleted_at"),  # its owner's no more; kept while a job that began with it runs
    PrimaryKeyConstraint("tenant_id", "label_set_id"),
    UniqueConstraint("tenant_id", "name_hmac", "number"),
)

models = Table(  # what a tenant trained: heads over a registry encoder
    "models",
    metadata,
    _tenant(),
    Column("model_id", UUID(as_uuid=True), nullable=False),
    Column("kind", Text, nullable=False),  # head
    Column("base", Text, nullable=False),  # registry id of the encoder below it
    Column("version", Text, nullable=False),  # keyed digest of the weights; the version as people count it is `number`
    Column("name_hmac", LargeBinary, nullable=False),
    Column("card_sealed", LargeBinary, nullable=False),  # {"name", "labels", "examples", "metrics"}
    Column("weights_sealed", LargeBinary, nullable=False),  # a safetensors blob
    _when("created_at", nullable=False),
    Column("number", Integer, nullable=False, server_default="1"),  # the version: of one name, in the order they were made
    Column("first_id", UUID(as_uuid=True)),  # the first version of the name; NULL of that itself
    _when("deleted_at"),  # its owner's no more; kept while a job that began with it runs
    PrimaryKeyConstraint("tenant_id", "model_id"),
    UniqueConstraint("tenant_id", "name_hmac", "number"),
)

deleted_versions = Table(  # of a name's versions that were deleted, the highest number: none is given again
    "deleted_versions",
    metadata,
    _tenant(),
    Column("name_hmac", LargeBinary, nullable=False),  # of a head or a label set, under another purpose each
    Column("number", Integer, nullable=False),
    PrimaryKeyConstraint("tenant_id", "name_hmac"),
)

job_pins = Table(  # versions of heads and label sets that a job's rows may be answered with: which stay while it runs
    "job_pins",
    metadata,
    _tenant(),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("version_id", UUID(as_uuid=True), nullable=False),  # of models or label_sets
    PrimaryKeyConstraint("tenant_id", "job_id", "version_id"),
    ForeignKeyConstraint(["tenant_id", "job_id"], ["jobs.tenant_id", "jobs.job_id"], ondelete="CASCADE"),
    Index("job_pins_of_version", "tenant_id", "version_id"),
)

schedules = Table(
    "schedules",
    metadata,
    _tenant(),
    Column("schedule_id", UUID(as_uuid=True), nullable=False),
    Column("principal_id", UUID(as_uuid=True), nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("spec_sealed", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),  # active | paused
    _when("next_run_at"),
    _when("created_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "schedule_id"),
)

audit_events = Table(  # append only
    "audit_events",
    metadata,
    _tenant(),
    Column("event_id", UUID(as_uuid=True), nullable=False),
    _when("at", nullable=False),
    Column("component", Text, nullable=False),  # api | worker | dispatcher
    Column("principal_id", UUID(as_uuid=True)),
    Column("key_id", UUID(as_uuid=True)),
    Column("action", Text, nullable=False),  # e.g. rows.read, results.read, results.write, file.create, access.denied
    Column("outcome", Text, nullable=False),  # allowed | denied
    Column("object_kind", Text),
    Column("object_id", UUID(as_uuid=True)),
    Column("first_idx", Integer),
    Column("end_idx", Integer),
    Column("job_id", UUID(as_uuid=True)),
    Column("request_id", Text),
    Column("origin", INET),
    Column("model_version", Text),
    Column(
        "xact", BigInteger, server_default=text("pg_current_xact_id()::text::bigint")
    ),  # which transaction it opens the sealed tables to
    Column("code", Text),  # why it was denied; of a key that may not, behind a colon, at which route
    PrimaryKeyConstraint("tenant_id", "event_id"),
    Index("audit_events_by_time", "tenant_id", "at"),
    Index("audit_events_by_action", "tenant_id", "action", "at"),
    Index("audit_events_by_object", "tenant_id", "object_id", "at", postgresql_where="object_id IS NOT NULL"),
    Index("audit_events_looks", "tenant_id", "object_id", "at", postgresql_where="action = 'job.read'"),
    Index(
        "audit_events_gone",
        "tenant_id",
        "object_id",
        postgresql_where="outcome = 'allowed' AND action IN ('file.delete', 'file.expire')",  # all that is asked: no row is looked at
    ),
    Index("audit_events_by_job", "tenant_id", "job_id", "at", postgresql_where="job_id IS NOT NULL"),
    Index("audit_events_damage", "at", postgresql_where="action = 'value.damaged'"),
)

audit_digests = Table(  # what an event's read brought out: appended after the SELECT, in the same transaction
    "audit_digests",
    metadata,
    _tenant(),
    Column("event_id", UUID(as_uuid=True), nullable=False),
    Column("row_count", Integer, nullable=False),  # rows, or objects of a list; until 0.1.0, where value_count is NULL, ciphertexts
    Column("digest", LargeBinary, nullable=False),  # SHA-256 over the ciphertexts in order
    Column("value_count", Integer),  # ciphertexts
    Column("came_to_idx", Integer),  # behind the last row that came out
    Column("object_ids", ARRAY(UUID(as_uuid=True))),  # of a list, and of what is asked for by its name
    PrimaryKeyConstraint("tenant_id", "event_id"),
    Index("audit_digests_objects", "object_ids", postgresql_using="gin", postgresql_where="object_ids IS NOT NULL"),
)

audit_unsealed = Table(  # events the Merkle sealer has not taken yet
    "audit_unsealed",
    metadata,
    _tenant(),
    Column("event_id", UUID(as_uuid=True), nullable=False),
    PrimaryKeyConstraint("tenant_id", "event_id"),
)

audit_leaves = Table(
    "audit_leaves",
    metadata,
    Column("leaf_index", BigInteger, primary_key=True),
    _tenant(),
    Column("event_id", UUID(as_uuid=True), nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("tree_size", BigInteger, primary_key=True),
    Column("root_hash", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    _when("created_at", nullable=False),
)

workers = Table(  # processes, for operators: no tenant's data
    "workers",
    metadata,
    Column("worker", Text, primary_key=True),  # host:pid:start, as in shards.worker
    Column("device", Text, nullable=False),  # cpu, or cuda:N
    Column("threads", SmallInteger, nullable=False),  # shards in flight at most
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="running"),  # running | draining | drained
    Column("asked", Text),  # drain, where an operator wants it
    _when("started_at", nullable=False),
    _when("seen_at", nullable=False),  # its last heartbeat
    _when("progressed_at", nullable=False),  # last micro-batch or write, or last moment with nothing to do
    Column("leases", Integer, nullable=False, server_default="0"),  # shards in flight, as it counts them
    Column("rows_done", BigInteger, nullable=False, server_default="0"),
    Column("memory_bytes", BigInteger, nullable=False, server_default="0"),  # resident
    Column("models", ARRAY(Text)),  # that it could run; NULL where it did not say
    Column("loading", Text),  # the model that it loads
    _when("loading_since"),
    Column("calibrating", Text),  # the model of which it finds out how it runs best here
    Column("loaded", ARRAY(Text)),  # the models that it holds; NULL where it did not say
)

leads = Table(  # who leads among the dispatchers: one row, no tenant's data
    "leads",
    metadata,
    Column("role", Text, primary_key=True),  # dispatcher
    Column("term", BigInteger, nullable=False, server_default="0"),  # one more each time somebody takes the lead
    Column("holder", Text),  # host:pid:start of who leads; NULL: nobody does
    Column("sessions", Text),  # what the server calls the holder's connections
    _when("taken_at"),
    _when("beat_at"),  # the holder's last sign of life
)
