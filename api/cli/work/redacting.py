"""A file with masks in the place of what is sensitive in it: in its own format, row by row, in flat memory. Nothing of it goes elsewhere.

What cannot be read cannot be masked, so it is not written: a broken line of JSON is left out and counted, any other defect ends it.
"""

import csv
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import Raw

from api.cli.terminal.exits import CommandError
from api.cli.terminal.terminal import shown
from api.errors import Refused
from api.formats.dialect import sniff
from api.formats.header import find_column, missing_column
from api.formats.limits import Columns, FileLimits
from api.formats.lines import LongLine, split_lines, text_chunks
from workers.redaction.masking import Masker

LIMITS: Final = FileLimits(max_line_bytes=64 << 20, max_text_bytes=1 << 50)  # the file is the user's own
BATCH_ROWS: Final = 4096
BATCH_BYTES: Final = 16 << 20
_BYTES_AS_THEY_ARE: Final = "surrogateescape"  # what is no UTF-8 comes out as it went in
_encode: Final = msgspec.json.Encoder().encode
_text: Final = msgspec.json.Decoder(str).decode
_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_items: Final = msgspec.json.Decoder(list[Raw]).decode
_any: Final = msgspec.json.Decoder(Raw).decode


class Redaction:
    """``columns``: to mask; none: all that hold text. ``counts``: of masked values, by kind. ``left_out``: rows that could not be read."""

    def __init__(self, masker: Masker, columns: Iterable[str] = ()) -> None:
        self._masker = masker
        self.columns = tuple(columns)
        self.counts: Counter[str] = Counter()
        self.rows = 0
        self.left_out = 0

    def lines(self, chunks: Iterable[bytes], out: BinaryIO) -> None:
        if self.columns:
            raise CommandError("Plain lines have no columns: leave --text-column out.")
        for line in _decoded(split_lines(text_chunks(chunks, LIMITS), LIMITS.max_line_bytes)):
            self.rows += 1
            out.write(self._masked(line).encode(errors=_BYTES_AS_THEY_ARE))

    def csv(self, chunks: Iterable[bytes], out: BinaryIO, delimiter: str | None) -> None:
        """The header's names are masked as well: where there is none they are the first row."""
        csv.field_size_limit(LIMITS.max_line_bytes)
        wanted = Columns(text=self.columns[0] if self.columns else None)
        lines, dialect = sniff(split_lines(text_chunks(chunks, LIMITS), LIMITS.max_line_bytes), wanted, delimiter, titles=0)
        first = next(lines, (0, b""))
        reader = csv.reader(_decoded(chain([first] if first[0] else [], lines)), **dialect.as_csv, skipinitialspace=dialect.spaced)
        text = TextIOWrapper(out, encoding="utf-8", errors=_BYTES_AS_THEY_ARE, newline="", write_through=True)
        ends = "\r\n" if first[1].endswith(b"\r") else "\n"
        writer = csv.writer(text, **dialect.as_csv, lineterminator=ends)
        try:
            header = next(reader, [])
            places = self._places(header)
            writer.writerow(map(self._masked, header))
            for record in reader:
                self.rows += bool(record)
                writer.writerow(self._masked(cell) if not places or at in places else cell for at, cell in enumerate(record))
        except csv.Error:  # its message tells nothing of the record
            line = f"{first[0] + reader.line_num - 1:,}"
            message = f"The record that ends in line {line} is no CSV: a cell too long, or a carriage return outside of quotes."
            raise Refused("invalid_csv", f"{message} Nothing was written.", param="file") from None
        finally:
            text.detach()

    def jsonl(self, chunks: Iterable[bytes], out: BinaryIO) -> None:
        """Of named columns: fields of a line's object."""
        unseen: set[str] = set(self.columns)
        names: list[str] = []
        for _, line in split_lines(text_chunks(chunks, LIMITS), LIMITS.max_line_bytes):
            if not line.strip():
                continue
            self.rows += 1
            before = self.counts.copy()
            try:
                if isinstance(line, LongLine):
                    raise ValueError("too long")
                if not self.columns:
                    masked = self._json(_any(line))
                else:
                    fields = _fields(line)
                    unseen -= fields.keys()
                    names = names or list(fields)
                    masked = Raw(_encode({name: self._json(raw) if name in self.columns else raw for name, raw in fields.items()}))
                line.decode()
            except (msgspec.DecodeError, ValueError, RecursionError):  # it holds the line: it goes no further
                self.counts = before
                self.left_out += 1
                continue
            out.write(bytes(masked).strip() + b"\n")
        for name in self.columns:
            if name in unseen and self.rows > self.left_out:
                raise missing_column("text_column", (name,), names)

    def parquet(self, source: BinaryIO, out: BinaryIO) -> None:
        """Types, and columns without text, stay as they are. Raises what Arrow raises."""
        pq: Any = import_module("pyarrow.parquet")
        pa: Any = import_module("pyarrow")
        cells: Any = import_module("workers.content.arrow_cells")
        file = pq.ParquetFile(source)
        fields = [field.with_type(cells.kept_type(field.type)) for field in file.schema_arrow]
        schema = pa.schema(fields, file.schema_arrow.metadata)
        places = self._places(schema.names)
        texts = {at for at, field in enumerate(schema) if _holds_text(field.type)}
        for at in sorted((places or texts) - texts):
            raise CommandError(f"The column “{shown(schema.names[at])}” holds no text, so nothing in it is masked.")
        with pq.ParquetWriter(out, schema, compression="zstd") as writer:
            for batch in file.iter_batches(batch_size=_batch_rows(file.metadata)):
                self.rows += batch.num_rows
                columns = [
                    self._column(field, batch.column(at)) if at in (places or texts) else batch.column(at)
                    for at, field in enumerate(schema)
                ]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))

    def _places(self, header: Sequence[str]) -> set[int]:
        """Raises Refused."""
        found = (find_column(header, "text_column", (name,), required=True) for name in self.columns)
        return {place for place in found if place is not None}

    def _masked(self, text: str) -> str:
        masked = self._masker.mask(text)
        self.counts.update(masked.counts)
        return masked.text

    def _json(self, raw: Raw) -> Raw:
        """Every text within; names, numbers and what else there is as they are written."""
        match bytes(raw).lstrip()[:1]:
            case b'"':
                text = _text(raw)
                masked = self._masked(text)
                return raw if masked == text else Raw(_encode(masked))
            case b"{":
                return Raw(_encode({name: self._json(value) for name, value in _fields(raw).items()}))
            case b"[":
                return Raw(_encode([self._json(value) for value in _items(raw)]))
        return raw

    def _column(self, field: Any, column: Any) -> Any:
        from workers.content.arrow_cells import kept_cells, restored

        return restored(field.type, [self._cell(field.type, cell) for cell in kept_cells(column)])

    def _cell(self, kind: Any, cell: Any) -> Any:
        """Every text within, of a cell as it is kept."""
        types: Any = import_module("pyarrow.types")
        if cell is None:
            return None
        if isinstance(cell, bytes):
            return b64encode(cell)  # as what is kept is read back
        if not _holds_text(kind) and not types.is_nested(kind):
            return cell
        if hasattr(kind, "storage_type"):
            return self._cell(kind.storage_type, cell)
        if isinstance(cell, str):
            return self._masked(cell)
        if types.is_struct(kind):
            return [self._cell(field.type, value) for field, value in zip(kind, cell, strict=True)]
        if types.is_map(kind):
            return [[self._cell(kind.key_type, key), self._cell(kind.item_type, value)] for key, value in cell]
        return [self._cell(kind.value_type, item) for item in cell]


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """Raises Refused for what is no text."""
    first = file.read(1 << 16)
    if b"\0" in first and not first.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        yield from text_chunks([first], LIMITS)  # says what it is, where that is known
        raise Refused("not_text", "The file is binary: it is neither JSON lines, CSV nor plain lines.", param="file")
    yield first
    while chunk := file.read(1 << 16):
        yield chunk


