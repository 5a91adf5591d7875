"""Versions of what a tenant named, heads, label sets and definitions: which one an address means, and which one comes next.

A version is never changed. The same name again makes the next one, and the name alone means the newest; ``NAME@2`` means the second, and
never another one, also when that is deleted.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, Table, exists, func, select, text, true
from sqlalchemy.dialects import postgresql

from db.lifecycle import LIVE_JOBS
from db.schema import definitions, deleted_versions, job_pins, jobs, label_sets, models
from db.sealing.cells import Opener, Sealer

_ADDRESS: Final = re.compile(r"(.+)@([1-9][0-9]{0,8})", re.DOTALL)
_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('catalogue ' || :tenant, 0))")
_LOCK_SHARED: Final = text("SELECT pg_advisory_xact_lock_shared(hashtextextended('catalogue ' || :tenant, 0))")


@dataclass(frozen=True, slots=True)
class Kind:
    """What has versions. ``word``: what the record calls it, and definitions their ``kind``; ``purpose``: of its names' keyed hash."""

    word: str
    table: Table
    id: Column[Any]
    purpose: str

    def hmac(self, sealer: Opener, name: str) -> bytes:
        return sealer.hmac(self.purpose, name.encode("utf-8", "surrogatepass"))

    @property
    def own(self) -> ColumnElement[bool]:
        """Which rows of its table are its own."""
        return self.table.c.kind == self.word if self.table is definitions else true()


HEADS: Final = Kind("head", models, models.c.model_id, "models.name")
LABEL_SETS: Final = Kind("label_set", label_sets, label_sets.c.label_set_id, "label_sets.name")
PROMPTS: Final = Kind("prompt", definitions, definitions.c.definition_id, "prompts.name")
RULES: Final = Kind("rules", definitions, definitions.c.definition_id, "rules.name")
TEMPLATES: Final = Kind("template", definitions, definitions.c.definition_id, "templates.name")
# By what a job's spec and its file call them: see :class:`db.files.stored_names.Names`.
KINDS: Final = {"heads": HEADS, "label_sets": LABEL_SETS, "prompts": PROMPTS, "rules": RULES, "templates": TEMPLATES}


class Version(NamedTuple):
    id: UUID
    number: int


def address_of(name: str, number: int) -> str:
    """What a version is called."""
    return f"{name}@{number}"


def name_of(address: str) -> str:
    """Which name has the version that is called so."""
    parts = _ADDRESS.fullmatch(address)
    return address if parts is None else parts[1]


def is_address(name: str) -> bool:
    """Whether it reads as a name with a version."""
    return _ADDRESS.fullmatch(name) is not None


def lock_versions(conn: Connection, tenant_id: UUID, *, shared: bool = False) -> None:
    """Until the transaction ends, none of the tenant's versions comes or goes but by it; ``shared``: by nobody."""
    conn.execute(_LOCK_SHARED if shared else _LOCK, {"tenant": str(tenant_id)})


class Next(NamedTuple):
    """Columns of a name's next version."""

    number: int
    first_id: UUID | None


def next_version(conn: Connection, kind: Kind, tenant_id: UUID, name_hmac: bytes) -> Next:
    """Numbers go on behind versions that were deleted. Locks the tenant's versions until the transaction ends."""
    lock_versions(conn, tenant_id)
    gone = deleted_versions.c
    given = conn.execute(select(gone.number).where(gone.tenant_id == tenant_id, gone.name_hmac == name_hmac)).scalar_one_or_none() or 0
    columns = kind.table.c
    last = conn.execute(
        select(columns.number, func.coalesce(columns.first_id, kind.id).label("first_id"))
        .where(columns.tenant_id == tenant_id, columns.name_hmac == name_hmac)
        .order_by(columns.number.desc())
        .limit(1)
    ).one_or_none()
    return Next(given + 1, None) if last is None else Next(max(last.number, given) + 1, last.first_id)


def keep_numbers(conn: Connection, kind: Kind, tenant_id: UUID, ids: Collection[UUID]) -> None:
    """Before versions are deleted: their numbers mean them for ever. The tenant's versions are locked."""
    columns = kind.table.c
    numbers = (
        select(columns.tenant_id, columns.name_hmac, func.max(columns.number))
        .where(columns.tenant_id == tenant_id, kind.id.in_(ids))
        .group_by(columns.tenant_id, columns.name_hmac)
    )
    kept = postgresql.insert(deleted_versions).from_select(["tenant_id", "name_hmac", "number"], numbers)
    highest = func.greatest(deleted_versions.c.number, kept.excluded.number)
    conn.execute(kept.on_conflict_do_update(index_elements=["tenant_id", "name_hmac"], set_={"number": highest}))


def find_versions(
    conn: Connection, kind: Kind, tenant_id: UUID, sealer: Opener, addresses: Collection[str], *, among: Collection[UUID] | None = None
) -> dict[str, Version]:
    """What each address means now, or meant when ``among`` were those that there were; those that mean nothing are not in it. A name that
    itself ends like a version goes first."""
    asked: dict[str, list[tuple[bytes, int | None]]] = {}
    for address in addresses:
        asked[address] = [(kind.hmac(sealer, address), None)]
        if (parts := _ADDRESS.fullmatch(address)) is not None:
            asked[address].append((kind.hmac(sealer, parts[1]), int(parts[2])))
    columns = kind.table.c
    query = select(kind.id.label("id"), columns.number, columns.name_hmac).where(
        columns.tenant_id == tenant_id,
        columns.deleted_at.is_(None) if among is None else kind.id.in_(among),
        columns.name_hmac.in_({hmac for meanings in asked.values() for hmac, _ in meanings}),
    )
    there: dict[tuple[bytes, int | None], Version] = {}
    for row in conn.execute(query.order_by(columns.number)):
        there[row.name_hmac, row.number] = there[row.name_hmac, None] = Version(row.id, row.number)
    found = {address: next((there[one] for one in meanings if one in there), None) for address, meanings in asked.items()}
    return {address: version for address, version in found.items() if version is not None}


def ids_of(conn: Connection, kind: Kind, tenant_id: UUID, sealer: Sealer, address: str) -> list[UUID]:
    """All versions of a name; the one version of an address that names one."""
    columns = kind.table.c
    seen = (columns.tenant_id == tenant_id, columns.deleted_at.is_(None))
    found = list(conn.execute(select(kind.id).where(*seen, columns.name_hmac == kind.hmac(sealer, address))).scalars())
    if found or not is_address(address):
        return found
    return [version.id for version in find_versions(conn, kind, tenant_id, sealer, [address]).values()]


def in_use(kind: Kind) -> ColumnElement[bool]:
    """Whether a job that has not ended began with the version."""
    pinning = job_pins.join(jobs, (jobs.c.tenant_id == job_pins.c.tenant_id) & (jobs.c.job_id == job_pins.c.job_id))
    return exists(
        select(job_pins.c.job_id)
        .select_from(pinning)
        .where(job_pins.c.tenant_id == kind.table.c.tenant_id, job_pins.c.version_id == kind.id, jobs.c.state.in_(sorted(LIVE_JOBS)))
    )
