"""A table of ten columns: what it costs to keep them all at the upload, and how fast the joined table comes out as Parquet."""

import csv
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from api.client import Upload
from tests.benchmarks.accepting import watched
from tests.benchmarks.line_reader import LineReader
from tests.benchmarks.mill import NULL_MODEL, Mill, wait_ended
from tests.benchmarks.turns import Run
from tests.benchmarks.watching import PeakMemory

UPLOADED_ROWS = 20_000
LIMIT_SECONDS = 3_600.0
TEXT = "The parcel came late and open, the invoice names another street, and nobody has answered since the second of May. " * 2
_OTHERS = {"opened": "2026-05-04T12:00:00Z", "queue": "returns", "country": "DE", "price": "1249.50", "agent": "agent-17", "tier": "gold"}


def rows(count: int, *, all_columns: bool) -> Iterator[bytes]:
    """Records of a CSV with its header: number, text and, where asked for, seven others; as long as a ticket is."""
    names = ["id", "text", *(("note", *_OTHERS) if all_columns else ())]
    yield _record(names)
    rest = _record(["", TEXT, *(("a note, in quotes", *_OTHERS.values()) if all_columns else ())])
    for number in range(count):
        yield b"%d%b" % (number, rest)


def _record(cells: Sequence[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode()


def measure_upload(mill: Mill, count: int, *, all_columns: bool) -> Run:
    content = b"".join(rows(count, all_columns=all_columns))
    used = mill.cpu_seconds()
    began = time.perf_counter()
    mill.client.upload(Upload(io.BytesIO(content), "tickets.csv", "rows", {}, len(content)))
    seconds = time.perf_counter() - began
    return Run(count, seconds, sum(mill.cpu_since(used).values()))


@dataclass(frozen=True, slots=True)
class Joined:
    """``peak_bytes``: of the API while the table was read. ``size_bytes``: of the Parquet file."""

    rows: int
    seconds: float
    peak_bytes: int
    size_bytes: int

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def measure_joined(mill: Mill, count: int) -> Joined:
    """The null model's labels joined to the table and read as a client reads them, to the last byte."""
    file = mill.client.upload(Upload(LineReader(rows(count, all_columns=True)), "tickets.csv", "rows", {}))
    batch = mill.client.create_batch(file.id, "/v1/classifications", defaults={"model": NULL_MODEL, "labels": ["late", "lost"]})
    batch = wait_ended(mill.client, batch, limit_seconds=LIMIT_SECONDS)
    assert batch.counts.completed == count, f"{batch.counts.completed} of {count} rows were completed"
    api = {name: pid for name, pid in watched(mill).items() if name == "api"}
    size_bytes, tail = 0, b""
    with PeakMemory(api) as memory:
        began = time.perf_counter()
        for piece in mill.client.table(batch.id, "parquet"):
            size_bytes += len(piece)
            tail = piece or tail
        seconds = time.perf_counter() - began
    assert tail.endswith(b"PAR1"), "the Parquet file is cut"
    return Joined(count, seconds, memory.peak_bytes["api"], size_bytes)
