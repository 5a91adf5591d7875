"""A house to break things in: real worker and dispatcher processes on a real Postgres and a real Valkey, with the deterministic engine.

Every answer is f(text), so that a lost, doubled or wrong row shows. Waits are on conditions of the store, never on a clock.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import Row, select, text

from db.actors import Actor
from db.audit.reading import list_events
from db.connect import Store
from db.jobs import jobs
from db.jobs.results import iter_results
from db.operators.api_keys import SCOPES
from db.operators.tenants import create_tenant
from db.schema import shards
from db.settings import StoreSettings
from tests.faults.counters import Counters, Load, count
from tests.waiting import wait_until
from tests.workers.submitting import LABELS, row, submit
from workers.engines.fake import expected_label

ROOT = Path(__file__).parents[2]
MATRIX_ROWS = 10_000
# Everything that is waited for, ten or so times shorter than by default: L = 2 s (the lease), H = 0.5 s, P = 0.5 s (a worker's look).
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
# Of workers that do not die in a test that says so: on a busy machine a heartbeat may come after a lease of L, and rows are computed twice.
LONG_LEASE = {"TEXTMILL_LEASE_SECONDS": "15"}


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
    def name(self) -> str:
        """What a worker calls itself; empty until it has said so."""
        said = re.search(r"this worker is (\S+)", self.log)
        return said.group(1) if said else ""

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
    """``tree``: of the program whose processes are started, which is this one."""

    def __init__(self, settings: StoreSettings, api: Store, actor: Actor, folder: Path, broker_url: str) -> None:
        self.settings = settings
        self.api = api
        self.actor = actor
        self.folder = folder
        self.broker_url = broker_url
        self.calls = folder / "calls.log"  # of the model, by all workers
        self.processes: list[Process] = []
        self.tree = ROOT

    # Processes

    def start_worker(self, *, delay_ms: float = 0, port: int | None = None, **environment: str) -> Process:
        return self._start("workers.host.main", {"TEXTMILL_FAKE_DELAY_MS": str(delay_ms), **environment}, port)

    def start_broken_worker(self, fault: str, *, delay_ms: float = 0, port: int | None = None, **environment: str) -> Process:
        """A worker in which something goes wrong at a known place; ``fault`` is one of tests.faults.broken_worker.FAULTS."""
        return self._start("tests.faults.broken_worker", {"TEXTMILL_FAKE_DELAY_MS": str(delay_ms), "FAULT": fault, **environment}, port)

    def start_dispatcher(self, *, port: int | None = None, **environment: str) -> Process:
        return self._start("workers.dispatch.dispatcher", environment, port)

    def start(self, module: str, *arguments: str, **environment: str) -> Process:
        """Another program than a worker or a dispatcher, or one in place of it."""
        return self._start(module, environment, None, *arguments)

    def _start(self, module: str, extra: dict[str, str], port: int | None, *arguments: str) -> Process:
        log_path = self.folder / f"{module}-{len(self.processes)}.log"
        environment = {
            **os.environ,
            **FAST,
            "TEXTMILL_HOME": str(self.settings.home),
            "TEXTMILL_DATABASE_URL": str(self.settings.database_url),
            "TEXTMILL_REDIS_URL": self.broker_url,
            "TEXTMILL_FAKE_LOG": str(self.calls),
            **({"TEXTMILL_METRICS_PORT": str(port)} if port else {}),
            **extra,
        }
        with log_path.open("wb") as log:
            popen = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=self.tree, env=environment, stdout=log, stderr=log)
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

    def submit(self, documents: Sequence[str], *, priority: int = 0, actor: Actor | None = None) -> UUID:
        rows = [row(at, {"input": document}) for at, document in enumerate(documents)]
        return submit(self.api, actor or self.actor, rows, priority=priority)

    def load(self, documents: Sequence[str], *, failures: Mapping[int, str] | None = None, actor: Actor | None = None) -> Load:
        """A job whose rows are counted afterwards."""
        return Load(self.submit(documents, actor=actor), actor or self.actor, documents, failures or {})

    def load_all(self, rows: int = MATRIX_ROWS) -> list[Load]:
        """The matrix's load: four jobs of two tenants, ``rows`` in all, no text twice."""
        return [
            self.load([f"job {number}: {one}" for one in texts(rows // 4)], actor=self.actor if number % 2 else self.other_actor)
            for number in range(4)
        ]

    @cached_property
    def other_actor(self) -> Actor:
        return Actor(tenant_id=create_tenant(self.api, "another tenant"), principal_id=uuid4(), key_id=None, scopes=SCOPES)

    def open_rows(self, loads: Sequence[Load]) -> int:
        """Rows that have no result yet."""
        return sum(len(load.texts) - self.done_count(load.job_id, load.actor) for load in loads)

    def wait_all_completed(self, loads: Sequence[Load], timeout_seconds: float = 120) -> None:
        def ended() -> bool:
            return all(jobs.get_job(self.api, load.actor, load.job_id).state == "completed" for load in loads)

        self.wait_for(ended, "every job completes", timeout_seconds)

    def state(self, job_id: UUID) -> str:
        return jobs.get_job(self.api, self.actor, job_id).state

    def done_count(self, job_id: UUID, actor: Actor | None = None) -> int:
        with self.api.transaction(tenant=(actor or self.actor).tenant_id) as connection:
            return int(connection.execute(text("SELECT count(*) FROM result_places WHERE job_id = :job"), {"job": job_id}).scalar_one())

    def shards(self, job_id: UUID, actor: Actor | None = None) -> Sequence[Row[tuple[object, ...]]]:
        with self.api.transaction(tenant=(actor or self.actor).tenant_id) as connection:
            return connection.execute(select(shards).where(shards.c.job_id == job_id).order_by(shards.c.first_idx)).all()

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_seconds: float = 40) -> None:
        wait_until(condition, what, timeout_seconds, every_seconds=0.05, otherwise=self._logs)

    def _logs(self) -> str:
        return "\n".join(f"--- {process.log_path.name}\n{process.log[-3000:]}" for process in self.processes)

    def wait_completed(self, job_id: UUID, timeout_seconds: float = 40) -> None:
        self.wait_for(lambda: self.state(job_id) == "completed", "the job completes", timeout_seconds)

    def wait_done(self, job_id: UUID, goal: int, actor: Actor | None = None) -> None:
        self.wait_for(lambda: self.done_count(job_id, actor) >= goal, f"{goal} rows are done")

    # Verdicts

    def fenced(self) -> int:
        """How often a holder was told that its lease was gone."""
        return sum(process.log.count("is lost; nothing more is written") for process in self.processes)

    def count(self, loads: Sequence[Load]) -> Counters:
        return count(self.api, loads, self.calls)

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
