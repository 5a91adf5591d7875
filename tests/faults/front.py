"""The HTTP API as a process of its own, which can be killed, starved and cut off as the workers are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from db.operators.api_keys import SCOPES, create_api_key
from tests.faults.counters import Load
from tests.faults.house import House, Process
from tests.workers.submitting import ENDPOINTS, LABELS

BOUNDARY = "b"


@dataclass(frozen=True)
class Front:
    """A running API and a key of the house's tenant."""

    process: Process
    port: int
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def http(self, **headers: str) -> httpx.Client:
        """A client without proxies; close it, or use it in a ``with``."""
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {self.key}", **headers}, timeout=30, trust_env=False)

    def upload(self, data: bytes, **headers: str) -> httpx.Response:
        with self.http(**headers) as http:
            return http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("rows.jsonl", data)})

    def upload_request(self, data: bytes) -> bytes:
        """The whole of an upload as it goes over the wire, to be sent by halves."""
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
        ).encode() + data
        body += f"\r\n--{BOUNDARY}--\r\n".encode()
        return self._head("/v1/files", f"multipart/form-data; boundary={BOUNDARY}", body, "") + body

    def create_request(self, file_id: str, idempotency_key: str) -> bytes:
        body = json.dumps(self.job_of(file_id)).encode()
        return self._head("/v1/batches", "application/json", body, f"Idempotency-Key: {idempotency_key}\r\n") + body

    def job_of(self, file_id: str) -> dict[str, Any]:
        return {"input_file_id": file_id, "endpoint": ENDPOINTS["classify"], "completion_window": "24h"}

    def _head(self, path: str, kind: str, body: bytes, more: str) -> bytes:
        return (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.key}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n{more}\r\n"
        ).encode()


def start_front(house: House, *, key: str | None = None, **environment: str) -> Front:
    """Returns when it answers. The house ends it. ``key``: by default a new one."""
    port = house.free_port()
    process = house.start("api.app", "--port", str(port), **environment)
    if key is None:
        _, key = create_api_key(house.api, house.actor.tenant_id, house.actor.principal_id, "faults", SCOPES)
    front = Front(process, port, key)
    house.wait_for(lambda: _answers(front), "the API answers")
    return front


def _answers(front: Front) -> bool:
    try:
        with front.http() as http:
            return http.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def lines_of(documents: Sequence[str]) -> bytes:
    """A batch file over these texts, whose answers are those that a load is compared with."""
    body = {"model": "fake-encoder", "labels": LABELS, "templates": ["{}"]}
    return b"".join(
        json.dumps({"custom_id": f"row-{at}", "method": "POST", "url": ENDPOINTS["classify"], "body": {**body, "input": document}}).encode()
        + b"\n"
        for at, document in enumerate(documents)
    )


def load_of(house: House, batch: dict[str, Any], documents: Sequence[str]) -> Load:
    """A batch that the API made, to be counted."""
    return Load(UUID(hex=batch["id"].removeprefix("batch_")), house.actor, documents)
