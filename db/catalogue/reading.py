"""How versions of what a tenant named are read, whatever they are of: on record, and no other than those that were asked for."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Connection, Row, Select, select
from sqlalchemy.dialects.postgresql import distinct_on

from db.actors import Actor, Lease
from db.audit.acts import act, record_work
from db.audit.damage import Opening
from db.audit.events import record_digest
from db.connect import Store
from db.jobs.versions import Kind, Version, find_versions
from db.sealing.cells import Opener

Found = tuple[Opener, Sequence[Row[Any]]]  # the tenant's key, and rows that are to be opened with it


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
        opener, rows = self._read(store, actor, "list", lambda _conn, _opener: query)
        return opener, sorted(rows, key=lambda row: (row.created_at, row._mapping[self.kind.id]), reverse=True)

    def meant(self, store: Store, actor: Actor, address: str) -> Found:
        """The one version that the address means, if any: the newest of a name, or ``NAME@2``."""

        def query(conn: Connection, opener: Opener) -> Select[Any] | None:
            meant = find_versions(conn, self.kind, actor.tenant_id, opener, [address]).get(address)
            return None if meant is None else self._seen(actor).where(self.kind.id == meant.id)

        return self._read(store, actor, "read", query)

    def versions(self, store: Store, actor: Actor, name: str) -> Found:
        """All versions of a name that are there, the newest first."""
        columns = self.kind.table.c
        return self._read(
            store,
            actor,
            "read",
            lambda _conn, opener: (
                self._seen(actor).where(columns.name_hmac == self.kind.hmac(opener, name)).order_by(columns.number.desc())
            ),
        )

    def _read(self, store: Store, actor: Actor, verb: str, query: Callable[[Connection, Opener], Select[Any] | None]) -> Found:
        kind = None if verb == "list" else self.kind.word
        with act(store, actor, f"{self.kind.word}.{verb}", object_kind=kind) as (conn, event_id):
            opener = store.keyring.opener(conn, actor.tenant_id, "tenant", actor.tenant_id)
            asked = query(conn, opener)
            rows = [] if asked is None else conn.execute(asked).all()
            ids = [row._mapping[self.kind.id] for row in rows]
            record_digest(conn, actor.tenant_id, event_id, [row._mapping[self.sealed] for row in rows], objects=ids)
        return opener, rows

    def _seen(self, actor: Actor) -> Select[Any]:
        columns = self.kind.table.c
        return select(*self.columns).where(columns.tenant_id == actor.tenant_id, self.kind.own, columns.deleted_at.is_(None))


def read_for_worker(
    store: Store, lease: Lease, kind: Kind, name: str, pinned: Version | None, columns: Sequence[Column[Any]], sealed: Sequence[Column[Any]]
) -> tuple[Opener, Row[Any]] | None:
    """Of the tenant whose shard is held: the version that its job pins, or, of a job that was made before there were versions, the first of
    this name. None where there is none or the lease is lost. ``sealed``: columns beside ``columns`` that are to be opened. Raises SealError
    where the tenant's key was altered, and with it no name is found."""
    own = kind.table.c
    with store.transaction(tenant=lease.tenant_id, shard=lease.shard_id, epoch=lease.epoch) as conn:
        object_id: UUID | None = pinned and pinned.id
        event_id = record_work(conn, store, lease, f"{kind.word}.read", object_kind=kind.word, object_id=object_id)
        opener = store.keyring.load(conn, lease.tenant_id, [("tenant", lease.tenant_id)]).get(("tenant", lease.tenant_id))
        if opener is None:
            return None
        which = (kind.id == pinned.id,) if pinned is not None else (own.number == 1, own.name_hmac == kind.hmac(opener, name))
        row = conn.execute(select(*columns, *sealed).where(own.tenant_id == lease.tenant_id, kind.own, *which)).one_or_none()
        if row is None:
            return None
        record_digest(conn, lease.tenant_id, event_id, [row._mapping[column] for column in sealed], objects=[row._mapping[kind.id]])
    return opener, row


def open_version(opening: Opening, opener: Opener, column: str, id: UUID, sealed: bytes, number: int) -> dict[str, Any] | None:
    """What a version says of itself; None where that does not open, or tells of another version than ``number``, which stands beside it."""
    opened = opening.open(opener, column, id, sealed)
    if opened is None:
        return None
    told: dict[str, Any] = {"version": 1, **json.loads(opened)}
    if told["version"] != number:
        opening.note(opener, column, id, sealed)
        return None
    return told
