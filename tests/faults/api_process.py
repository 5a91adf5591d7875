"""The HTTP API of a house, as a process of its own."""

import itertools
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import psutil

from api.objects import batch_id, file_id
from db.operators.api_keys import SCOPES, create_api_key
from tests.faults.house import ROOT, House, Process

MIB = 1 << 20


@dataclass(frozen=True)
class ApiProcess:
    process: Process
    port: int
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=self.headers, timeout=30, trust_env=False)

    def rss_mib(self) -> float:
        return float(psutil.Process(self.process.popen.pid).memory_info().rss / MIB)


def start_api(house: House) -> ApiProcess:
    """Returns when it answers. It ends with the house."""
    port, log_path = house.free_port(), house.folder / f"api-{len(house.processes)}.log"
    environment = {
        **os.environ,
        "TEXTMILL_HOME": str(house.settings.home),
        "TEXTMILL_DATABASE_URL": str(house.settings.database_url),
        "TEXTMILL_SHUTDOWN_SECONDS": "1",
    }
    with log_path.open("wb") as log:
        command = [sys.executable, "-m", "api.app", "--port", str(port)]
        popen = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    process = Process(popen, log_path)
    house.processes.append(process)
    _, key = create_api_key(house.api, house.actor.tenant_id, house.actor.principal_id, "tests", SCOPES)
    started = ApiProcess(process, port, key)
    with started.client() as client:
        house.wait_for(lambda: _answers(client), "the API answers")
    return started


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").is_success
    except httpx.TransportError:
        return False


def output_of(job_id: UUID) -> str:
    """Where a job's results are read."""
    return f"/v1/files/{file_id(job_id, 'output')}/content"


def line_id(job_id: UUID, idx: int) -> str:
    return f"batch_req_{job_id.hex}{idx:08x}"


@dataclass
class Caller:
    """Asks for a job's state and for its last results again and again, on a thread. ``statuses``: what it was answered; ``faults``: what
    should not have been. A download that ends in the midst counts as status 0."""

    api: ApiProcess
    job_id: UUID
    statuses: "Counter[int]" = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Caller":
        self._thread = threading.Thread(target=self._call, name="caller", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _call(self) -> None:
        paths = itertools.cycle([f"/v1/batches/{batch_id(self.job_id)}", output_of(self.job_id) + f"?after={line_id(self.job_id, 2_000)}"])
        with self.api.client() as client:
            while not self._stop.is_set():
                try:
                    answer = client.get(next(paths))
                except httpx.RemoteProtocolError:
                    self.statuses[0] += 1
                    continue
                self.statuses[answer.status_code] += 1
                if answer.status_code != 200:
                    self._judge(answer)
                time.sleep(0.01)

    def _judge(self, answer: httpx.Response) -> None:
        error = answer.json()["error"]
        expected = (503, "store_unavailable", "The store does not answer at the moment. Try again.")
        if (answer.status_code, error["code"], error["message"]) != expected or "retry-after" not in answer.headers:
            self.faults.append(f"{answer.status_code} {error['code']}")
