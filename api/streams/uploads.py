"""An upload from its first byte to its last row: body → form → format → sealed rows, in one pass and flat memory.

The event loop receives; one thread an upload parses and writes. The thread pulls each chunk from the loop when it wants it, so a slow store
holds back the sender and not the memory. A thread holds no database connection while it waits for the network.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Final

import anyio.from_thread
from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError

from api import metrics
from api.errors import Refused
from api.formats.csv import DELIMITERS, csv_rows
from api.formats.jsonl import batch_rows, plain_rows
from api.formats.limits import Columns, FileLimits
from api.formats.multipart import Form, Part
from api.formats.names import FORMATS, format_of, is_tabbed
from api.formats.parquet import parquet_rows
from api.formats.text import text_rows
from api.requests.front import front_of
from api.requests.upload_slots import Incoming, UploadSlots
from api.settings import ApiSettings
from api.streams.downloads import input_line
from api.streams.stored_names import NamesNoted
from api.tables.noted import Noted, NotedFields
from db.actors import Actor
from db.connect import Store
from db.errors import TextmillError
from db.files.files import FileRecord, create_file
from db.files.rows import NewRow, RowWriter

BATCH_ROWS: Final = 4_096  # rows a transaction: enough to share the commit, few enough to hold
BATCH_BYTES: Final = 4 << 20
MAX_NAME_CHARS: Final = 512
EXPIRES_SECONDS: Final = (3_600, 2_592_000)  # OpenAI's bounds
PURPOSES: Final = ("batch", "rows", "train")
FORM_FIELDS: Final = {
    "purpose": "`batch`, `rows` or `train`.",
    "format": "`jsonl`, `csv`, `parquet` or `txt`; otherwise the file's name tells, else it is `jsonl`. A `batch` is always `jsonl`.",
    "text_column": "The column or field that holds the text; otherwise `text`, `input` or `prompt`.",
    "id_column": "The one that names a row in the results; otherwise `id` or `custom_id`, where there is one.",
    "label_column": "The one that holds the label; otherwise `label`. Needed for `train`.",
    "delimiter": "Of a CSV: `,`, `;`, `|` or `tab`; otherwise the header tells; of a name that ends in `.tsv` or `.tab`, a tab.",
    "expires_after[anchor]": "`created_at`.",
    "expires_after[seconds]": "The file and its rows are deleted so long after the upload: 3,600 to 2,592,000 seconds.",
}
_OF_COLUMNS: Final = ("text_column", "id_column", "label_column", "delimiter")


async def receive_upload(request: Request, actor: Actor) -> FileRecord:
    """Reads the request's body to its end. Raises Refused; when the client goes away, nothing of the file stays."""
    front = front_of(request)
    settings = front.settings
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused("compressed_body", "Send the body uncompressed.", status=415)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > settings.max_upload_bytes:
        raise _too_large(settings)
    body = _Body(request.stream(), front.uploads, settings)
    content_type = request.headers.get("content-type", "")
    with metrics.uploads_in_flight.track_inprogress():
        return await front.uploads.run(actor.tenant_id, lambda: _store_form(front.store, actor, content_type, body, settings))


class _Body:
    """The body's chunks, for the thread of the upload."""

    def __init__(self, stream: AsyncIterator[bytes], slots: UploadSlots, settings: ApiSettings) -> None:
        self._incoming = Incoming(stream)
        self._slots = slots
        self._settings = settings

    def __iter__(self) -> Iterator[bytes]:
        while chunk := anyio.from_thread.run(self._slots.next_chunk, self._incoming):
            if self._incoming.size_bytes > self._settings.max_upload_bytes:
                raise _too_large(self._settings)
            yield chunk


