"""C5: 2,000 jobs of four documents each, handed in over HTTP by 16 tenants at once, until every job has ended.

Handing in counts: with documents this few it is most of what the system itself does. The results are not read back.
"""

import io
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from api.cli.terminal.connection import server_url
from api.client import Client, Upload
from api.demo.corpus import LABELS, batch_lines
from tests.benchmarks.mill import ENCODER, LIMIT_SECONDS, Mill
from tests.benchmarks.turns import Run
from tests.benchmarks.workloads import JOB_ROWS, Workload

SENDERS = 4
LOOK_SECONDS = 0.1


class Tenants:
    """Clients of so many tenants, each with a key of its own."""

    def __init__(self, mill: Mill, count: int) -> None:
        self._held = ExitStack()
        url = server_url(mill.home)
        self.clients = [self._held.enter_context(Client(url, key)) for key in mill.new_keys(count)]

    def close(self) -> None:
        self._held.close()


def measure_tiny_jobs(mill: Mill, workload: Workload, tenants: Sequence[Client]) -> Run:
    """``parts``: seconds until the last job was handed in, and jobs a second over all."""
    files = list(_files(workload))
    shares = [range(first, len(tenants), SENDERS) for first in range(SENDERS)]
    ready = threading.Barrier(SENDERS + 1)

    def send(share: range) -> None:
        ready.wait()
        for at in range(share.start, len(files), SENDERS):  # a client is not for several threads: each sender has its own tenants
            client = tenants[share[at // SENDERS % len(share)]]
            file = client.upload(Upload(io.BytesIO(files[at]), "tiny.jsonl", "batch", {}, len(files[at])))
            client.create_batch(file.id, "/v1/classifications")

    with mill.counts() as counts, ThreadPoolExecutor(SENDERS) as senders:
        _, before = counts.open_jobs_and_rows()
        used = mill.cpu_seconds()
        sending = [senders.submit(send, share) for share in shares]
        ready.wait()
        began = time.perf_counter()
        for one in sending:
            one.result()
        sent = time.perf_counter()
        open_jobs, rows = counts.open_jobs_and_rows()
        while open_jobs:
            assert time.perf_counter() - began < LIMIT_SECONDS, f"{open_jobs} jobs are open after {LIMIT_SECONDS:.0f} s"
            time.sleep(LOOK_SECONDS)
            open_jobs, rows = counts.open_jobs_and_rows()
        seconds = time.perf_counter() - began
        spent = mill.cpu_since(used)
    assert rows - before == len(workload), f"{rows - before} of {len(workload)} rows were completed"
    parts = {"submit_seconds": sent - began, "jobs": len(files), "jobs_per_second": len(files) / seconds, "cpu_by_part": spent}
    return Run(len(workload), seconds, sum(spent.values()), parts)


def _files(workload: Workload) -> Iterator[bytes]:
    body = {"model": ENCODER, "labels": list(LABELS)}
    for first in range(0, len(workload), JOB_ROWS):
        yield b"".join(batch_lines(workload.articles[first : first + JOB_ROWS], body))
