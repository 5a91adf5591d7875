"""Uploaded files: what is known of them, and their end. Their rows are written and read by :mod:`db.files.rows`.

A deleted file is out of everybody's sight at once, and so are its bodies; those of a large one are erased by :mod:`db.files.purge`, a page
at a time, whose key is gone before. Where the outputs of ended jobs still need its rows' custom ids, these and the key stay until the
last of those outputs is deleted, and the file stays as a tombstone that jobs can go on naming.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, delete, exists, func, insert, or_, select, update

from db.actors import Actor
from db.audit.acts import act, not_found, record_act
from db.audit.damage import Opening
from db.audit.events import record_digest
from db.connect import Store
from db.errors import Conflict, NotFound
from db.lifecycle import LIVE_JOBS
from db.moments import is_known
from db.purging import ERASED_AT_ONCE
from db.schema import data_keys, files, jobs, rows
from db.sealing.cells import Opener

DELETED: Final = "deleted"
NO_FILE: Final = "There is no file with this id."
ERASING: Final = "error"  # nobody's any more; :mod:`db.files.purge` is at its rows

_NAMELESS: Final[dict[str, Any]] = {"name_sealed": b"", "stored_names_sealed": None, "columns_sealed": None}
_BODILESS: Final[dict[str, Any]] = {"body_sealed": None, "columns_sealed": None}
HAS_NAME: Final = files.c.state.not_in([DELETED, ERASING])  # by its state: a name that is blank all the same was altered
_VISIBLE: Final = HAS_NAME & (files.c.expires_at.is_(None) | (files.c.expires_at > func.now()))


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as its owner sees it. ``state``: uploading, processed. ``defect_count``: rows that no model will see. ``size_bytes``: of what
    was uploaded; ``content_bytes``: of its rows as they are read back, None where that was not counted. ``doubled_ids``: rows
    whose id an earlier one has, told once, when the upload ends; a batch has defects instead. ``name``: None for who may not
    read, and where it does not open (``damaged``)."""

    file_id: UUID
    tenant_id: UUID
    name: str | None
    purpose: str
    state: str
    size_bytes: int
    size_chars: int
    row_count: int
    defect_count: int
    created_at: datetime
    expires_at: datetime | None
    content_bytes: int | None
    doubled_ids: int = 0
    damaged: bool = False


def create_file(store: Store, actor: Actor, *, name: str, purpose: str, expires_at: datetime | None = None) -> FileRecord:
    """Opens an upload: the file, its key, its event. :class:`db.files.rows.RowWriter` fills it."""
    file_id = uuid4()
    with act(store, actor, "file.create", object_kind="file", object_id=file_id) as (conn, _):
        sealer = store.keyring.new_data_key(conn, actor.tenant_id, "file", file_id)
        created = conn.execute(
            insert(files)
            .values(
                tenant_id=actor.tenant_id,
                file_id=file_id,
                purpose=purpose,
                state="uploading",
                name_sealed=sealer.seal("files.name", file_id, name.encode("utf-8", "replace")),
                expires_at=expires_at,
            )
            .returning(files)
        ).one()
    return file_record(created, name)


def get_file(store: Store, actor: Actor, file_id: UUID) -> FileRecord:
    """Raises NotFound for a missing, deleted, expired or foreign file. Of its name for who may not read, nothing is opened."""
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "file.read", object_kind="file", object_id=file_id)
        opener = store.keyring.opener(conn, actor.tenant_id, "file", file_id)  # first: what is there after it has its key
        found = conn.execute(select(files).where(files.c.tenant_id == actor.tenant_id, files.c.file_id == file_id, _VISIBLE)).one_or_none()
        if found is not None and actor.may_read:
            record_digest(conn, actor.tenant_id, event_id, [found.name_sealed])
    if found is None:
        raise no_such_file(store, actor, "file.read", file_id)
    if not actor.may_read:
        return file_record(found, None)
    with Opening(store, actor) as opening:
        return open_file_record(opening, opener, found)


def delete_file(store: Store, actor: Actor, file_id: UUID) -> bool:
    """False where it is out of sight, and its rows go page by page from now on. Raises NotFound, or Conflict (``file_in_use``) while a job
    that has not ended reads it."""
    with act(store, actor, "file.delete", object_kind="file", object_id=file_id) as (conn, _):
        found = conn.execute(
            select(files.c.file_id).where(files.c.tenant_id == actor.tenant_id, files.c.file_id == file_id, _VISIBLE).with_for_update()
        ).one_or_none()
        if found is None:
            raise NotFound(NO_FILE)
        if conn.execute(select(exists().where(*_of_file(actor.tenant_id, file_id), jobs.c.state.in_(sorted(LIVE_JOBS))))).scalar_one():
            raise Conflict(code="file_in_use", message="A batch that has not ended reads this file: cancel the batch, or wait for its end.")
        gone = erase(conn, actor.tenant_id, file_id)
    store.keyring.forget(actor.tenant_id, "file", file_id)
    return gone


# What other stages need of a file.


@dataclass(frozen=True, slots=True)
class Needs:
    """What jobs still need of a file: ``name``, that it stays as a tombstone; ``ids``, its rows' custom ids and its key."""

    name: bool
    ids: bool


