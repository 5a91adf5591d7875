"""What the null model is compared with: plain Celery, a task for every document, on the same broker, with a model that answers at once.

`python -m celery -A tests.benchmarks.plain_celery:app worker …` runs it; the broker's address comes in by environment, because a command
line can be read by every user. Results are ignored and events are off: Celery at its quickest. When the last document of a run is done, a
counter in the broker says so; each task adds to its process's own sum and flushes it seldom, so that counting costs next to nothing.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import psutil
import redis
from celery import Celery

from api.demo.corpus import LABELS
from tests.benchmarks.turns import Run
from workers.engines.fake import expected_label

ADDRESS = "BENCHMARK_BROKER_URL"
QUEUE = "plain"
DONE = "benchmark:plain:done"
FLUSH_SECONDS = 0.05
START_SECONDS = 30.0
LIMIT_SECONDS = 60.0

app = Celery("plain", broker=os.environ.get(ADDRESS))
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    result_backend=None,
    worker_send_task_events=False,
    worker_prefetch_multiplier=64,  # the tasks are short: Celery's own advice for those
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


class _Tally:
    """Of this process: what is done and not yet told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._telling = False

    def add(self) -> None:
        with self._lock:
            self._count += 1
            if not self._telling:
                self._telling = True
                threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        with redis.Redis.from_url(os.environ[ADDRESS]) as broker:
            while True:
                time.sleep(FLUSH_SECONDS)
                with self._lock:
                    count, self._count = self._count, 0
                if count:
                    broker.incrby(DONE, count)


_tally = _Tally()


def _classify(text: str) -> str:
    """As any first version of such a system: the text in the message, the answer computed, and here thrown away."""
    label = expected_label(text, LABELS, ["{}"])
    _tally.add()
    return label


classify: Any = app.task(name="plain.classify", ignore_result=True)(_classify)


class PlainWorker:
    """A Celery worker with one of the pools, warm."""

    def __init__(self, broker_url: str, pool: str, concurrency: int) -> None:
        self.name = f"{pool} × {concurrency}"
        self._broker = redis.Redis.from_url(broker_url)
        self._broker.delete(QUEUE, DONE)
        command = [
            "worker",
            "--pool",
            pool,
            "--concurrency",
            str(concurrency),
            "--loglevel",
            "ERROR",
            "--without-gossip",
            "--without-mingle",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tests.benchmarks.plain_celery:app", *command, "--without-heartbeat", "-Q", QUEUE],
            env={**os.environ, ADDRESS: broker_url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        app.conf.broker_url = broker_url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self._process.pid).children(recursive=True):
                child.kill()
            self._process.kill()
            self._process.wait()
        self._broker.delete(QUEUE, DONE)
        self._broker.close()

    def measure(self, texts: Sequence[str]) -> Run:
        """From the first message sent to the last document done. CPU time: of the worker, not of the sender or the broker."""
        self._broker.delete(DONE)
        used = self._cpu_seconds()
        began = time.perf_counter()
        with app.producer_pool.acquire(block=True) as producer:
            for text in texts:
                classify.apply_async((text,), producer=producer, queue=QUEUE)
        sent = time.perf_counter()
        while self._done() < len(texts):
            assert self._process.poll() is None, "the Celery worker ended"
            assert time.perf_counter() - began < LIMIT_SECONDS + START_SECONDS, "plain Celery takes too long"
            time.sleep(FLUSH_SECONDS)
        seconds = time.perf_counter() - began
        return Run(len(texts), seconds, self._cpu_seconds() - used, {"pool": self.name, "send_seconds": sent - began})

    def _done(self) -> int:
        return int(self._broker.get(DONE) or 0)

    def _cpu_seconds(self) -> float:
        process = psutil.Process(self._process.pid)
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        return float(sum(one.user + one.system for one in times))
