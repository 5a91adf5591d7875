"""Uploads of 10 MB and 200 MB: rows a second, and whether the memory of API and dispatcher stays where it was.

`python -m tests.benchmarks.ingest [--quick] [--report FILE]`. After each upload a job over the file is started and cancelled, so that the
dispatcher cuts it into shards, and the file is read back through the API. The worker's models are not measured here.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from api.client import Client, Upload
from api.demo import stack as stacks
from tests.benchmarks.line_reader import LineReader
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.watching import PeakMemory

MEGABYTE = 1_000_000
WARM_UP_BYTES = 2 * MEGABYTE
SIZES_BYTES = (10 * MEGABYTE, 200 * MEGABYTE)
QUICK_SIZES_BYTES = (5 * MEGABYTE, 20 * MEGABYTE)
ALLOWED_BYTES = 30 * MEGABYTE
WATCHED = ("api", "dispatcher")


class Lines(LineReader):
    """So many bytes of OpenAI lines, made as they are read: about 310 bytes each, as short news are. Cheap to make: the sender shares the
    cores with what is measured."""

    def __init__(self, size_bytes: int) -> None:
        self.rows = 0
        super().__init__(self._make(size_bytes))

    def _make(self, size_bytes: int) -> Iterator[bytes]:
        chance = random.Random(1)
        words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(2000)]
        bodies = [json.dumps({"input": " ".join(chance.choices(words, k=30)), "labels": ["one", "two"]}).encode() for _ in range(1000)]
        while size_bytes > 0:
            line = b'{"custom_id":"row-%d","method":"POST","url":"/v1/classifications","body":%b}\n' % (self.rows, bodies[self.rows % 1000])
            self.rows += 1
            size_bytes -= len(line)
            yield line


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ingest", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="5 MB against 20 MB")
    parser.add_argument("--report", type=Path, default=Path("ingest-report.json"))
    options = parser.parse_args(arguments)
    stacks.own_environment()
    with tempfile.TemporaryDirectory(prefix="textmill-bench-", ignore_cleanup_errors=True) as home:
        os.environ["TEXTMILL_HOME"] = home
        stack = stacks.ensure()
        try:
            watched = {name: pid for name, pid in stack.children.items() if name in WATCHED}
            assert watched, f"run/state.json names none of {WATCHED}"
            with stack.connect() as client:
                run(client, WARM_UP_BYTES, watched)
                runs = [run(client, size, watched) for size in (QUICK_SIZES_BYTES if options.quick else SIZES_BYTES)]
        finally:
            stack.stop()
    small, large = (cast("dict[str, int]", one["peak_bytes"]) for one in runs)
    growth = {name: large[name] - small[name] for name in small}
    flat = all(abs(grown) <= ALLOWED_BYTES for grown in growth.values())
    report = {"benchmark": "ingest", "machine": describe_machine(), "runs": runs, "growth_bytes": growth, "flat": flat}
    options.report.write_text(json.dumps(report, indent=2) + "\n")
    told = ", ".join(f"{name} {grown / MEGABYTE:+.1f} MB" for name, grown in growth.items())
    print(f"memory from the small to the large file: {told} (allowed ±{ALLOWED_BYTES // MEGABYTE} MB) · {options.report}")
    return 0 if flat else 1


def run(client: Client, size_bytes: int, watched: dict[str, int]) -> dict[str, object]:
    lines = Lines(size_bytes)
    with PeakMemory(watched) as memory:
        began = time.perf_counter()
        file = client.upload(Upload(lines, "ingest.jsonl", "batch", {}))
        upload_seconds = time.perf_counter() - began
        began = time.perf_counter()
        batch = client.create_batch(file.id, "/v1/classifications")
        while batch.status == "validating":
            time.sleep(0.1)
            batch = client.batch(batch.id)
        cut_seconds = time.perf_counter() - began
        batch = client.cancel(batch.id)
        began = time.perf_counter()
        read = sum(1 for _ in client.lines(file.id))
        read_seconds = time.perf_counter() - began
        while not batch.ended:
            time.sleep(0.2)
            batch = client.batch(batch.id)
    assert read == lines.rows, f"{lines.rows} rows were sent and {read} read back"
    done = {
        "size_bytes": size_bytes,
        "rows": lines.rows,
        "upload_seconds": upload_seconds,
        "rows_per_second": lines.rows / upload_seconds,
        "megabytes_per_second": size_bytes / MEGABYTE / upload_seconds,
        "cut_seconds": cut_seconds,
        "read_seconds": read_seconds,
        "peak_bytes": memory.peak_bytes,
    }
    peaks = ", ".join(f"{name} {peak / MEGABYTE:.0f} MB" for name, peak in memory.peak_bytes.items())
    print(
        f"{size_bytes / MEGABYTE:.0f} MB: {done['rows_per_second']:,.0f} rows/s in, {lines.rows / read_seconds:,.0f} out; peak {peaks}",
        flush=True,
    )
    return done


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