def _store_form(store: Store, actor: Actor, content_type: str, body: Iterable[bytes], settings: ApiSettings) -> FileRecord:
    fields: dict[str, str] = {}
    upload: _Upload | None = None
    try:
        for part in Form(content_type, body).parts():
            if part.name == "file":
                if not part.filename:
                    raise Refused("missing_file", "The part named file has no filename: give it one, such as tickets.csv.", param="file")
                if upload is not None:
                    raise Refused("invalid_form", "One upload takes one file.", param="file")
                upload = _Upload(store, actor, part, plan_of(fields, part.filename))
                upload.write(part.chunks, settings.file_limits)
            else:
                _add_field(fields, part)
        if upload is None:
            raise Refused("missing_file", "The form has no part named file with a filename.", param="file")
        if plan_of(fields, upload.name) != upload.plan:
            raise Refused("fields_after_file", "Put the form fields before the file: it is read as it comes.", param="purpose")
        if "purpose" not in fields:
            raise Refused("missing_field", "The field purpose is missing.", param="purpose")
        return upload.finish()
    except BaseException:
        if upload is not None:
            with suppress(SQLAlchemyError, TextmillError):  # a store that is away or refuses it, too: the reconciler purges what is left
                upload.abort()
        raise


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the file is to be read. ``told_by_name``: its format, not by a form field."""

    purpose: str
    format: str
    columns: Columns
    delimiter: str | None
    expires_seconds: int | None
    told_by_name: bool


class _Upload:
    """One file on its way into the store."""

    def __init__(self, store: Store, actor: Actor, part: Part, plan: _Plan) -> None:
        self.name = part.filename or ""
        self.plan = plan
        self._size_bytes = self._content_bytes = 0
        shown = PurePosixPath(self.name.replace("\\", "/")).name[:MAX_NAME_CHARS] or "upload"
        expires_at = None if plan.expires_seconds is None else datetime.now(UTC) + timedelta(seconds=plan.expires_seconds)
        store.renew_patience()  # its form may have come slowly
        record = create_file(store, actor, name=shown, purpose=plan.purpose, expires_at=expires_at)
        self._store = store
        self._writer = RowWriter(store, actor, record)
        self._noted = NamesNoted()
        self._table = noted_of(plan)

    def write(self, chunks: Iterable[bytes], limits: FileLimits) -> None:
        batch: list[NewRow] = []
        batch_bytes = 0
        for row in rows_of(self.plan, self._counted(chunks), limits, self._table):
            batch.append(row)
            batch_bytes += len(row.body or b"") + len(row.columns or b"")
            if len(batch) >= BATCH_ROWS or batch_bytes >= BATCH_BYTES:
                self._append(batch)
                batch, batch_bytes = [], 0
        if batch:
            self._append(batch)

    def finish(self) -> FileRecord:
        table = None if self._table is None else self._table.table
        return self._writer.finish(self._size_bytes, self._content_bytes, self._noted.names, table)

    def abort(self) -> None:
        """Waits no longer than what failed has left of its patience: the reconciler purges what cannot be removed now."""
        self._writer.abort()

    def _append(self, batch: list[NewRow]) -> None:
        self._store.renew_patience()
        self._writer.append(batch)
        self._noted.note(batch)
        self._content_bytes += sum(map(_content_bytes, batch))
        defects = sum(row.defect is not None for row in batch)
        metrics.uploaded_rows.labels(self.plan.format, "yes").inc(len(batch) - defects)
        metrics.uploaded_rows.labels(self.plan.format, "no").inc(defects)

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._size_bytes += len(chunk)
            metrics.uploaded_bytes.inc(len(chunk))
            yield chunk


def noted_of(plan: _Plan) -> Noted | NotedFields | None:
    """What notes its columns. Of rows alone: a batch is no table, and examples are no input that results could be joined to."""
    return None if plan.purpose != "rows" else NotedFields() if plan.format == "jsonl" else Noted()


def rows_of(plan: _Plan, chunks: Iterator[bytes], limits: FileLimits, noted: Noted | NotedFields | None) -> Iterator[NewRow]:
    if plan.purpose == "batch":
        return batch_rows(chunks, limits)
    if plan.format == "jsonl":
        return plain_rows(chunks, plan.columns, limits, noted if isinstance(noted, NotedFields) else None)
    cells = noted if isinstance(noted, Noted) else None
    if plan.format == "csv":
        return csv_rows(chunks, plan.columns, limits, plan.delimiter, cells)
    if plan.format == "parquet":
        return parquet_rows(chunks, plan.columns, limits, cells)
    return text_rows(chunks, limits, told_by_name=plan.told_by_name, noted=cells)


def _content_bytes(row: NewRow) -> int:
    """Of a row once it is read back. The store knows none of the ids that are not UTF-8: their rows come back as they are."""
    try:
        return len(input_line(row))
    except UnicodeEncodeError:
        return len(row.body or b"") + 1


def _add_field(fields: dict[str, str], part: Part) -> None:
    if part.name not in FORM_FIELDS:
        raise Refused("unknown_field", f"The form has a field that is not known here; known are file, {', '.join(FORM_FIELDS)}.")
    fields[part.name] = part.text()


def plan_of(fields: dict[str, str], filename: str) -> _Plan:
    """Raises Refused. Without a purpose the file is read as a batch: some clients send the fields after the file."""
    purpose = fields.get("purpose", "batch")
    if purpose not in PURPOSES:
        raise Refused("invalid_purpose", f"The purpose must be one of {', '.join(PURPOSES)}.", param="purpose")
    told = format_of(filename) or "jsonl"
    kind = fields.get("format", "jsonl" if purpose == "batch" and told == "txt" else told)
    if kind not in FORMATS:
        raise Refused("invalid_format", f"The format must be one of {', '.join(FORMATS)}.", param="format")
    if purpose == "batch" and kind != "jsonl":
        message = "A file with purpose=batch is JSON lines. Send CSV and Parquet with purpose=rows or purpose=train."
        raise Refused("invalid_format", message, param="format")
    if kind == "txt":
        _check_plain_lines(purpose, fields)
    named = fields.get("delimiter", "\t" if kind == "csv" and is_tabbed(filename) else None)
    delimiter = None if named is None else DELIMITERS.get(named)
    if named is not None and delimiter is None:
        raise Refused("invalid_delimiter", "The delimiter must be a comma, a semicolon, a tab or a vertical bar.", param="delimiter")
    columns = Columns(
        text=fields.get("text_column"),
        id=fields.get("id_column"),
        label=fields.get("label_column"),
        label_required=purpose == "train",
    )
    return _Plan(purpose, kind, columns, delimiter, _expires_seconds(fields), "format" not in fields)


def _check_plain_lines(purpose: str, fields: dict[str, str]) -> None:
    if purpose == "train":
        raise Refused("invalid_format", "Plain lines have no labels. Train on CSV, JSON lines or Parquet.", param="format")
    for name in _OF_COLUMNS:
        if name in fields:
            message = f"Plain lines have no columns. Leave the form field {name} out, or say in the form field format what the file is."
            raise Refused("invalid_field", message, param=name)


def _expires_seconds(fields: dict[str, str]) -> int | None:
    seconds = fields.get("expires_after[seconds]")
    if fields.get("expires_after[anchor]", "created_at") != "created_at":
        raise Refused("invalid_field", "The anchor must be created_at.", param="expires_after")
    if seconds is None:
        return None
    least, most = EXPIRES_SECONDS
    if not (seconds.isascii() and seconds.isdecimal() and len(seconds) <= 9 and least <= int(seconds) <= most):
        raise Refused("invalid_field", f"A file expires after {least} to {most} seconds.", param="expires_after")
    return int(seconds)


def _too_large(settings: ApiSettings) -> Refused:
    return Refused("file_too_large", f"An upload may have {settings.max_upload_bytes >> 20} MiB.", status=413, param="file")
