"""Texts that a tenant wrote for its jobs, prompts, rules and templates: sealed under its own key, and never changed: the same name again
makes the next version. What they mean is read elsewhere (``workers/content``)."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import insert

from db.actors import Actor, Lease
from db.audit.acts import act
from db.audit.damage import Opening
from db.catalogue.deleting import Deleted, delete_versions
from db.catalogue.reading import Found, Reading, open_version, read_for_worker
from db.connect import Store
from db.errors import SealError
from db.jobs.versions import PROMPTS, RULES, TEMPLATES, Kind, Version, name_of, next_version
from db.schema import definitions

_COLUMNS: Final = {PROMPTS: "prompts.body", RULES: "rules.body", TEMPLATES: "templates.body"}  # one kind's does not open as another's


@dataclass(frozen=True, slots=True)
class DefinitionRecord:
    """A version, as its owner sees it. ``damaged``: it does not open and has no source; in a list the name is None."""

    definition_id: UUID
    name: str | None
    version: int
    source: str
    created_at: datetime
    damaged: bool = False


def put_definition(store: Store, actor: Actor, kind: Kind, name: str, source: str) -> DefinitionRecord:
    """Makes the next version; none where the newest is the same already. ``source`` was looked at by whoever knows its kind."""
    newest = find_definition(store, actor, kind, name)
    if newest is not None and newest.name == name and newest.source == source:
        return newest
    definition_id = uuid4()
    with act(store, actor, f"{kind.word}.put", object_kind=kind.word, object_id=definition_id) as (conn, _):
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        name_hmac = kind.hmac(sealer, name)
        following = next_version(conn, kind, actor.tenant_id, name_hmac)
        body = {"name": name, "version": following.number, "source": source}
        created_at = conn.execute(
            insert(definitions)
            .values(
                tenant_id=actor.tenant_id,
                definition_id=definition_id,
                kind=kind.word,
                name_hmac=name_hmac,
                **following._asdict(),
                body_sealed=sealer.seal(_COLUMNS[kind], definition_id, json.dumps(body).encode()),
            )
            .returning(definitions.c.created_at)
        ).scalar_one()
    return DefinitionRecord(definition_id, name, following.number, source, created_at)


def list_definitions(store: Store, actor: Actor, kind: Kind) -> list[DefinitionRecord]:
    """The newest version of each name, the last made first."""
    return _records(store, actor, kind, _reading(kind).newest(store, actor))


def find_definition(store: Store, actor: Actor, kind: Kind, address: str) -> DefinitionRecord | None:
    """What the address means: the newest of a name, or ``NAME@2``; no other is opened."""
    return next(iter(_records(store, actor, kind, _reading(kind).meant(store, actor, address), name_of(address))), None)


def definition_versions(store: Store, actor: Actor, kind: Kind, name: str) -> list[DefinitionRecord]:
    """All versions that are there, the newest first."""
    return _records(store, actor, kind, _reading(kind).versions(store, actor, name), name)


def delete_definition(store: Store, actor: Actor, kind: Kind, address: str) -> Deleted:
    """All versions of a name, or one of ``NAME@2``. Raises NotFound. Jobs that began with one go on with it."""
    return delete_versions(store, actor, kind, address)


def get_definition_for_worker(store: Store, lease: Lease, kind: Kind, name: str, pinned: Version) -> str | None:
    """The source that the job pins; None where it is gone or the lease is lost. Raises SealError where it does not open, which is on
    record."""
    columns = (definitions.c.definition_id, definitions.c.number)
    found = read_for_worker(store, lease, kind, name, pinned, columns, (definitions.c.body_sealed,))
    if found is None:
        return None
    opener, row = found
    with Opening(store, lease) as opening:
        body = open_version(opening, opener, _COLUMNS[kind], row.definition_id, row.body_sealed, row.number)
    if body is None:
        raise SealError
    return str(body["source"])


def _reading(kind: Kind) -> Reading:
    return Reading(kind, tuple(definitions.c), definitions.c.body_sealed)


def _records(store: Store, actor: Actor, kind: Kind, found: Found, name: str | None = None) -> list[DefinitionRecord]:
    """``name``: what they were asked for by, which is all that is known of one that is damaged."""
    opener, rows = found
    with Opening(store, actor) as opening:
        return [
            _record(row, open_version(opening, opener, _COLUMNS[kind], row.definition_id, row.body_sealed, row.number), name)
            for row in rows
        ]


def _record(row: Any, body: dict[str, Any] | None, name: str | None) -> DefinitionRecord:
    if body is None:
        return DefinitionRecord(row.definition_id, name, row.number, "", row.created_at, damaged=True)
    return DefinitionRecord(row.definition_id, body["name"], row.number, body["source"], row.created_at)
