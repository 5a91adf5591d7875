"""What a row costs when there are a million of them: the null model, upload to results read, against jobs of 10,000 rows.

The cost of a row is the CPU time of every part of the stack over the rows, so that other work on the machine blurs it less; the wall time
is told beside it. The lines are made as they are sent. Memory is flat when no part's peak has grown by more than ALLOWED_BYTES.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any

from api.client import Upload
from tests.benchmarks.accepting import watched
from tests.benchmarks.line_reader import LineReader
from tests.benchmarks.mill import NULL_MODEL, Mill, wait_ended
from tests.benchmarks.turns import Run
from tests.benchmarks.watching import PeakMemory
from tests.benchmarks.workloads import repeated_lines

FEW_ROWS = 10_000
FEW_RUNS = 3
ALLOWED_BYTES = 30_000_000
WATCHED = ("api", "dispatcher", "worker")  # Postgres' memory is its shared buffers: they fill, to a size that is set
LIMIT_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class ManyRows:
    few: list[Run]
    many: Run
    growth_bytes: dict[str, int]

    @property
    def cost_ratio(self) -> float:
        return self.many.cpu_per_row / statistics.median(run.cpu_per_row for run in self.few)

    @property
    def wall_ratio(self) -> float:
        return statistics.median(run.rate for run in self.few) / self.many.rate


def measure_many_rows(mill: Mill, rows: int, few_rows: int = FEW_ROWS) -> ManyRows:
    _run(mill, few_rows)  # every part has its code and its pools from here on
    few = [_run(mill, few_rows) for _ in range(FEW_RUNS)]
    many = _run(mill, rows)
    before, after = _peaks(few[-1]), _peaks(many)
    return ManyRows(few, many, {name: after[name] - before[name] for name in before if name.startswith(WATCHED)})


def _run(mill: Mill, rows: int) -> Run:
    used = mill.cpu_seconds()
    with PeakMemory(watched(mill)) as memory:
        began = time.perf_counter()
        file = mill.client.upload(Upload(LineReader(repeated_lines(rows)), "many.jsonl", "batch", {}))
        uploaded = time.perf_counter()
        batch = mill.client.create_batch(file.id, "/v1/classifications", defaults={"model": NULL_MODEL})
        batch = wait_ended(mill.client, batch, limit_seconds=LIMIT_SECONDS)
        ended = time.perf_counter()
        read = sum(1 for _ in mill.client.lines(batch.output_file or ""))
        seconds = time.perf_counter() - began
    assert read == rows, f"{read} of {rows} rows came back"
    spent = mill.cpu_since(used)
    parts = {
        "upload_seconds": uploaded - began,
        "job_seconds": ended - uploaded,
        "read_seconds": began + seconds - ended,
        "cpu_by_part": spent,
        "peak_bytes": memory.peak_bytes,
    }
    return Run(rows, seconds, sum(spent.values()), parts)


def _peaks(run: Run) -> dict[str, int]:
    found: Any = run.parts["peak_bytes"]
    return dict(found)
