"""The end of uploads that stood still, of files past their expiry and of large ones that were deleted, a page of rows at a time. Role
dispatcher.

A small file goes in one transaction. A large one is first taken out of everybody's sight (state ``error``, without a name, and without its
key where no output needs it), then its rows go in ranges of idx, one transaction each, and at last the file. So no transaction is long, a
pass is bounded, and whoever comes after one that was cut off, in this process or in another, goes on with it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, exists, select, text

from db.audit.events import record
from db.connect import Store
from db.files.files import ERASED_AT_ONCE, ERASING, close, erase, erase_rows, needs_of
from db.lifecycle import LIVE_JOBS
from db.schema import jobs
from db.sweeps import Page, Place, paged, sweep

FILES_AT_ONCE: Final = 100  # of a pass
PAGES_AT_ONCE: Final = 50  # of a pass: some seconds

_STALE: Final = paged(
    """
    SELECT f.created_at AS at, f.file_id AS id, f.tenant_id, f.file_id FROM files f
    WHERE f.state = 'error'
       OR (f.state = 'uploading' AND f.created_at < now() - make_interval(secs => :seconds))
       OR (f.state = 'processed' AND f.expires_at <= now() AND NOT EXISTS (
               SELECT FROM jobs j WHERE j.tenant_id = f.tenant_id AND j.file_id = f.file_id
               AND j.state IN ('validating', 'in_progress', 'finalizing', 'cancelling')))
    """,
    "timestamptz",
)
_LOCK_STALE: Final = text(
    """
    SELECT f.state, f.row_count FROM files f
    WHERE f.tenant_id = :tenant AND f.file_id = :file
      AND (f.state = 'error'
           OR (f.state = 'uploading' AND f.created_at < now() - make_interval(secs => :seconds))
           OR (f.state = 'processed' AND f.expires_at <= now()))
    FOR UPDATE SKIP LOCKED
    """
)
_LIVE_JOB: Final = select(
    exists().where(jobs.c.tenant_id == bindparam("tenant"), jobs.c.file_id == bindparam("file"), jobs.c.state.in_(sorted(LIVE_JOBS)))
)


@dataclass(frozen=True, slots=True)
class Purged:
    """What a pass came to: files that are gone. ``more``: it ended at its limit, and the next one has something to do at once."""

    files: int
    more: bool


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far the rows of a large file are gone, and whether their custom ids stay."""

    next_idx: int
    ids_needed: bool


class Purge:
    """Parameters: ``store``, after how long an upload counts as stale, ``go_on``, asked before each page. Call it from one thread."""

    def __init__(
        self,
        store: Store,
        older_than_seconds: float,
        *,
        go_on: Callable[[], bool] = lambda: True,
        page_rows: int = ERASED_AT_ONCE,
        pages: int = PAGES_AT_ONCE,
    ) -> None:
        self._store = store
        self._older_than_seconds = older_than_seconds
        self._go_on = go_on
        self._page_rows = page_rows
        self._pages = pages
        self._pages_left = self._pages_done = 0
        self._place = Place()
        self._tried: Row[Any] | None = None
        self._progress: dict[UUID, _Progress] = {}  # what is lost with the process costs the next one some empty pages

    def run(self) -> Purged:
        """One pass. Raises Unfinished after all others where some files could not be purged."""
        self._pages_left, self._pages_done = self._pages, 0
        found = stale(self._store, self._older_than_seconds, self._place)
        self._tried, began = None, replace(self._place)
        if len(self._progress) > FILES_AT_ONCE:
            self._progress = {row.file_id: self._progress[row.file_id] for row in found.items if row.file_id in self._progress}
        try:
            gone = sweep(self._store, found, self._purge)
        finally:
            if self._pages_left <= 0 and self._tried is not None:  # not all were tried
                last = began if self._pages_done else Place(self._tried.at, self._tried.id)
                self._place.at, self._place.id = last.at, last.id
        limited = self._pages_left <= 0 or len(found.items) == FILES_AT_ONCE
        return Purged(gone, more=limited and self._pages_done > 0)

    def _purge(self, store: Store, file: Row[Any]) -> int:
        """1 once the file is gone."""
        while self._pages_left > 0 and self._go_on():
            self._pages_left -= 1
            self._tried = file
            with store.transaction(tenant=file.tenant_id) as conn:
                locked = lock_stale(conn, file.tenant_id, file.file_id, self._older_than_seconds)
                if locked is None:
                    return 0
                progress = self._erase_page(conn, file.tenant_id, file.file_id, locked)
            self._pages_done += 1
            if progress is None:
                self._progress.pop(file.file_id, None)
                return 1
            self._progress[file.file_id] = progress  # only now, after the commit
        return 0

    def _erase_page(self, conn: Connection, tenant_id: UUID, file_id: UUID, locked: Row[Any]) -> _Progress | None:
        """Where the next page begins; None where the file is gone."""
        if locked.state != ERASING:
            action = "file.purge" if locked.state == "uploading" else "file.expire"
            record(conn, tenant_id=tenant_id, component=self._store.role.value, action=action, object_kind="file", object_id=file_id)
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


def stale(store: Store, older_than_seconds: float, place: Place | None = None) -> Page:
    """(tenant_id, file_id) of files whose time has come, the oldest first."""
    return Page.look(store, _STALE, place, limit=FILES_AT_ONCE, seconds=older_than_seconds)


def lock_stale(conn: Connection, tenant_id: UUID, file_id: UUID, older_than_seconds: float) -> Row[Any] | None:
    """Asked again under the lock: an upload may have been finished, a job begun."""
    found = {"tenant": tenant_id, "file": file_id}
    locked: Row[Any] | None = conn.execute(_LOCK_STALE, {**found, "seconds": older_than_seconds}).one_or_none()
    return None if locked is None or conn.execute(_LIVE_JOB, found).scalar_one() else locked
