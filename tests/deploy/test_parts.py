"""The parts one by one on servers that are not textmill's own, with the secrets and the server settings of deploy/: what compose.yaml does,
without containers."""

import base64
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from openai import OpenAI

from api.local.doctor.doctor import examine
from api.local.home.home import Home
from api.local.processes.ports import free_port
from db.server.migrate import DATABASE
from tests.conftest import Server
from tests.deploy.conftest import Queue, make_secrets
from tests.waiting import wait_until
from workers.exporter import own_version

TEXTMILL = Path(sys.executable).with_name("textmill")
TEXTS = [f"document number {number}" for number in range(40)]


class House:
    """The parts' homes as `make-secrets --homes` lays them, and the processes. Their logs lie beside the homes."""

    def __init__(self, server: Server, queue: Queue, folder: Path) -> None:
        self.folder = folder
        self.api_port, self.flower_port = free_port(), free_port()
        self._database_url = server.postgres.address(DATABASE)
        self._superuser_url = server.postgres.superuser_url().render_as_string(hide_password=False)
        self._passwords = server.passwords
        self._queue = queue
        self._ends = ExitStack()

    def environment(self, part: str, **extra: str) -> dict[str, str]:
        """As the unit of ``part`` has it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TEXTMILL_")}
        return {
            **kept,
            "TEXTMILL_HOME": str(self.folder / part),
            "TEXTMILL_DATABASE_URL": self._database_url,
            "TEXTMILL_FAKE_ENGINE": "1",
            "TEXTMILL_POLL_SECONDS": "3600",  # only messages wake the worker
            **extra,
        }

    def run(self, part: str, *command: str) -> str:
        done = subprocess.run(
            [TEXTMILL, *command],
            env=self.environment(part, TEXTMILL_SUPERUSER_URL=self._superuser_url),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, part: str, *command: str, **extra: str) -> None:
        log = (self.folder / f"{part}.log").open("wb")
        process = subprocess.Popen(
            [Path(sys.executable).with_name(command[0]), *command[1:]], env=self.environment(part, **extra), stdout=log, stderr=log
        )

        def end() -> None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)

        self._ends.callback(end)

    def lay(self) -> None:
        """Secrets for each part: the queue's are those its server was started with."""
        secrets = self._queue.folder / "secrets"
        made = make_secrets(secrets, "--homes", str(self.folder), VALKEY=f"localhost:{self._queue.port}")
        assert made.returncode == 0, made.stderr
        for role, password in self._passwords.items():  # the roles are the server's, and other tests log in as them
            for file in self.folder.glob(f"*/secrets/db-{role.value}"):
                file.write_text(password)
        for url in self.folder.glob("*/run/redis.url"):
            text = url.read_text()
            url.write_text(text if self._queue.url.startswith("rediss:") else self._queue.url)
        flower = self.folder / "flower" / "flower.py"
        flower.write_text(flower.read_text().replace("5555", str(self.flower_port)).replace("/var/lib/textmill-flower", str(flower.parent)))

    def said(self) -> str:
        return "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in self.folder.glob("*.log"))

    def close(self) -> None:
        self._ends.close()


@pytest.fixture
def house(server: Server, queue: Queue, tmp_path: Path) -> Iterator[House]:
    if os.geteuid() != 0:
        pytest.skip("deploy/make-secrets --homes gives homes to other users, which takes root")
    house = House(server, queue, tmp_path / "homes")
    house.lay()
    yield house
    house.close()
    server.drop_database(DATABASE)


def get(url: str, authorization: str = "") -> bytes:
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"authorization": authorization} if authorization else {}), timeout=5
    ) as answer:
        return bytes(answer.read())


def wait_for(url: str, house: House, authorization: str = "", contains: str = "") -> str:
    def answered() -> str | None:
        try:
            found = get(url, authorization).decode()
        except OSError:
            return None
        return found if contains in found else None

    return wait_until(answered, f"{url} answers", 40, every_seconds=0.1, otherwise=house.said) or ""


