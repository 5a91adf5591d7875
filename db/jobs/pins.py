"""The versions of what its tenant named that a job began with, pinned by its sealed spec: its rows are answered with no others."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, select

from db.files.stored_names import Names
from db.jobs.versions import KINDS, Version, find_versions, lock_versions
from db.schema import job_pins
from db.sealing.cells import Opener, Sealer


@dataclass(frozen=True, slots=True)
class Pins:
    """By the names that the job's rows and defaults use; a name that is not there named nothing when the job was made."""

    heads: dict[str, Version]
    label_sets: dict[str, Version]
    prompts: dict[str, Version] = field(default_factory=dict)
    rules: dict[str, Version] = field(default_factory=dict)
    templates: dict[str, Version] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "Pins | None":
        """None of a job that was made before there were versions: all that its names can mean is version 1."""
        pinned = spec.get("pins")
        return None if pinned is None else cls(**{kind: _read(versions) for kind, versions in pinned.items()})

    @property
    def ids(self) -> set[UUID]:
        return {version.id for kind in KINDS for version in getattr(self, kind).values()}

    def as_spec(self) -> dict[str, object]:
        return {kind: _written(getattr(self, kind)) for kind in KINDS}


def pin(conn: Connection, own: Sealer, tenant_id: UUID, job_id: UUID, names: Names) -> Pins:
    """What the names mean now, which stays while the job runs. ``own``: the tenant's key."""
    lock_versions(conn, tenant_id, shared=True)
    pins = _meant(conn, own, tenant_id, names)
    if pins.ids:
        conn.execute(insert(job_pins), [{"tenant_id": tenant_id, "job_id": job_id, "version_id": id} for id in sorted(pins.ids)])
    return pins


def mean_the_same(conn: Connection, own: Opener, tenant_id: UUID, job_id: UUID, names: Names, *, pins_others: bool = False) -> bool:
    """Whether the names mean now what they meant when the job was made with them, and maybe with others beside them. The transaction is
    on record."""
    began_with = select(job_pins.c.version_id).where(job_pins.c.tenant_id == tenant_id, job_pins.c.job_id == job_id)
    pinned = set(conn.execute(began_with).scalars())
    now = _meant(conn, own, tenant_id, names)
    return _meant(conn, own, tenant_id, names, among=pinned) == now if pins_others else pinned == now.ids


def _meant(conn: Connection, own: Opener, tenant_id: UUID, names: Names, *, among: Collection[UUID] | None = None) -> Pins:
    return Pins(**{name: find_versions(conn, kind, tenant_id, own, getattr(names, name), among=among) for name, kind in KINDS.items()})


def _written(versions: dict[str, Version]) -> dict[str, list[object]]:
    return {name: [version.id.hex, version.number] for name, version in versions.items()}


def _read(versions: Mapping[str, Any]) -> dict[str, Version]:
    return {name: Version(UUID(id), number) for name, (id, number) in versions.items()}
