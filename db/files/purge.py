"""The end of uploads that stood still, of files past their expiry or kept for long enough, and of large ones that were deleted. Role
dispatcher.

A small file goes in one transaction. A large one is first taken out of everybody's sight (state ``error``, without a name, and without its
key where no output needs it), then its rows go in ranges of idx, and at last the file.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final, Unpack
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, exists, select, text

from db.audit.acts import record_duty
from db.connect import Store
from db.files.files import ERASING, close, erase, erase_rows, needs_of
from db.lifecycle import LIVE_JOBS
from db.purging import ITEMS_AT_ONCE, Lasting, Limits, Purge
from db.schema import jobs
from db.sweeps import Page, Place, paged

_DUE: Final = """
    (f.state = 'error'
     OR (f.state = 'uploading' AND f.created_at < now() - make_interval(secs => :stale_upload))
     OR (f.state = 'processed'
         AND (f.expires_at <= now() OR f.created_at < now() - make_interval(secs => CAST(:files AS float8)))))
    """
_FIND: Final = paged(
    f"""
    SELECT f.created_at AS at, f.file_id AS id, f.tenant_id, f.file_id FROM files f
    WHERE {_DUE} AND (f.state <> 'processed' OR NOT EXISTS (
        SELECT FROM jobs j WHERE j.tenant_id = f.tenant_id AND j.file_id = f.file_id
        AND j.state IN ('validating', 'in_progress', 'finalizing', 'cancelling')))
    """,  # noqa: S608 - constants
    "timestamptz",
)
_LOCK: Final = text(
    f"""
    SELECT f.state, f.row_count FROM files f WHERE f.tenant_id = :tenant AND f.file_id = :file AND {_DUE} FOR UPDATE SKIP LOCKED
    """  # noqa: S608 - constants
)
_LIVE_JOB: Final = select(
    exists().where(jobs.c.tenant_id == bindparam("tenant"), jobs.c.file_id == bindparam("file"), jobs.c.state.in_(sorted(LIVE_JOBS)))
)
# The dispatcher may erase what has expired, and nothing else of a processed file.
_EXPIRE: Final = text("UPDATE files SET expires_at = least(expires_at, now()) WHERE tenant_id = :tenant AND file_id = :file")


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far the rows of a large file are gone, and whether their custom ids stay."""

    next_idx: int
    ids_needed: bool


class FilePurge(Purge):
    """See :class:`db.purging.Purge`."""

    def __init__(self, store: Store, lasting: Lasting, **limits: Unpack[Limits]) -> None:
        super().__init__(store, lasting, **limits)
        self._progress: dict[UUID, _Progress] = {}  # what is lost with the process costs the next one some empty pages

    def _look(self, place: Place) -> Page:
        found = due(self._store, self._lasting, place)
        if len(self._progress) > ITEMS_AT_ONCE:
            self._progress = {row.file_id: self._progress[row.file_id] for row in found.items if row.file_id in self._progress}
        return found

    def _erase_page(self, store: Store, item: Row[Any]) -> bool | None:
        with store.transaction(tenant=item.tenant_id) as conn:
            locked = lock_due(conn, item.tenant_id, item.file_id, self._lasting)
            if locked is None:
                return None
            progress = self._erase_rows(conn, item.tenant_id, item.file_id, locked)
        if progress is None:
            self._progress.pop(item.file_id, None)
            return True
        self._progress[item.file_id] = progress  # only now, after the commit
        return False

    def _erase_rows(self, conn: Connection, tenant_id: UUID, file_id: UUID, locked: Row[Any]) -> _Progress | None:
        """Where the next page begins; None where the file is gone."""
        if locked.state != ERASING:
            if locked.state == "processed":
                conn.execute(_EXPIRE, {"tenant": tenant_id, "file": file_id})
            action = "file.purge" if locked.state == "uploading" else "file.expire"
            record_duty(conn, self._store, tenant_id, action, object_kind="file", object_id=file_id)
            if erase(conn, tenant_id, file_id, at_once=self._page_rows):
                return None
        needs = needs_of(conn, tenant_id, file_id)
        progress = self._progress.get(file_id)
        if progress is None or progress.ids_needed != needs.ids:  # the last output went meanwhile, and the ids with it
            progress = _Progress(0, needs.ids)
        if progress.next_idx >= locked.row_count:
            close(conn, tenant_id, file_id, needs)
            return None
        end_idx = progress.next_idx + self._page_rows
        erase_rows(conn, tenant_id, file_id, needs, first_idx=progress.next_idx, end_idx=end_idx)
        return _Progress(end_idx, needs.ids)


def due(store: Store, lasting: Lasting, place: Place | None = None) -> Page:
    """(tenant_id, file_id) of files whose time has come, the oldest first."""
    return Page.look(store, _FIND, place, limit=ITEMS_AT_ONCE, **asdict(lasting))


def lock_due(conn: Connection, tenant_id: UUID, file_id: UUID, lasting: Lasting) -> Row[Any] | None:
    """Asked again under the lock: an upload may have been finished, a job begun."""
    found = {"tenant": tenant_id, "file": file_id}
    locked: Row[Any] | None = conn.execute(_LOCK, {**found, **asdict(lasting)}).one_or_none()
    return None if locked is None or conn.execute(_LIVE_JOB, found).scalar_one() else locked