def wrong(house: House, part: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `textmill doctor` finds in the home of ``part`` that is not in order. That answers are made up is so wherever a worker's are."""
    for name, value in house.environment(part).items():
        if name.startswith("TEXTMILL_") and name != "TEXTMILL_FAKE_ENGINE":
            monkeypatch.setenv(name, value)
    return [each.check for each in examine(Home(house.folder / part)) if not each.ok and each.check != "gpu"]


def test_servers_of_ones_own_and_each_part_alone(house: House, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    house.run("migrate", "db", "bootstrap")
    house.run("migrate", "db", "bootstrap")  # idempotent
    house.run("migrate", "db", "migrate")
    key = house.run("api", "db", "tenant", "acme").strip()
    assert re.fullmatch(r"tm_[\w-]{43}", key)

    metrics, dispatchers = free_port(), free_port()
    house.start("api", "textmill", "api", "--port", str(house.api_port))
    place = {"TEXTMILL_METRICS_HOST": "127.0.0.2", "TEXTMILL_METRICS_PORT": str(dispatchers)}
    house.start("dispatcher", "textmill", "dispatcher", **place)
    house.start("worker", "textmill", "worker", "--device", "cpu", TEXTMILL_METRICS_PORT=str(metrics))
    house.start("flower", "celery", "-A", "workers.app:app", "flower", f"--conf={house.folder / 'flower' / 'flower.py'}")
    wait_for(f"http://127.0.0.1:{house.api_port}/readyz", house)
    wait_for(f"http://127.0.0.1:{metrics}/metrics", house)

    client = OpenAI(base_url=f"http://127.0.0.1:{house.api_port}/v1", api_key=key)
    lines = [
        {
            "custom_id": f"row-{at}",
            "method": "POST",
            "url": "/v1/classifications",
            "body": {"model": "fake-encoder", "input": text, "labels": ["odd", "even"]},
        }
        for at, text in enumerate(TEXTS)
    ]
    upload = "\n".join(json.dumps(line) for line in lines).encode()
    file = client.files.create(file=("lines.jsonl", upload), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/classifications", completion_window="1h")  # type: ignore[arg-type]
    wait_until(lambda: client.batches.retrieve(batch.id).status in {"completed", "failed"}, "the batch ends", 60, otherwise=house.said)
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed", house.said()
    assert batch.output_file_id is not None
    answered = client.files.content(batch.output_file_id).text.splitlines()
    assert {json.loads(line)["custom_id"] for line in answered} == {f"row-{at}" for at in range(len(TEXTS))}

    found = {part: wrong(house, part, monkeypatch) for part in ("api", "worker", "dispatcher", "flower", "migrate")}
    assert found == {"api": [], "worker": [], "dispatcher": ["durability"], "flower": [], "migrate": []}, (
        "the tests' server forgets commits"
    )

    ended = 'textmill_jobs_ended_total{outcome="completed",task="classify"} 1.0'
    dispatcher = wait_for(f"http://127.0.0.2:{dispatchers}/metrics", house, contains=ended)
    worker = get(f"http://127.0.0.1:{metrics}/metrics").decode()
    assert "textmill_dispatcher_leads 1.0" in dispatcher
    assert "textmill_rows_total" in worker
    for told in (worker, dispatcher):
        assert f'textmill_build_info{{version="{own_version()}"}} 1.0' in told
        assert "textmill_schema_fits 1.0" in told
    assert not re.search("textmill_(dispatcher|jobs|queue)", worker)
    assert not re.search("textmill_(last_progress|leases |batch)", dispatcher)

    password = (queue.folder / "secrets" / "flower").read_text().strip()
    login = "Basic " + base64.b64encode(f"textmill:{password}".encode()).decode()
    seen = wait_for(f"http://127.0.0.1:{house.flower_port}/api/workers?refresh=1", house, login, "textmill.run_shard")
    assert "shards" in seen
    with pytest.raises(OSError, match="401"):
        get(f"http://127.0.0.1:{house.flower_port}/api/workers")
    with pytest.raises(OSError, match="401"):
        get(f"http://127.0.0.1:{house.flower_port}/metrics")
    wait_for(f"http://127.0.0.1:{house.flower_port}/api/tasks", house, login, f"job {batch.id.removeprefix('batch_')[:8]}, rows 1 to")


def test_a_part_has_no_secret_of_another(house: House) -> None:
    with pytest.raises(AssertionError, match="No key file at"):
        house.run("dispatcher", "db", "tenant", "acme")
    with pytest.raises(
        AssertionError, match=r"The database cannot be used: no password of textmill_owner is here. Put it into secrets/db-owner"
    ):
        house.run("worker", "db", "migrate")
