"""The record."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, INET, UUID

from db.schema.columns import metadata, moment, of_tenant

audit_events = Table(  # append only
    "audit_events",
    metadata,
    of_tenant(),
    Column("event_id", UUID(as_uuid=True), nullable=False),
    moment("at", nullable=False),
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
    of_tenant(),
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
    of_tenant(),
    Column("event_id", UUID(as_uuid=True), nullable=False),
    PrimaryKeyConstraint("tenant_id", "event_id"),
)

audit_leaves = Table(
    "audit_leaves",
    metadata,
    Column("leaf_index", BigInteger, primary_key=True),
    of_tenant(),
    Column("event_id", UUID(as_uuid=True), nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("tree_size", BigInteger, primary_key=True),
    Column("root_hash", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    moment("created_at", nullable=False),
)
