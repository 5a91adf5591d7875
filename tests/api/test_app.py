"""The server as a process of its own: its memory, its log, its end."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import func, select

from db.actors import Actor
from db.connect import Store
from db.operators.api_keys import SCOPES, create_api_key
from db.schema import files
from db.settings import Role, StoreSettings
from tests.api.lines import classify_line
from tests.looking import on_record
from tests.waiting import wait_until

MIB = 1 << 20
FLAT_MIB = 30


@dataclass
class Process:
    process: "subprocess.Popen[bytes]"
    url: str
    http: httpx.Client
    log: Path

    def rss_mib(self) -> float:
        return psutil.Process(self.process.pid).memory_info().rss / MIB

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def process(settings: StoreSettings, stores: Callable[[Role], Store], tenant: Actor, tmp_path: Path) -> Iterator[Process]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "TEXTMILL_HOME": str(settings.home),
        "TEXTMILL_DATABASE_URL": settings.database_url or "",
        "TEXTMILL_SHUTDOWN_SECONDS": "1",
    }
    log = tmp_path / "api.log"
    with log.open("wb") as sink:
        running = subprocess.Popen([sys.executable, "-m", "api.app", "--port", str(port)], env=environment, stderr=sink, stdout=sink)
    _, key = create_api_key(stores(Role.API), tenant.tenant_id, tenant.principal_id, "tests", SCOPES)
    url = f"http://127.0.0.1:{port}"
    http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120, trust_env=False)

    def answers() -> bool:
        assert running.poll() is None, log.read_text()
        try:
            return http.get("/healthz").raise_for_status().is_success
        except httpx.TransportError:
            return False

    wait_until(answers, "the API answers", otherwise=log.read_text)
    yield Process(running, url, http, log)
    http.close()
    if running.poll() is None:
        running.terminate()
        running.wait(timeout=20)


def upload(http: httpx.Client, size_mib: int) -> httpx.Response:
    """A file of that size, made while it is sent."""

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        number = sent = 0
        while sent < size_mib * MIB:
            piece = b"".join(classify_line(f"{number}-{inner}", "some words of a document " * 80) for inner in range(200))
            number += 1
            sent += len(piece)
            yield piece
        yield b"\r\n--b--\r\n"

    return http.post("/v1/files", content=body(), headers={"content-type": "multipart/form-data; boundary=b"})


def test_memory_is_flat_with_the_size_of_an_upload_and_of_a_download(process: Process) -> None:
    upload(process.http, 4).raise_for_status()
    small = process.rss_mib()
    file_id = upload(process.http, 60).raise_for_status().json()["id"]
    large = process.rss_mib()
    assert large - small < FLAT_MIB
    with process.http.stream("GET", f"/v1/files/{file_id}/content") as response:
        assert sum(map(len, response.iter_bytes())) > 55 * MIB
    assert process.rss_mib() - small < FLAT_MIB


def test_the_server_ends_when_asked_and_leaves_no_half_of_an_upload(
    process: Process, stores: Callable[[Role], Store], tenant: Actor
) -> None:
    def uploading() -> int:
        with on_record(stores(Role.API), tenant.tenant_id) as connection:
            return int(connection.execute(select(func.count()).select_from(files)).scalar_one())

    host, _, port = process.url.removeprefix("http://").partition(":")
    authorization = process.http.headers["authorization"]
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        'Content-Length: 100000\r\n\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + classify_line("a"))
        wait_until(uploading, "the upload has begun")
        process.process.send_signal(signal.SIGTERM)
        process.process.wait(timeout=30)
    assert uploading() == 0


def test_the_log_is_json_lines_with_a_request_each(process: Process) -> None:
    response = process.http.get("/v1/models?limit=5")
    process.process.terminate()
    process.process.wait(timeout=20)
    lines = process.lines()
    assert lines[0]["event"] == "serving"
    [entry] = [line for line in lines if line.get("route") == "/v1/models"]
    assert (entry["event"], entry["method"], entry["status"]) == ("request", "GET", 200)
    assert entry["request_id"] == response.headers["x-request-id"]
    assert "limit" not in process.log.read_text()
