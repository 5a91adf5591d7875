"""The canary sweep: nothing that a person hands in or gets out can be read in what the stack leaves behind.

A word of its own is planted in every place that takes words (texts, ids, names, labels, metadata, rows that fail in every way, requests
that are refused), the real stack runs it all, and every byte that a thief or a curious administrator could get is searched for every word.
The same search with sealing switched off must find them: that proves the search.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from tests.attacks.canaries import Hit, Search, new_canary, written_forms
from tests.waiting import wait_until
from workers.engines.fake import MARKS

ROOT = Path(__file__).parents[2]
PLANTED = (
    "text", "custom id", "file name", "metadata", "failing row", "broken line", "label", "unknown field", "csv text", "csv id",
    "csv column", "prompt", "label set", "head", "key name", "defaults", "refused model", "refused key", "refused url", "refused query",
    "crashing row", "cancelled row", "deleted file",
)  # fmt: skip
NEVER_KEPT = {"refused key", "refused url", "refused query"}
ISSUE = {"text", "custom id", "file name", "metadata", "failing row"}
CLASSIFY = "/v1/classifications"
FAST = {"TEXTMILL_LEASE_SECONDS": "2", "TEXTMILL_HEARTBEAT_SECONDS": "0.5", "TEXTMILL_POLL_SECONDS": "0.5", "TEXTMILL_REAP_SECONDS": "0.25"}


@dataclass
class Sweep:
    """A stack in a folder of its own, with a temporary folder of its own."""

    folder: Path
    sealed: bool
    canaries: dict[str, str] = field(default_factory=lambda: {name: new_canary() for name in PLANTED})
    hits: set[Hit] = field(default_factory=set)

    def __post_init__(self) -> None:
        (self.folder / "tmp").mkdir()
        self.search = Search(self.canaries)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def state(self) -> dict[str, object]:
        state = json.loads((self.home / "run" / "state.json").read_text())
        assert isinstance(state, dict)
        return state

    def textmill(self, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TEXTMILL_")}
        environment |= {"TEXTMILL_HOME": str(self.home), "TMPDIR": str(self.folder / "tmp"), "TEXTMILL_FAKE_ENGINE": "1", **FAST}
        environment |= {"PYTHONPATH": str(ROOT)} | ({} if self.sealed else {"TEXTMILL_UNSAFE_SEALING_OFF": "1"})
        done = subprocess.run(
            [sys.executable, "-P", "-m", "api.cli", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=150,
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stderr

    def client(self) -> httpx.Client:
        key = (self.home / "secrets" / "api-key").read_text().strip()
        return httpx.Client(base_url=str(self.state["api"]), headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False)

    def worker_pid(self) -> int:
        children = self.state["children"]
        assert isinstance(children, dict)
        return int(children["worker-cpu"])

    def redis(self) -> "redis.Redis":
        return redis.Redis.from_url((self.home / "run" / "redis.url").read_text().strip())

    def look_in(self, data: bytes | str, place: str) -> None:
        self.hits |= self.search.in_bytes(data if isinstance(data, bytes) else data.encode(), place)


# What is planted


def batch_lines(words: dict[str, str]) -> bytes:
    def line(custom_id: str, body: object, url: str = CLASSIFY, **more: object) -> bytes:
        return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body, **more}, ensure_ascii=False).encode()

    labels = [words["label"], "other"]
    good = {"model": "fake-encoder", "labels": labels}
    text, failing, broken = words["text"], words["failing row"], words["broken line"]
    return b"\n".join(
        [
            line(words["custom id"], {**good, "input": f"Short: {text}."}),
            line("long", {**good, "input": f"{text} é \"quoted\" \u2028 " * 400}),
            line("error", {**good, "input": f"{failing} {MARKS['error']}"}),
            line("memory", {**good, "input": f"{failing} {MARKS['memory']}"}),
            line("nan", {**good, "input": f"{failing} {MARKS['nan']}"}),
            line("too long", {**good, "input": f"{failing} " * 400, "on_long": "refuse"}),
            line("field", {**good, "input": failing, words["unknown field"]: 1}),
            line("type", {**good, "input": [failing]}),
            line("model", {"model": words["refused model"], "labels": labels, "input": failing}),
            line("set", {"model": "fake-encoder", "label_set": words["label set"] + "x", "input": failing}),
            line("url", {**good, "input": failing}, url=f"/v1/{broken}"),
            line(words["custom id"], {**good, "input": failing}),
            f'{{"custom_id": "cut", "method": "POST", "body": {{"input": "{broken}'.encode(),
            f'{{"custom_id": "{broken}", "deep": '.encode() + b"[" * 2000 + b"]" * 2000 + b"}",
            f'"{broken}"'.encode(),
            broken.encode() + b" \xff\xfe",
            line(f"{broken}\x00", {**good, "input": broken}),
            b'{"custom_id": "surrogate", "method": "POST", "body": {"input": "\\ud800 %s"}}' % broken.encode(),
        ]
    )  # fmt: skip


def run_everything(sweep: Sweep) -> None:
    words = sweep.canaries
    with sweep.client() as client, sweep.redis() as queue:
        refused(client, sweep)
        put(client, f"/v1/label_sets/{words['label set']}", {"labels": [words["label"], "other"]})
        post(client, "/v1/keys", {"name": words["key name"], "scopes": ["read"]})
        file = upload(client, batch_lines(words), f"{words['file name']}.jsonl", "batch")
        # Messages stay in the queue while nobody takes them; the first may be on its way to the worker already.
        os.kill(sweep.worker_pid(), signal.SIGSTOP)
        try:
            job, *_ = [batch(client, file, metadata={"team": words["metadata"], words["metadata"]: "x"}, priority=at) for at in range(3)]
            wait_until(lambda: queue.llen("shards") > 0, "a message waits")
            look_at_queue(sweep, queue)
        finally:
            os.kill(sweep.worker_pid(), signal.SIGCONT)
        done = wait_ended(client, job)
        assert done["status"] == "completed"
        counts = done["request_counts"]
        assert isinstance(counts, dict)
        assert counts["completed"] >= 2
        assert counts["failed"] >= 12
        read_all(client, done)

        csv = f"id,{words['csv column']},label\n" + "".join(
            f'{words["csv id"]}-{at},"{words["csv text"]}, quoted {at}",{"ab"[at % 2]}\n' for at in range(16)
        )
        fields = {"text_column": words["csv column"], "id_column": "id", "label_column": "label"}
        rows = upload(client, csv.encode(), "rows.csv", "rows", **fields)
        read_all(client, wait_ended(client, batch(client, rows, defaults={"model": "fake-encoder", "label_set": words["label set"]})))
        read_all(client, wait_ended(client, batch(client, rows, defaults={"model": "fake-encoder"}, endpoint="/v1/embeddings")))
        examples = upload(client, csv.encode(), "examples.csv", "train", **fields)
        trained = post(client, "/v1/heads", {"name": words["head"], "training_file": examples, "model": "fake-encoder"})
        ended = wait_ended(client, trained)
        assert (ended["status"], ended["error_file_id"]) == ("completed", None)
        read_all(client, wait_ended(client, batch(client, rows, defaults={"model": f"head:{words['head']}"})))

        prompts = b"\n".join(
            json.dumps({"id": f"p{at}", "text": f"{words['prompt']} {mark}"}).encode()
            for at, mark in enumerate(("", MARKS["empty"], MARKS["error"]))
        )
        chat = {"model": "fake-decoder", "messages": [{"role": "system", "content": words["defaults"]}], "max_tokens": 4}
        asked = upload(client, prompts, "prompts.jsonl", "rows")
        read_all(client, wait_ended(client, batch(client, asked, defaults=chat, endpoint="/v1/chat/completions")))

        # The deaths take a while, and tell nothing new where nothing is sealed.
        deadly = MARKS["exit"] if sweep.sealed else ""
        crash = upload(client, json.dumps({"text": f"{words['crashing row']} {deadly}"}).encode(), "crash.jsonl", "rows")
        crashing = batch(client, crash, defaults={"model": "fake-encoder", "labels": ["a", "b"]})
        gone = upload(client, json.dumps({"text": words["deleted file"]}).encode(), f"{words['deleted file']}.jsonl", "rows")
        assert client.delete(f"/v1/files/{gone}").status_code == 200
        ended = wait_ended(client, crashing)
        assert ended["status"] == ("failed" if sweep.sealed else "completed")
        assert ("crashed_worker" in read_all(client, ended)) == sweep.sealed
        stopped = upload(client, json.dumps({"text": f"{words['cancelled row']} {MARKS['hang']}"}).encode(), "cancel.jsonl", "rows")
        cancelled = batch(client, stopped, defaults={"model": "fake-encoder", "labels": ["a", "b"]})
        assert client.post(f"/v1/batches/{cancelled['id']}/cancel").status_code == 200
        for listing in ("/v1/files", "/v1/batches", "/v1/label_sets", "/v1/heads", "/v1/keys", "/v1/audit/events", "/v1/models"):
            assert client.get(listing).status_code == 200


def refused(client: httpx.Client, sweep: Sweep) -> None:
    """Requests that end in an error, with a word in each place that an error could quote."""
    words = sweep.canaries
    assert client.get("/v1/files", headers={"authorization": f"Bearer {words['refused key']}"}).status_code == 401
    assert client.get(f"/v1/files/file-{words['refused url']}").status_code == 404
    assert client.get(f"/{words['refused url']}").status_code == 404
    assert client.get("/v1/files", params={"after": words["refused query"], words["refused query"]: "x"}).status_code >= 400
    assert client.post("/v1/batches", json={words["refused query"]: words["refused query"]}).status_code == 400
    assert client.post("/v1/batches", content=f'{{"input_file_id": "{words["refused query"]}'.encode()).status_code == 400
    assert client.put(f"/v1/label_sets/{words['refused url']}", json={"labels": [words["refused query"]] * 2}).status_code == 400
    assert (
        client.post("/v1/files", content=words["refused query"].encode(), headers={"content-type": "multipart/form-data"}).status_code
        == 400
    )
    client.get(
        "/v1/models",
        headers={"user-agent": words["refused query"], "x-request-id": words["refused query"], "cookie": words["refused query"]},
    )


def upload(client: httpx.Client, content: bytes, name: str, purpose: str, **fields: str) -> str:
    answer = client.post("/v1/files", data={"purpose": purpose, **fields}, files={"file": (name, content)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def batch(client: httpx.Client, file: str, *, endpoint: str = CLASSIFY, **more: object) -> dict[str, object]:
    return post(client, "/v1/batches", {"input_file_id": file, "endpoint": endpoint, "completion_window": "1h", **more})


def post(client: httpx.Client, path: str, body: object) -> dict[str, object]:
    return answered(client.post(path, json=body))


def put(client: httpx.Client, path: str, body: object) -> dict[str, object]:
    return answered(client.put(path, json=body))


def answered(answer: httpx.Response) -> dict[str, object]:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert isinstance(body, dict)
    return body


def wait_ended(client: httpx.Client, job: dict[str, object]) -> dict[str, object]:
    found = job

    def ended() -> bool:
        nonlocal found
        found = answered(client.get(f"/v1/batches/{job['id']}"))
        return found["status"] in ("completed", "failed", "expired", "cancelled")

    wait_until(ended, f"job {job['id']} ends", 90, every_seconds=0.05)
    return found


def read_all(client: httpx.Client, job: dict[str, object]) -> str:
    """Reads both files, as a person would."""
    return "".join(client.get(f"/v1/files/{job[name]}/content").text for name in ("output_file_id", "error_file_id") if job[name])


# Where it is looked for


def look_at_queue(sweep: Sweep, queue: "redis.Redis") -> None:
    """Every key as it lies there, what the server says about its clients and commands, and its dump file."""
    keys = list(queue.scan_iter(count=1000))
    assert keys
    for key in keys:
        sweep.look_in(key, "a key's name in Valkey")
        sweep.look_in(queue.dump(key) or b"", "DUMP of a key in Valkey")
    for command in (("CLIENT", "LIST"), ("COMMANDLOG", "GET", "100", "slow"), ("INFO", "all")):
        sweep.look_in(repr(queue.execute_command(*command)), f"Valkey's {' '.join(command)}")
    queue.save()
    [dump] = list((sweep.home / "valkey").glob("*.rdb"))
    sweep.look_in(dump.read_bytes(), "Valkey's dump file")


def look_at_flower(sweep: Sweep) -> None:
    password = (sweep.home / "secrets" / "flower").read_text().strip()
    with httpx.Client(base_url=str(sweep.state["flower"]), auth=("textmill", password), timeout=30, trust_env=False) as flower:
        # The worker that died last is on its way back.
        wait_until(lambda: bool(flower.get("/api/workers", params={"refresh": "1"}).json()), "Flower sees a worker")
        workers, tasks = flower.get("/api/workers", params={"refresh": "1"}), flower.get("/api/tasks", params={"limit": "1000"})
        assert tasks.json()
        table = flower.get("/tasks/datatable", params={"draw": 1, "start": 0, "length": 1000, "search[value]": "", "order[0][column]": 0,
                                                       "order[0][dir]": "asc", "columns[0][data]": "name"})  # fmt: skip
        pages = ["/", "/workers", "/tasks", "/broker", "/metrics", "/api/task/types", "/api/queues/length"]
        pages += [f"/worker/{name}" for name in workers.json()] + [f"/task/{uuid}" for uuid in list(tasks.json())[:50]]
        pages += [f"/api/task/info/{uuid}" for uuid in list(tasks.json())[:50]]
        for answer in [workers, tasks, table, *map(flower.get, pages)]:
            assert answer.status_code < 500
            sweep.look_in(answer.content, f"Flower's {re.sub('[0-9a-f-]{36}', '…', answer.url.path)}")


def look_at_metrics(sweep: Sweep) -> None:
    addresses = sweep.state["metrics"]
    assert isinstance(addresses, dict)
    for address in [f"{sweep.state['api']}/metrics", *addresses.values()]:
        answer = httpx.get(str(address), timeout=30, trust_env=False)
        assert answer.status_code == 200
        sweep.look_in(answer.content, "/metrics")


def look_at_postgres(sweep: Sweep) -> None:
    """What an administrator of the server sees, and then everything flushed to its folder."""
    password = (sweep.home / "secrets" / "db-superuser").read_text().strip()
    address = (sweep.home / "run" / "database.url").read_text().strip()
    with psycopg.connect(address, user="postgres", password=password, autocommit=True) as conn:
        for row in conn.execute("SELECT * FROM pg_stat_activity").fetchall():
            sweep.look_in(repr(row), "pg_stat_activity")
        conn.execute("CHECKPOINT")


def sweep_stack(folder: Path, *, sealed: bool) -> Sweep:
    sweep = Sweep(folder, sealed)
    sweep.textmill("up", "--detach", "--port", "0", "--flower-port", "0")
    try:
        run_everything(sweep)
        with sweep.redis() as queue:
            look_at_queue(sweep, queue)
        look_at_flower(sweep)
        look_at_metrics(sweep)
        look_at_postgres(sweep)
    finally:
        sweep.textmill("down", "--now")
    logs = {path.name for path in (sweep.home / "logs").iterdir()}
    assert {"api.log", "dispatcher.log", "worker-cpu.log", "flower.log", "postgres.log", "valkey.log", "up.log"} <= logs
    assert list((sweep.home / "postgres" / "pg_wal").iterdir())
    sweep.hits |= sweep.search.in_folder(sweep.home)
    sweep.hits |= sweep.search.in_folder(sweep.folder / "tmp")
    assert not list(sweep.folder.rglob("core*"))
    assert sweep.search.searched_bytes > 50 << 20
    return sweep


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Removed at once: the control run leaves readable words behind, and both a hundred megabytes."""
    yield tmp_path  # type: ignore[misc]
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_no_word_can_be_read_in_anything_the_stack_leaves_behind(folder: Path) -> None:
    sweep = sweep_stack(folder, sealed=True)
    assert sweep.hits == set(), sorted({(hit.canary, hit.form, hit.place) for hit in sweep.hits})[:40]


def test_with_sealing_switched_off_the_same_search_finds_every_word(folder: Path) -> None:
    sweep = sweep_stack(folder, sealed=False)
    in_postgres = {hit.canary for hit in sweep.hits if hit.place.startswith("postgres/")}
    assert in_postgres >= ISSUE
    assert in_postgres == set(PLANTED) - NEVER_KEPT
    # No word is outside of the database, sealed or not: there it is never written.
    assert {hit.place for hit in sweep.hits if not hit.place.startswith("postgres/")} == set()


def test_the_search_finds_a_word_in_every_form() -> None:
    word = new_canary()
    search = Search({"word": word})
    for form, written in written_forms(word).items():
        padding = os.urandom(1000)
        assert search.in_bytes(padding + written + padding, "here"), form


def test_the_search_finds_nothing_where_nothing_is(tmp_path: Path) -> None:
    search = Search({"word": new_canary()})
    (tmp_path / "file").write_bytes(os.urandom(1 << 20) + new_canary().encode())
    assert search.in_folder(tmp_path) == set()
