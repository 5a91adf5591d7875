"""How versions of what a tenant named are read, heads and label sets alike: on record, and no other than those that were asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Connection, Row, Select, select
from sqlalchemy.dialects.postgresql import distinct_on

from db.actors import Actor, Lease
from db.audit.acts import record_act, record_work
from db.audit.events import record_digest
from db.connect import Store
from db.errors import NotFound
from db.jobs.versions import Kind, Version, find_versions
from db.sealing.cells import Sealer

Found = tuple[Sealer, Sequence[Row[Any]]]  # the tenant's sealer, and rows that are to be opened with it


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one kind. ``columns``: what its owner sees of a version; ``sealed``: that of them which is to be opened."""

    kind: Kind
    columns: Sequence[Column[Any]]
    sealed: Column[Any]

    def newest(self, store: Store, actor: Actor) -> Found:
        """The newest version of each name, the last made first."""
        columns = self.kind.table.c
        query = self._seen(actor).ext(distinct_on(columns.name_hmac)).order_by(columns.name_hmac, columns.number.desc())
        sealer, rows = self._read(store, actor, "list", lambda _conn, _sealer: query)
        return sealer, sorted(rows, key=lambda row: (row.created_at, row._mapping[self.kind.id]), reverse=True)

    def meant(self, store: Store, actor: Actor, address: str) -> Found:
        """The one version that the address means, if any: the newest of a name, or ``NAME@2``."""

        def query(conn: Connection, sealer: Sealer) -> Select[Any] | None:
            meant = find_versions(conn, self.kind, actor.tenant_id, sealer, [address]).get(address)
            return None if meant is None else self._seen(actor).where(self.kind.id == meant.id)

        return self._read(store, actor, "read", query)

    def versions(self, store: Store, actor: Actor, name: str) -> Found:
        """All versions of a name that are there, the newest first."""
        columns = self.kind.table.c
        return self._read(
            store,
            actor,
            "read",
            lambda _conn, sealer: (
                self._seen(actor).where(columns.name_hmac == self.kind.hmac(sealer, name)).order_by(columns.number.desc())
            ),
        )

    def _read(self, store: Store, actor: Actor, act: str, query: Callable[[Connection, Sealer], Select[Any] | None]) -> Found:
        kind = None if act == "list" else self.kind.word
        with store.transaction(tenant=actor.tenant_id) as conn:
            event_id = record_act(conn, store, actor, f"{self.kind.word}.{act}", object_kind=kind)
            sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
            asked = query(conn, sealer)
            rows = [] if asked is None else conn.execute(asked).all()
            record_digest(conn, actor.tenant_id, event_id, [row._mapping[self.sealed] for row in rows])
        return sealer, rows

    def _seen(self, actor: Actor) -> Select[Any]:
        columns = self.kind.table.c
        return select(*self.columns).where(columns.tenant_id == actor.tenant_id, columns.deleted_at.is_(None))


def read_for_worker(
    store: Store, lease: Lease, kind: Kind, name: str, pinned: Version | None, columns: Sequence[Column[Any]], sealed: Sequence[Column[Any]]
) -> tuple[Sealer, Row[Any]] | None:
    """Of the tenant whose shard is held: the version that its job pins, or, of a job that was made before there were versions, the first of
    this name. None where there is none or the lease is lost. ``sealed``: columns beside ``columns`` that are to be opened."""
    own = kind.table.c
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        object_id: UUID | None = pinned and pinned.id
        event_id = record_work(conn, store, lease, f"{kind.word}.read", object_kind=kind.word, object_id=object_id)
        try:
            sealer = store.keyring.sealer(conn, lease.tenant_id, "tenant", lease.tenant_id)
        except NotFound:
            return None
        which = (kind.id == pinned.id,) if pinned is not None else (own.number == 1, own.name_hmac == kind.hmac(sealer, name))
        row = conn.execute(select(*columns, *sealed).where(own.tenant_id == lease.tenant_id, *which)).one_or_none()
        if row is None:
            return None
        record_digest(conn, lease.tenant_id, event_id, [row._mapping[column] for column in sealed])
    return sealer, row