def format_for(out: str, form: str) -> None:
    """Raises CommandError where a file of that name would be told for another format."""
    from api.formats.names import format_of

    if out != "-" and (format_of(out) not in (None, form) or Path(out).suffix.lower() in (".gz", ".gzip", ".zst", ".zstd")):
        raise CommandError(f"What comes out is {form}, as the input is, and not compressed: give -o a name that says so.")


def _decoded(lines: Iterable[tuple[int, bytes]]) -> Iterator[str]:
    for number, line in lines:
        if isinstance(line, LongLine):
            most = LIMITS.max_line_bytes >> 20
            raise Refused("line_too_long", f"Line {number:,} has more than {most} MiB. Nothing was written.", param="file")
        yield line.decode(errors=_BYTES_AS_THEY_ARE) + "\n"


def _holds_text(kind: Any) -> bool:
    pa: Any = import_module("pyarrow")
    types: Any = import_module("pyarrow.types")
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_text(kind.storage_type)
    if types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    if types.is_nested(kind):
        return any(_holds_text(kind.field(at).type) for at in range(kind.num_fields))
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _batch_rows(metadata: Any) -> int:
    """So many that a batch has BATCH_BYTES or so; one at least."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    widths = [group.total_byte_size / group.num_rows for group in groups if group.num_rows]
    return int(max(1, min(BATCH_ROWS, BATCH_BYTES / max([1.0, *widths]))))
