"""What a tenant named, in versions, and which of them a job is bound to."""

from sqlalchemy import Column, ForeignKeyConstraint, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import UUID

from db.schema.columns import metadata, moment, of_tenant

label_sets = Table(
    "label_sets",
    metadata,
    of_tenant(),
    Column("label_set_id", UUID(as_uuid=True), nullable=False),
    Column("name_hmac", LargeBinary, nullable=False),
    Column("body_sealed", LargeBinary, nullable=False),  # {"name", "labels", "templates"?}
    moment("created_at", nullable=False),
    Column("number", Integer, nullable=False, server_default="1"),  # the version: of one name, in the order they were made
    Column("first_id", UUID(as_uuid=True)),  # the first version of the name; NULL of that itself
    moment("deleted_at"),  # its owner's no more; kept while a job that began with it runs
    PrimaryKeyConstraint("tenant_id", "label_set_id"),
    UniqueConstraint("tenant_id", "name_hmac", "number"),
)

models = Table(  # what a tenant trained: heads over a registry encoder
    "models",
    metadata,
    of_tenant(),
    Column("model_id", UUID(as_uuid=True), nullable=False),
    Column("kind", Text, nullable=False),  # head
    Column("base", Text, nullable=False),  # registry id of the encoder below it
    Column("version", Text, nullable=False),  # keyed digest of the weights; the version as people count it is `number`
    Column("name_hmac", LargeBinary, nullable=False),
    Column("card_sealed", LargeBinary, nullable=False),  # {"name", "labels", "examples", "metrics"}
    Column("weights_sealed", LargeBinary, nullable=False),  # a safetensors blob
    moment("created_at", nullable=False),
    Column("number", Integer, nullable=False, server_default="1"),  # the version: of one name, in the order they were made
    Column("first_id", UUID(as_uuid=True)),  # the first version of the name; NULL of that itself
    moment("deleted_at"),  # its owner's no more; kept while a job that began with it runs
    PrimaryKeyConstraint("tenant_id", "model_id"),
    UniqueConstraint("tenant_id", "name_hmac", "number"),
)

definitions = Table(  # texts that a tenant wrote: prompts, rules, templates
    "definitions",
    metadata,
    of_tenant(),
    Column("definition_id", UUID(as_uuid=True), nullable=False),
    Column("kind", Text, nullable=False),  # prompt | rules | template
    Column("name_hmac", LargeBinary, nullable=False),
    Column("body_sealed", LargeBinary, nullable=False),  # {"name", "version", "source"}
    moment("created_at", nullable=False),
    Column("number", Integer, nullable=False),  # the version: of one kind and name, in the order they were made
    Column("first_id", UUID(as_uuid=True)),  # the first version of the name; NULL of that itself
    moment("deleted_at"),  # its owner's no more; kept while a job that began with it runs
    PrimaryKeyConstraint("tenant_id", "definition_id"),
    UniqueConstraint("tenant_id", "name_hmac", "number"),
)

deleted_versions = Table(  # of a name's versions that were deleted, the highest number: none is given again
    "deleted_versions",
    metadata,
    of_tenant(),
    Column("name_hmac", LargeBinary, nullable=False),  # under another purpose for each kind
    Column("number", Integer, nullable=False),
    PrimaryKeyConstraint("tenant_id", "name_hmac"),
)

job_pins = Table(  # versions of what the tenant named that a job's rows may be answered with: which stay while it runs
    "job_pins",
    metadata,
    of_tenant(),
    Column("job_id", UUID(as_uuid=True), nullable=False),
    Column("version_id", UUID(as_uuid=True), nullable=False),  # of models, label_sets or definitions
    PrimaryKeyConstraint("tenant_id", "job_id", "version_id"),
    ForeignKeyConstraint(["tenant_id", "job_id"], ["jobs.tenant_id", "jobs.job_id"], ondelete="CASCADE"),
    Index("job_pins_of_version", "tenant_id", "version_id"),
)
