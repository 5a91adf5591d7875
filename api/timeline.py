"""A job's story on the wire: what ``GET /v1/batches/{id}/shards`` answers, and what its readers get."""

import msgspec


class ShardLine(msgspec.Struct, frozen=True):
    """A shard of a job. ``epoch``: one more at each claim; ``worker``: who holds it, or held it last."""

    first_row: int
    end_row: int
    state: str
    epoch: int = 0
    crashes: int = 0
    errors: int = 0
    last_error: str | None = None
    worker: str | None = None
    completed: int = 0
    failed: int = 0
    progressed_at: int | None = None
    lease_expires_at: int | None = None
    not_before: int | None = None


class StateTotal(msgspec.Struct, frozen=True):
    state: str
    shards: int
    rows: int
    crashes: int = 0
    errors: int = 0


class WorkerTotal(msgspec.Struct, frozen=True):
    worker: str
    shards: int
    rows: int


class Story(msgspec.Struct, frozen=True):
    """How a job went: the shards worth telling of, and totals of all by state and by who held them last."""

    shards: list[ShardLine] = []
    totals: list[StateTotal] = []
    workers: list[WorkerTotal] = []
