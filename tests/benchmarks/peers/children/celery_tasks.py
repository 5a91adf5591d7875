"""Celery with a task a document. ``--option``: batches (celery-batches gathers 32 of them for the pipeline), single (the pipeline on each)
or null (no model: what the queue alone does).

This process sends and gathers; the worker, a process of one thread for each CPU, runs below it. The broker is the benchmark's, named by
PEER_REDIS_URL.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from serving import Arguments, serve

START_SECONDS = 120.0


class Tasks:
    def __init__(self, arguments: Arguments) -> None:
        os.environ.update(
            PEER_TASK=arguments.option, PEER_MODEL=str(arguments.model), PEER_PROTOTYPES=str(arguments.prototypes), OMP_NUM_THREADS="1"
        )
        from celery.result import ResultSet
        from celery_app import FLUSH_EVERY, app

        self._app = app
        self._task = app.tasks[arguments.option]
        self._results = ResultSet
        self._worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--pool", "prefork", "--loglevel", "ERROR"),
                *("--concurrency", str(arguments.threads), "--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            cwd=os.path.dirname(os.path.abspath(__file__)),
        )
        self.settings: dict[str, Any] = {
            "task": arguments.option,
            "processes": arguments.threads,
            "threads": 1,
            "prefetch": app.conf.worker_prefetch_multiplier,
            **({"flush_every": FLUSH_EVERY} if arguments.option == "batches" else {}),
        }
        self._await_worker()

    def _await_worker(self) -> None:
        until = time.monotonic() + START_SECONDS
        while not self._app.control.ping(timeout=1.0):
            if self._worker.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the worker did not start")

    def label(self, texts: Sequence[str], prototypes: Any) -> list[int]:
        with self._app.producer_pool.acquire(block=True) as producer:  # one connection for all, as `group` has
            sent = [self._task.apply_async((text,), producer=producer) for text in texts]
        gathered = self._results(sent)
        labels = gathered.join_native(timeout=600)
        gathered.forget()
        return [int(label) for label in labels]

    def close(self) -> None:
        self._worker.terminate()
        try:
            self._worker.wait(8)
        except subprocess.TimeoutExpired:
            self._worker.kill()


if __name__ == "__main__":
    made: list[Tasks] = []

    def load(arguments: Arguments) -> Tasks:
        made.append(Tasks(arguments))
        return made[0]

    try:
        serve(load)
    finally:
        for one in made:
            one.close()
