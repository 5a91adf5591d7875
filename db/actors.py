"""Who acts: what a request knows of its caller, handed through the store to the record."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a principal of a tenant, known by one of its keys, within one request."""

    tenant_id: UUID
    principal_id: UUID
    key_id: UUID | None
    scopes: frozenset[str]
    request_id: str | None = None
    origin: str | None = None
