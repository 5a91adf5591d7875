"""Named sets of labels, so that a job can say ``label_set`` instead of listing them in every row. Sealed under the tenant's own key, and
never changed: the same name again makes the next version."""

import json
from collections.abc import Mapping, Sequence
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
from db.jobs.versions import LABEL_SETS, Version, name_of, next_version
from db.schema import label_sets
from db.sealing.cells import Opener

_COLUMN: Final = "label_sets.body"
_READING: Final = Reading(LABEL_SETS, tuple(label_sets.c), label_sets.c.body_sealed)


@dataclass(frozen=True, slots=True)
class LabelSetRecord:
    """A version of a label set, as its owner sees it. ``damaged``: it does not open and has no labels;
    in a list the name is None."""

    label_set_id: UUID
    name: str | None
    version: int
    labels: list[str]
    templates: list[str] | None
    created_at: datetime
    damaged: bool = False
    descriptions: dict[str, str] | None = None


def put_label_set(
    store: Store,
    actor: Actor,
    name: str,
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> LabelSetRecord:
    """Makes the next version of the set; none where the newest is the same already."""
    asked = list(labels), _listed(templates), dict(descriptions) if descriptions else None
    newest = find_label_set(store, actor, name)
    if newest is not None and newest.name == name and (newest.labels, newest.templates, newest.descriptions) == asked:
        return newest
    label_set_id = uuid4()
    with act(store, actor, "label_set.put", object_kind="label_set", object_id=label_set_id) as (conn, _):
        sealer = store.keyring.sealer(conn, actor.tenant_id, "tenant", actor.tenant_id)
        name_hmac = LABEL_SETS.hmac(sealer, name)
        following = next_version(conn, LABEL_SETS, actor.tenant_id, name_hmac)
        body = {"name": name, "version": following.number, "labels": asked[0], "templates": asked[1], "descriptions": asked[2]}
        created_at = conn.execute(
            insert(label_sets)
            .values(
                tenant_id=actor.tenant_id,
                label_set_id=label_set_id,
                name_hmac=name_hmac,
                **following._asdict(),
                body_sealed=sealer.seal(_COLUMN, label_set_id, json.dumps(body).encode()),
            )
            .returning(label_sets.c.created_at)
        ).scalar_one()
    return LabelSetRecord(label_set_id, name, following.number, asked[0], asked[1], created_at, descriptions=asked[2])


def list_label_sets(store: Store, actor: Actor) -> list[LabelSetRecord]:
    """The newest version of each of the tenant's sets, the last made first."""
    return _records(store, actor, _READING.newest(store, actor))


def find_label_set(store: Store, actor: Actor, address: str) -> LabelSetRecord | None:
    """What the address means: the newest of a name, or ``NAME@2``; no other is opened."""
    return next(iter(_records(store, actor, _READING.meant(store, actor, address), name_of(address))), None)


def label_set_versions(store: Store, actor: Actor, name: str) -> list[LabelSetRecord]:
    """All versions of the set that are there, the newest first."""
    return _records(store, actor, _READING.versions(store, actor, name), name)


def delete_label_set(store: Store, actor: Actor, address: str) -> Deleted:
    """All versions of a name, or one of ``NAME@2``. Raises NotFound. Jobs that began with one go on with it."""
    return delete_versions(store, actor, LABEL_SETS, address)


def get_label_set_for_worker(store: Store, lease: Lease, name: str, pinned: Version | None) -> dict[str, Any] | None:
    """{"name", "version", "labels", "templates", "descriptions"}: see :func:`db.catalogue.reading.read_for_worker`. Raises SealError where
    it does not open, which is on record."""
    columns = (label_sets.c.label_set_id, label_sets.c.number)
    found = read_for_worker(store, lease, LABEL_SETS, name, pinned, columns, (label_sets.c.body_sealed,))
    if found is None:
        return None
    with Opening(store, lease) as opening:
        body = _open(opening, *found)
    if body is None:
        raise SealError
    return body


def _listed(templates: Sequence[str] | None) -> list[str] | None:
    return None if templates is None else list(templates)


def _records(store: Store, actor: Actor, found: Found, name: str | None = None) -> list[LabelSetRecord]:
    """``name``: what they were asked for by, which is all that is known of one that is damaged."""
    opener, rows = found
    with Opening(store, actor) as opening:
        return [_record(row, _open(opening, opener, row), name) for row in rows]


def _record(row: Any, body: dict[str, Any] | None, name: str | None) -> LabelSetRecord:
    if body is None:
        return LabelSetRecord(row.label_set_id, name, row.number, [], None, row.created_at, damaged=True)
    about = body["name"], row.number, body["labels"], body["templates"], row.created_at
    return LabelSetRecord(row.label_set_id, *about, descriptions=body.get("descriptions"))  # which those of before have not


def _open(opening: Opening, opener: Opener, row: Any) -> dict[str, Any] | None:
    """None where it does not open, or is not the version that the table says."""
    return open_version(opening, opener, _COLUMN, row.label_set_id, row.body_sealed, row.number)
