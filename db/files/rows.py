"""The rows of a file: written as a stream of sealed chunks, read back page by page. Memory stays flat with the file's size, but for eight
bytes a row (:mod:`db.files.doubles`)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, text

from db import bulk
from db.actors import Actor
from db.audit.acts import act, denied, find_sealer, record_act
from db.audit.damage import Opening
from db.audit.events import About, record_digest
from db.connect import Store
from db.errors import Conflict, StoreError
from db.files.columns import seal_table
from db.files.doubles import Doubles
from db.files.files import FileRecord, erase, file_record, get_file, is_readable, no_such_file
from db.files.stored_names import Names, seal_names
from db.files.table import Table
from db.sealing.cells import Opener, Sealer

CHUNK_ROWS: Final = 4096
CHUNK_BYTES: Final = 8 << 20  # sealed rows of a chunk are held in memory, once
DOUBLE: Final = "duplicate_custom_id"  # found over the whole file, so that such a row has its body
MARKED_AT_ONCE: Final = 10_000  # rows whose custom id came before, a transaction
PAGE_BYTES: Final = 4 << 20  # a page ends after the row that passes this

_STAGING: Final = bulk.Staging(
    "staged_rows",
    (
        ("idx", "integer"),
        ("line", "integer"),
        ("endpoint", "text"),
        ("defect", "text"),
        ("size", "integer"),
        ("custom_id_sealed", "bytea"),
        ("custom_id_hmac", "bytea"),
        ("body_sealed", "bytea"),
        ("columns_sealed", "bytea"),
    ),
)
_COUNT: Final = text(
    """
    UPDATE files SET row_count = row_count + :rows, size_chars = size_chars + :chars, defect_count = defect_count + :defects
    WHERE tenant_id = :tenant AND file_id = :file AND state = 'uploading' AND row_count = :first
    """
)
_MOVE: Final = text(
    """
    INSERT INTO rows (tenant_id, file_id, idx, line, endpoint, defect, size, custom_id_sealed, custom_id_hmac, body_sealed, columns_sealed)
    SELECT :tenant, :file, idx, line, endpoint, defect, size, custom_id_sealed, custom_id_hmac, body_sealed, columns_sealed
    FROM pg_temp.staged_rows
    """
)
_LOCK: Final = text("SELECT row_count FROM files WHERE tenant_id = :tenant AND file_id = :file AND state = 'uploading' FOR UPDATE")
_MARK_DOUBLES: Final = text(
    """
    UPDATE rows SET defect = 'duplicate_custom_id'
    WHERE tenant_id = :tenant AND file_id = :file AND defect IS NULL AND idx = ANY(CAST(:idxs AS integer[]))
    """
)
# Named one by one: a prepared statement whose columns became others, because a next version's migration added one, is refused.
_FINISH: Final = text(
    """
    UPDATE files SET state = 'processed', size_bytes = :size, content_bytes = :content, stored_names_sealed = :names,
        columns_sealed = :columns, defect_count = defect_count + :defects
    WHERE tenant_id = :tenant AND file_id = :file
    RETURNING tenant_id, file_id, purpose, state, size_bytes, size_chars, row_count, defect_count, created_at, expires_at,
              content_bytes
    """
)
_PAGE: Final = text(
    """
    SELECT idx, line, endpoint, defect, has_id, custom_id_sealed, body_sealed
    FROM (SELECT idx, line, endpoint, defect, custom_id_hmac IS NOT NULL OR endpoint IS NOT NULL AS has_id, custom_id_sealed, body_sealed,
                 sum(coalesce(octet_length(body_sealed), 0)) OVER (ORDER BY idx ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
          FROM rows WHERE tenant_id = :tenant AND file_id = :file AND idx >= :first AND idx < :end) AS page
    WHERE coalesce(before, 0) < :bytes ORDER BY idx
    """
)


class NewRow(msgspec.Struct, frozen=True, gc=False):
    """A parsed row. ``line``: 1-based line or record; ``size``: characters that a model would see; ``defect``: a failure code;
    ``columns``: a table's other cells, as :class:`db.files.columns.Table` says."""

    line: int
    endpoint: str | None
    defect: str | None
    custom_id: str | None
    body: bytes | None
    size: int
    columns: bytes | None = None


class StoredRow(NamedTuple):
    """A row as it was parsed, opened. ``body``: None where the line could not be kept. ``damaged``: its id or its body does not open, and
    is None."""

    idx: int
    line: int
    defect: str | None
    custom_id: str | None
    body: bytes | None
    endpoint: str | None
    damaged: bool = False


class RowWriter:
    """Fills one file that is uploading. Not thread-safe, and the only writer of its file: rows are numbered as they come.

    A call of :meth:`append` is one transaction for each 4,096 rows or 8 MiB; calls with some thousands of rows cost least per row. After an
    error only :meth:`abort` makes sense. What a process that died has left is purged (:mod:`db.files.purge`).
    """

    def __init__(self, store: Store, actor: Actor, file: FileRecord) -> None:
        self._store = store
        self._actor = actor
        self._file = file
        self._key = {"tenant": actor.tenant_id, "file": file.file_id}
        self._next_idx = 0
        self._sealer: Sealer | None = None
        self._doubles = Doubles()

    def append(self, rows: Sequence[NewRow]) -> None:
        """Seals and stores the next rows. Raises Conflict (``upload_gone``) where the file was deleted or finished in between."""
        first = 0
        held_bytes = 0
        for at, row in enumerate(rows):
            held_bytes += len(row.body or b"") + len(row.columns or b"")
            if at + 1 - first == CHUNK_ROWS or held_bytes >= CHUNK_BYTES:
                self._append_chunk(rows[first : at + 1])
                first, held_bytes = at + 1, 0
        if first < len(rows):
            self._append_chunk(rows[first:])

    def finish(
        self, size_bytes: int, content_bytes: int | None = None, names: Names | None = None, table: Table | None = None
    ) -> FileRecord:
        """Makes the file usable. ``size_bytes``: of the upload as it came; ``content_bytes``: of its rows as they are read back; ``names``:
        heads and label sets that they name, None where that is not known; ``table``: of a table, its columns.

        Of a batch's rows with the same custom id the first stays, the others get a defect. A file without rows is refused (StoreError,
        ``empty_file``, 400) and removed.
        """
        doubles = self._doubles.idxs()
        # Of a batch the custom ids are the contract; of rows and examples they are their owner's business.
        strict = self._file.purpose == "batch"
        doubled = self._mark(doubles) if strict else 0
        self._store.renew_patience()
        with self._act("file.write", range(self._next_idx)) if self._next_idx else self._act("file.refuse") as conn:
            row_count = conn.execute(_LOCK, self._key).scalar_one_or_none()
            if row_count is None:
                raise _upload_gone()
            if row_count:
                sealer = self._sealer or self._find_sealer()
                noted = {
                    "names": seal_names(sealer, self._file.file_id, names),
                    "columns": seal_table(sealer, self._file.file_id, table),
                }
                told_now = {"size": size_bytes, "content": content_bytes, "defects": doubled, **noted}
                finished = conn.execute(_FINISH, {**self._key, **told_now}).one()
            else:
                erase(conn, self._actor.tenant_id, self._file.file_id)
        if not row_count:
            raise StoreError(code="empty_file", message="The file has no rows.", status=400)
        return replace(file_record(finished, self._file.name), doubled_ids=0 if strict else len(doubles))

    def abort(self) -> None:
        """Removes an upload that will not be finished. Does nothing where it is gone or finished."""
        with self._act("file.abort") as conn:
            if conn.execute(_LOCK, self._key).scalar_one_or_none() is None:
                conn.rollback()  # of the event, too: nothing was aborted
            else:
                erase(conn, self._actor.tenant_id, self._file.file_id)

    def _mark(self, idxs: Sequence[int]) -> int:
        """How many became defects, in pages: until the last is through nobody reads the file."""
        marked = 0
        for first in range(0, len(idxs), MARKED_AT_ONCE):
            page = idxs[first : first + MARKED_AT_ONCE]
            self._store.renew_patience()
            with self._act("rows.mark", range(page[0], page[-1] + 1)) as conn:
                if conn.execute(_LOCK, self._key).one_or_none() is None:
                    raise _upload_gone()
                marked += conn.execute(_MARK_DOUBLES, {**self._key, "idxs": page}).rowcount
        return marked

    def _append_chunk(self, rows: Sequence[NewRow]) -> None:
        sealer = self._sealer or self._find_sealer()
        staged = _seal(sealer, self._next_idx, rows)
        defects, digests = staged[3], cast(Sequence[bytes | None], staged[6])
        counted = {
            **self._key,
            "first": self._next_idx,
            "rows": len(rows),
            "chars": sum(row.size for row in rows),
            "defects": len(rows) - defects.count(None),
        }
        with self._act("rows.write", range(self._next_idx, self._next_idx + len(rows))) as conn:
            if conn.execute(_COUNT, counted).rowcount != 1:  # also the lock that keeps deletion and purge out
                raise _upload_gone()
            bulk.stage(conn, _STAGING, staged)
            conn.execute(_MOVE, self._key)
        self._doubles.add(digests)
        self._next_idx += len(rows)

    def _find_sealer(self) -> Sealer:
        self._sealer = find_sealer(self._store, self._actor, "file", self._file.file_id)
        return self._sealer

    @contextmanager
    def _act(self, action: str, idxs: range | None = None) -> Iterator[Connection]:
        about: About = {"object_kind": "file", "object_id": self._file.file_id}
        if idxs is not None:
            about |= {"first_idx": idxs.start, "end_idx": idxs.stop}
        with act(self._store, self._actor, action, **about) as (conn, _):
            yield conn


def iter_rows(store: Store, actor: Actor, file_id: UUID, *, page: int = 512) -> Iterator[StoredRow]:
    """Every row in order. Raises NotFound at once; each page is on record before it is opened.

    A file that is deleted while it is read ends the iteration with NotFound, not early as if it were complete.
    """
    file = get_file(store, actor, file_id)
    if file.state != "processed":
        refusal = Conflict(code="file_not_processed", message="The file is still being uploaded.")
        raise denied(refusal, store, actor, "rows.read", object_kind="file", object_id=file_id)
    return _iter_pages(store, actor, file, page)


def sealed_body(store: Store, actor: Actor, file_id: UUID, idx: int) -> bytes | None:
    """A row's body as the database holds it: on record like any other read, and not opened. Raises NotFound."""
    found, _ = _read_page(store, actor, get_file(store, actor, file_id), idx, idx + 1)
    sealed: bytes | None = found[0].body_sealed
    return sealed


def _iter_pages(store: Store, actor: Actor, file: FileRecord, page: int) -> Iterator[StoredRow]:
    first = 0
    while first < file.row_count:
        found, opener = _read_page(store, actor, file, first, min(first + page, file.row_count))
        with Opening(store, actor) as opening:
            opened = [_open(opening, opener, row) for row in found]
        yield from opened
        first = found[-1].idx + 1


def _open(opening: Opening, opener: Opener, row: Row[Any]) -> StoredRow:
    """Of a row that was taken apart what is missing is damage, too: every row has a body but for a line that could not be kept."""
    has_id = row.has_id or row.custom_id_sealed is not None
    has_body = row.defect in (None, DOUBLE) or row.body_sealed is not None
    custom_id = opening.open_text(opener, "rows.custom_id", row.idx, row.custom_id_sealed or b"") if has_id else None
    body = opening.open(opener, "rows.body", row.idx, row.body_sealed or b"") if has_body else None
    damaged = (custom_id is None and has_id) or (body is None and has_body)
    return StoredRow(row.idx, row.line, row.defect, custom_id, body, row.endpoint, damaged)


def _read_page(store: Store, actor: Actor, file: FileRecord, first: int, end: int) -> tuple[list[Row[Any]], Opener]:
    with store.transaction(tenant=actor.tenant_id) as conn:
        event_id = record_act(conn, store, actor, "rows.read", object_kind="file", object_id=file.file_id, first_idx=first, end_idx=end)
        opener = store.keyring.opener(conn, actor.tenant_id, "file", file.file_id)  # first: what is there after it has its key
        key = {"tenant": actor.tenant_id, "file": file.file_id}
        found = list(conn.execute(_PAGE, {**key, "first": first, "end": end, "bytes": PAGE_BYTES}))
        if not is_readable(conn, actor.tenant_id, file.file_id):  # asked after them: what a deletion in between left is no damage
            found = []
        if found:
            sealed = (value for row in found for value in (row.custom_id_sealed, row.body_sealed) if value is not None)
            record_digest(conn, actor.tenant_id, event_id, sealed, rows=[row.idx for row in found])
    if not found:
        raise no_such_file(store, actor, "rows.read", file.file_id)
    return found, opener


def _seal(sealer: Sealer, first_idx: int, rows: Sequence[NewRow]) -> tuple[Sequence[bulk.Value], ...]:
    """The staging's columns."""
    idxs = range(first_idx, first_idx + len(rows))
    ids = [_encoded(row.custom_id) for row in rows]
    custom_ids = [custom_id for custom_id, _ in ids]
    return (
        idxs,
        [row.line for row in rows],
        [row.endpoint for row in rows],
        [row.defect or defect for row, (_, defect) in zip(rows, ids, strict=True)],
        [row.size for row in rows],
        sealer.seal_all("rows.custom_id", idxs, custom_ids),
        sealer.hmac_all("rows.custom_id", custom_ids),
        sealer.seal_all("rows.body", idxs, [row.body for row in rows]),
        sealer.seal_all("rows.columns", idxs, [row.columns for row in rows]),
    )


def _encoded(custom_id: str | None) -> tuple[bytes | None, str | None]:
    """The id as bytes, or the defect of one that has none."""
    if custom_id is None:
        return None, None
    try:
        return custom_id.encode(), None
    except UnicodeEncodeError:  # the error holds the id: it goes no further
        return None, "lone_surrogate"


def _upload_gone() -> Conflict:
    return Conflict(code="upload_gone", message="This upload was deleted, finished or purged in the meantime: upload the file again.")
