"""Tenants, who acts for them, and the keys that are wrapped."""

from sqlalchemy import Column, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, UUID

from db.schema.columns import metadata, moment, of_tenant

tenants = Table(
    "tenants",
    metadata,
    Column("tenant_id", UUID(as_uuid=True), primary_key=True),
    Column("name_sealed", LargeBinary),
    moment("created_at", nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    of_tenant(),
    Column("key_id", UUID(as_uuid=True), nullable=False),
    Column("principal_id", UUID(as_uuid=True), nullable=False),
    Column("name_sealed", LargeBinary),
    Column("key_hash", LargeBinary, nullable=False, unique=True),  # keyed, of a 256-bit random secret: db/sealing/authority.py
    Column("scopes", ARRAY(Text), nullable=False),
    moment("created_at", nullable=False),
    moment("expires_at"),
    moment("revoked_at"),
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
    of_tenant(),
    Column("key_epoch", Integer, nullable=False),
    Column("kek_id", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),  # active | retired
    moment("created_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "key_epoch"),
)

data_keys = Table(  # one data key per tenant, file or job, wrapped by a tenant key epoch
    "data_keys",
    metadata,
    of_tenant(),
    Column("key_id", UUID(as_uuid=True), nullable=False),
    Column("owner_kind", Text, nullable=False),  # tenant | file | job
    Column("owner_id", UUID(as_uuid=True), nullable=False),
    Column("key_epoch", Integer, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    moment("created_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "key_id"),
    UniqueConstraint("tenant_id", "owner_kind", "owner_id"),
)
