"""What somebody who waits feels while a bulk job runs, and what that costs the bulk job.

At the micro-batcher: a process of its own (`python -m tests.benchmarks.interactive`) with the worker's runtime, bulk work from as many
threads as a worker has shards in flight, and single documents in between, five a second. Phases without and with them take turns. Through
the API: interactive jobs of one document beside a job of thousands, from the upload to the answer.
"""

import io
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

from api.client import Upload
from api.demo.corpus import LABELS, batch_lines
from api.local.processes.parts import WORKER_NICENESS
from tests.benchmarks.mill import ENCODER, Mill
from tests.benchmarks.workloads import Workload, c1, c3

PIECE_ROWS = 64
PER_SECOND = 5.0
TURNS = 3
ALONE_SECONDS = 4.0
BESIDE_SECONDS = 8.0
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Felt:
    """``seconds``: of every interactive document. ``batch_seconds``: the median micro-batch of the bulk work."""

    seconds: Sequence[float]
    batch_seconds: float
    bulk_alone: float
    bulk_beside: float

    @property
    def loss(self) -> float:
        return 1 - self.bulk_beside / self.bulk_alone


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of them do not pass (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-round(share * 1000) * len(ordered) // 1000) - 1)]


def measure_interactive(*, quick: bool = False) -> Felt:
    """``quick``: a second or two, to see that it runs."""
    command = [sys.executable, "-m", "tests.benchmarks.interactive", *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180)
    found = json.loads(done.stdout.splitlines()[-1])
    return Felt(**found)


def measure_through_the_api(mill: Mill, bulk: Workload, wanted: int, limit_seconds: float) -> list[float]:
    """Seconds of jobs of one document, one after the other, while ``bulk`` of the same tenant runs; that is cancelled afterwards."""
    client, body = mill.client, {"model": ENCODER, "labels": list(LABELS)}

    def submit(articles: Any, priority: str) -> Any:
        lines = b"".join(batch_lines(articles, body))
        file = client.upload(Upload(io.BytesIO(lines), "one.jsonl", "batch", {}, len(lines)))
        return client.create_batch(file.id, "/v1/classifications", priority=priority)

    running = submit(bulk.articles, "bulk")
    taken: list[float] = []
    until = time.perf_counter() + limit_seconds
    try:
        while client.batch(running.id).counts.done == 0 and time.perf_counter() < until:
            time.sleep(LOOK_SECONDS)
        while len(taken) < wanted and (not taken or time.perf_counter() < until):
            began = time.perf_counter()
            one = submit(bulk.articles[len(taken) : len(taken) + 1], "interactive")
            while not one.ended:
                time.sleep(LOOK_SECONDS)
                one = client.batch(one.id)
            assert sum(1 for _ in client.lines(one.output_file or "")) == 1
            taken.append(time.perf_counter() - began)
            if client.batch(running.id).ended:  # it waited for the bulk job's very end, which is a figure too
                break
    finally:
        if not client.batch(running.id).ended:
            client.cancel(running.id)
            while not client.batch(running.id).ended:
                time.sleep(0.1)
    return taken


class Bulk:
    """Threads that hand in pieces of bulk work until the phase ends."""

    def __init__(self, runtime: Any, texts: Sequence[str], threads: int) -> None:
        self._runtime = runtime
        self._pieces = [texts[first : first + PIECE_ROWS] for first in range(0, len(texts), PIECE_ROWS)]
        self._threads = threads
        self._next = count()

    def run(self, seconds: float, meanwhile: Any = None) -> float:
        """Rows a second over ``seconds``; ``meanwhile(until)`` runs on this thread. A piece counts by the part of it that lay within."""
        until = time.perf_counter() + seconds
        began = time.perf_counter()
        with ThreadPoolExecutor(self._threads) as pool:
            rows = [pool.submit(self._work, until) for _ in range(self._threads)]
            if meanwhile is not None:
                meanwhile(until)
            total = sum(one.result() for one in rows)
        return total / (until - began)

    def _work(self, until: float) -> float:
        rows = 0.0
        while (began := time.perf_counter()) < until:
            piece = self._pieces[next(self._next) % len(self._pieces)]
            _classify(self._runtime, piece)
            ended = time.perf_counter()
            rows += len(piece) * min(1.0, (until - began) / (ended - began))
        return rows


def _classify(runtime: Any, texts: Sequence[str], *, interactive: bool = False) -> None:
    from tests.benchmarks.own_runtime import scores_of

    scores_of(runtime, texts, LABELS, interactive=interactive)


def main(*, quick: bool) -> None:
    turns, per_second, shorter = (1, 20 * PER_SECOND, 0.1) if quick else (TURNS, PER_SECOND, 1.0)
    os.nice(max(0, WORKER_NICENESS - os.getpriority(os.PRIO_PROCESS, 0)))
    from tests.benchmarks.own_runtime import open_runtime

    batches: list[float] = []
    runtime, settings = open_runtime(observe=lambda _model, report: batches.append(report.seconds))
    texts = (c1() if quick else c3()).texts
    bulk = Bulk(runtime, texts, settings.threads)
    chance = random.Random(1)
    felt: list[float] = []

    def ask(until: float) -> None:
        while (pause := chance.expovariate(per_second)) + time.perf_counter() < until:
            time.sleep(pause)
            began = time.perf_counter()
            _classify(runtime, [chance.choice(texts)], interactive=True)
            felt.append(time.perf_counter() - began)

    _classify(runtime, texts[:PIECE_ROWS])
    bulk.run(2.0 * shorter)
    batches.clear()
    alone, beside, batch_medians = [], [], []
    for _ in range(turns):
        alone.append(bulk.run(ALONE_SECONDS * shorter))
        batch_medians.append(statistics.median(batches))
        beside.append(bulk.run(BESIDE_SECONDS * shorter, ask))
        batches.clear()
    runtime.close()
    found = {
        "seconds": felt,
        "batch_seconds": statistics.median(batch_medians),
        "bulk_alone": statistics.median(alone),
        "bulk_beside": statistics.median(beside),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(quick="--quick" in sys.argv[1:])
