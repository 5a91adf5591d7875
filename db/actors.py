"""Who acts, handed through the store to the record: a caller of the API (:class:`Actor`), or the holder of a shard (:class:`Lease`)."""

from dataclasses import dataclass
from uuid import UUID

from db.lifecycle import INTERACTIVE_PRIORITY


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a principal of a tenant, known by one of its keys, within one request."""

    tenant_id: UUID
    principal_id: UUID
    key_id: UUID | None
    scopes: frozenset[str]
    request_id: str | None = None
    origin: str | None = None

    @property
    def may_read(self) -> bool:
        """Whether what tenants wrote is opened for it: bodies and answers, and names, metadata and labels as well."""
        return "read" in self.scopes


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to rows ``first_idx`` to ``end_idx`` (exclusive) of a job, at one epoch. No secret: it is worth nothing without the
    worker's login."""

    tenant_id: UUID
    shard_id: UUID
    job_id: UUID
    file_id: UUID
    epoch: int
    first_idx: int
    end_idx: int
    task: str
    endpoint: str
    model: str | None
    head_id: UUID | None
    priority: int = 0
    reads_columns: bool = False

    @property
    def interactive(self) -> bool:
        """Whether somebody waits for it: its rows make up the next batches."""
        return self.priority >= INTERACTIVE_PRIORITY
