"""A house to break things in: real worker and dispatcher processes on a real Postgres and a real Valkey, with the deterministic engine.

Every answer is f(text), so that a lost, doubled or wrong row shows. Waits are on conditions of the store, never on a clock.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import Row, func, select

from db import jobs
from db.actors import Actor
from db.audit.events import list_events
from db.connect import Store
from db.results import iter_results
from db.schema import results, shards
from db.settings import StoreSettings
from tests.workers.submitting import LABELS, row, submit
from workers.engines.fake import expected_label

ROOT = Path(__file__).parents[2]
FAST = {
    "TEXTMILL_FAKE_ENGINE": "1",
    "TEXTMILL_LEASE_SECONDS": "2",
    "TEXTMILL_HEARTBEAT_SECONDS": "0.5",
    "TEXTMILL_POLL_SECONDS": "0.5",
    "TEXTMILL_CHUNK_SECONDS": "0.2",
    "TEXTMILL_SHARD_SECONDS": "0.5",
    "TEXTMILL_IDLE_TICK_SECONDS": "0.25",
    "TEXTMILL_REAP_SECONDS": "0.25",
}


@dataclass
class Process:
    """A worker or dispatcher under test. ``log`` is what it said."""

    popen: "subprocess.Popen[bytes]"
    log_path: Path
    metrics_port: int | None = None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.popen.pid, number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(10)

    def drain(self, timeout_seconds: float = 20) -> int:
        self.send(signal.SIGTERM)
        return self.popen.wait(timeout_seconds)

    def metric(self, name: str) -> float:
        """The sum of a metric's samples over all labels; 0 where there are none yet."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


class House:
    def __init__(self, settings: StoreSettings, api: Store, actor: Actor, folder: Path, broker_url: str) -> None:
        self.settings = settings
        self.api = api
        self.actor = actor
        self.folder = folder
        self.broker_url = broker_url
        self.processes: list[Process] = []

    # Processes

    def start_worker(self, *, delay_ms: float = 0, port: int | None = None, **environment: str) -> Process:
        extra = {"TEXTMILL_FAKE_DELAY_MS": str(delay_ms), **({"TEXTMILL_METRICS_PORT": str(port)} if port else {}), **environment}
        return self._start("workers.worker", extra, port)

    def start_dispatcher(self, **environment: str) -> Process:
        return self._start("workers.dispatcher", environment, None)

    def _start(self, module: str, extra: dict[str, str], port: int | None) -> Process:
        log_path = self.folder / f"{module}-{len(self.processes)}.log"
        environment = {
            **os.environ,
            **FAST,
            "TEXTMILL_HOME": str(self.settings.home),
            "TEXTMILL_DATABASE_URL": str(self.settings.database_url),
            "TEXTMILL_REDIS_URL": self.broker_url,
            **extra,
        }
        with log_path.open("wb") as log:
            popen = subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, env=environment, stdout=log, stderr=log)
        process = Process(popen, log_path, port)
        self.processes.append(process)
        return process

    @staticmethod
    def free_port() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def stop(self) -> None:
        for process in self.processes:
            if process.alive:
                process.send(signal.SIGCONT)
                process.kill()

    # Jobs

    def submit(self, documents: Sequence[str], *, priority: int = 0) -> UUID:
        return submit(self.api, self.actor, [row(at, {"input": document}) for at, document in enumerate(documents)], priority=priority)

    def state(self, job_id: UUID) -> str:
        return jobs.get_job(self.api, self.actor, job_id).state

    def done_count(self, job_id: UUID) -> int:
        with self.api.transaction(tenant=self.actor.tenant_id) as connection:
            return int(connection.execute(select(func.count()).select_from(results).where(results.c.job_id == job_id)).scalar_one())

    def shards(self, job_id: UUID) -> Sequence[Row[tuple[object, ...]]]:
        with self.api.transaction(tenant=self.actor.tenant_id) as connection:
            return connection.execute(select(shards).where(shards.c.job_id == job_id).order_by(shards.c.first_idx)).all()

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_seconds: float = 40) -> None:
        until = time.monotonic() + timeout_seconds
        while not condition():
            if time.monotonic() > until:
                logs = "\n".join(f"--- {process.log_path.name}\n{process.log[-3000:]}" for process in self.processes)
                raise AssertionError(f"not in {timeout_seconds} s: {what}\n{logs}")
            time.sleep(0.05)

    def wait_completed(self, job_id: UUID, timeout_seconds: float = 40) -> None:
        self.wait_for(lambda: self.state(job_id) == "completed", "the job completes", timeout_seconds)

    def wait_done(self, job_id: UUID, goal: int) -> None:
        self.wait_for(lambda: self.done_count(job_id) >= goal, f"{goal} rows are done")

    # Verdicts

    def check_results(self, job_id: UUID, texts: Sequence[str]) -> None:
        """Every row once, and its answer f(text)."""
        lines = list(iter_results(self.api, self.actor, job_id, which="output"))
        assert [line.idx for line in lines] == list(range(len(texts))), "every row has one result"
        wrong = 0
        for line in lines:
            answer = json.loads(line.payload or b"null")
            wrong += answer["label"] != expected_label(texts[line.idx], LABELS, ["{}"])
        assert wrong == 0
        assert {line.model_version for line in lines} == {"fake-encoder@1"}
        job = jobs.get_job(self.api, self.actor, job_id)
        assert (job.row_count, job.completed_count, job.failed_count) == (len(texts), len(texts), 0)

    def check_audit(self, job_id: UUID, row_count: int) -> None:
        """Every row that was opened lies in the range of an event that says so."""
        seen: set[int] = set()
        after: UUID | None = None
        while True:
            events = list_events(self.api, self.actor, limit=500, after=after, action="rows.read", object_id=job_id)
            for event in events:
                assert event.component == "worker"
                seen.update(range(event.first_idx or 0, event.end_idx or 0))
            if len(events) < 500:
                break
            after = events[-1].event_id
        assert seen == set(range(row_count))


def texts(count: int) -> list[str]:
    return [f"document {at} about something that happened on day {at * 7919 % 365}" for at in range(count)]
