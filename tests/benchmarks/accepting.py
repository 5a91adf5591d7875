"""I1 and C6: a file of 50,000 lines, from its first byte to the answer that it is stored; and then a job over it, without a model.

The lines are made before the clock runs. The API's CPU time is that of its process; what Postgres does for it is in ``cpu_by_part``.
"""

import io
import time
from dataclasses import dataclass

from api.client import Upload
from tests.benchmarks.mill import NULL_MODEL, Mill, wait_ended
from tests.benchmarks.watching import PeakMemory
from tests.benchmarks.workloads import repeated_lines

LINES = 50_000
LOOK_SECONDS = 0.02
WATCHED = ("api", "dispatcher", "worker", "postgres")


@dataclass(frozen=True, slots=True)
class Accepted:
    """``megabytes``: of the file. ``cpu_by_part``: seconds, while it was uploaded."""

    seconds: float
    api_cpu_seconds: float
    megabytes: float
    cpu_by_part: dict[str, float]
    file_id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Seconds from the job's creation to its first result and to its end; peak resident memory by part, in bytes."""

    first_result_seconds: float
    seconds: float
    cpu_by_part: dict[str, float]
    peak_bytes: dict[str, int]


def watched(mill: Mill) -> dict[str, int]:
    return {name: pid for name, pid in mill.children.items() if name.startswith(WATCHED)}


def measure_accepted(mill: Mill, lines: int = LINES) -> Accepted:
    content = b"".join(repeated_lines(lines))
    used = mill.cpu_seconds()
    began = time.perf_counter()
    file = mill.client.upload(Upload(io.BytesIO(content), "file.jsonl", "batch", {}, len(content)))
    seconds = time.perf_counter() - began
    spent = mill.cpu_since(used)
    return Accepted(seconds, spent["api"], len(content) / 1e6, spent, file.id)


def measure_finished(mill: Mill, file_id: str, lines: int) -> Finished:
    used = mill.cpu_seconds()
    with PeakMemory(watched(mill)) as memory:
        began = time.perf_counter()
        batch = mill.client.create_batch(file_id, "/v1/classifications", defaults={"model": NULL_MODEL})
        while batch.counts.done == 0 and not batch.ended:
            time.sleep(LOOK_SECONDS)
            batch = mill.client.batch(batch.id)
        first = time.perf_counter() - began
        batch = wait_ended(mill.client, batch)
        seconds = time.perf_counter() - began
    assert batch.counts.completed == lines, f"{batch.counts.completed} of {lines} rows were completed"
    return Finished(first, seconds, mill.cpu_since(used), memory.peak_bytes)