def needs_of(conn: Connection, tenant_id: UUID, file_id: UUID) -> Needs:
    may_have_rows = or_(jobs.c.state != "failed", jobs.c.failed_count > 0)
    has_outputs = may_have_rows & or_(jobs.c.output_deleted_at.is_(None), jobs.c.errors_deleted_at.is_(None))
    return Needs(
        *conn.execute(
            select(exists().where(*_of_file(tenant_id, file_id)), exists().where(*_of_file(tenant_id, file_id), has_outputs))
        ).one()
    )


def erase(conn: Connection, tenant_id: UUID, file_id: UUID, *, at_once: int | None = None) -> bool:
    """Removes what no job's outputs need any more; of a file with more rows than ``at_once`` (ERASED_AT_ONCE) the key and the name, and
    leaves its rows to the purge. The caller has locked the file's row, or is deleting the last output. False where rows are left."""
    own = (files.c.tenant_id == tenant_id, files.c.file_id == file_id)
    needs = needs_of(conn, tenant_id, file_id)
    at_once = ERASED_AT_ONCE if at_once is None else at_once
    if (conn.execute(select(files.c.row_count).where(*own)).scalar_one_or_none() or 0) <= at_once:
        erase_rows(conn, tenant_id, file_id, needs)
        close(conn, tenant_id, file_id, needs)
        return True
    _erase_key(conn, tenant_id, file_id, needs)
    conn.execute(update(files).where(*own).values(state=ERASING, **_NAMELESS))
    return False


def erase_rows(
    conn: Connection, tenant_id: UUID, file_id: UUID, needs: Needs, *, first_idx: int | None = None, end_idx: int | None = None
) -> None:
    """The bodies of a range of rows, or of all; the rows themselves too, where nothing needs their custom ids."""
    own = [rows.c.tenant_id == tenant_id, rows.c.file_id == file_id]
    if first_idx is not None:
        own.append(rows.c.idx >= first_idx)
    if end_idx is not None:
        own.append(rows.c.idx < end_idx)
    conn.execute(update(rows).where(*own).values(_BODILESS) if needs.ids else delete(rows).where(*own))


def close(conn: Connection, tenant_id: UUID, file_id: UUID, needs: Needs) -> None:
    """Once the rows were erased: the key and the name."""
    _erase_key(conn, tenant_id, file_id, needs)
    own = (files.c.tenant_id == tenant_id, files.c.file_id == file_id)
    if needs.name:
        conn.execute(update(files).where(*own).values(state=DELETED, **_NAMELESS))
    else:
        conn.execute(delete(files).where(*own))


def _erase_key(conn: Connection, tenant_id: UUID, file_id: UUID, needs: Needs) -> None:
    if not needs.ids:
        conn.execute(
            delete(data_keys).where(data_keys.c.tenant_id == tenant_id, data_keys.c.owner_kind == "file", data_keys.c.owner_id == file_id)
        )


def lock_for_job(conn: Connection, tenant_id: UUID, file_id: UUID) -> Row[Any] | None:
    """The file's row, locked against deletion until the transaction ends; None where there is no such file."""
    locked: Row[Any] | None = conn.execute(
        select(files).where(files.c.tenant_id == tenant_id, files.c.file_id == file_id, _VISIBLE).with_for_update(read=True)
    ).one_or_none()
    return locked


def is_readable(conn: Connection, tenant_id: UUID, file_id: UUID) -> bool:
    """Whether the file is complete and still there."""
    return bool(
        conn.execute(
            select(exists().where(files.c.tenant_id == tenant_id, files.c.file_id == file_id, files.c.state == "processed", _VISIBLE))
        ).scalar_one()
    )


def no_such_file(store: Store, actor: Actor, action: str, file_id: UUID) -> NotFound:
    return not_found(store, actor, action, "file", file_id, NO_FILE)


def file_record(row: Row[Any], name: str | None, *, damaged: bool = False) -> FileRecord:
    """From a row of ``files``. A moment that nobody can have written here is damage, too."""
    return FileRecord(
        file_id=row.file_id,
        tenant_id=row.tenant_id,
        name=name,
        purpose=row.purpose,
        state=row.state,
        size_bytes=row.size_bytes,
        size_chars=row.size_chars,
        row_count=row.row_count,
        defect_count=row.defect_count,
        created_at=row.created_at,
        expires_at=row.expires_at,
        content_bytes=row.content_bytes,
        damaged=damaged or not _moments_are_known(row),
    )


def sealed_names(conn: Connection, tenant_id: UUID, file_ids: Iterable[UUID]) -> dict[UUID, bytes]:
    """Of those files that still have one."""
    found = select(files.c.file_id, files.c.name_sealed).where(files.c.tenant_id == tenant_id, files.c.file_id.in_(file_ids), HAS_NAME)
    return {row.file_id: row.name_sealed for row in conn.execute(found)}


def open_file_record(opening: Opening, opener: Opener, row: Row[Any]) -> FileRecord:
    """From a row of ``files``, with its name."""
    name = opening.open_text(opener, "files.name", row.file_id, row.name_sealed)
    if not _moments_are_known(row):
        opening.note_plain("files", row.file_id)
    return file_record(row, name, damaged=name is None)


def _moments_are_known(row: Row[Any]) -> bool:
    return is_known(row.created_at) and is_known(row.expires_at)


def _of_file(tenant_id: UUID, file_id: UUID) -> tuple[Any, ...]:
    return jobs.c.tenant_id == tenant_id, jobs.c.file_id == file_id
