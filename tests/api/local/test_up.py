"""`textmill up` as a person meets it: the whole stack of real processes, with the deterministic engine, and every way it may go wrong."""

import base64
import contextlib
import json
import os
import pty
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from celery import Celery

from api.local.home.home import Home
from api.local.servers.postgres import EmbeddedPostgres, binary
from api.local.servers.unprivileged import is_open_to_all
from db.process_names import pid_of
from db.server.migrate import bootstrap
from db.settings import Role, StoreSettings
from tests.waiting import wait_until
from tests.workers.families import make

ROOT = Path(__file__).parents[3]
FREE_PORTS = ["--port", "0", "--flower-port", "0"]


def command() -> list[str]:
    return [sys.executable, "-P", "-m", "api.cli"]


@dataclass
class Stack:
    """A home, and `textmill` in it."""

    home: Path
    extra: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TEXTMILL_")}
        return {**kept, "PYTHONPATH": str(ROOT), "TEXTMILL_HOME": str(self.home), "TEXTMILL_FAKE_ENGINE": "1", **self.extra}

    def call(self, *arguments: str, prefix: list[str] | None = None, timeout: float = 100) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*(prefix or []), *command(), *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout, cwd="/"
        )

    def up(self, *arguments: str) -> None:
        done = self.call("up", "--detach", *(arguments or FREE_PORTS))
        assert done.returncode == 0, done.stderr + self.log("up")

    def down(self) -> None:
        done = self.call("down")
        assert done.returncode == 0, done.stderr

    @property
    def state(self) -> dict[str, object]:
        found = json.loads((self.home / "run" / "state.json").read_text())
        assert isinstance(found, dict)
        return found

    @property
    def children(self) -> dict[str, int]:
        children = self.state["children"]
        assert isinstance(children, dict)
        return children

    def part(self, name: str) -> dict[str, object]:
        parts = self.state["parts"]
        assert isinstance(parts, list)
        return next(part for part in parts if part["name"] == name)

    def log(self, name: str) -> str:
        path = self.home / "logs" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def family(self) -> list[psutil.Process]:
        """Every process of the stack."""
        pid = self.state["pid"]
        assert isinstance(pid, int)
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def status_of(url: str, *, user: str | None = None) -> int:
    request = urllib.request.Request(url)
    if user:
        request.add_header("authorization", "Basic " + base64.b64encode(user.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def text_of(url: str, user: str) -> str:
    """Empty where the page fails."""
    request = urllib.request.Request(url, headers={"authorization": "Basic " + base64.b64encode(user.encode()).decode()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError:
        return ""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack") / "home", {})
    stack.up()
    yield stack
    stack.down()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "home", {})
    yield stack
    stack.call("down", "--now")


# A stack that runs


def test_the_stack_says_where_each_part_is(running: Stack) -> None:
    done = running.call("status", "--json")
    assert done.returncode == 0
    state = json.loads(done.stdout)
    assert state["running"] is True
    assert {part["name"]: part["state"] for part in state["parts"]} == dict.fromkeys(
        ("postgres", "valkey", "api", "dispatcher", "worker-cpu", "flower"), "running"
    )
    assert status_of(f"{state['api']}/readyz") == 200
    for address in state["metrics"].values():
        assert status_of(address) == 200


def test_nothing_listens_beyond_this_machine(running: Stack) -> None:
    ours = {process.pid for process in running.family()}
    listening = [c for c in psutil.net_connections() if c.pid in ours and c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}


def test_flower_wants_its_password_and_only_shows(running: Stack) -> None:
    flower, password = str(running.state["flower"]), (running.home / "secrets" / "flower").read_text().strip()
    assert status_of(f"{flower}/workers") == 401
    assert status_of(f"{flower}/api/workers") == 401
    assert status_of(f"{flower}/metrics") == 401
    for page in ("workers", "metrics"):
        assert status_of(f"{flower}/{page}", user=f"textmill:{password}") == 200
    answer = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "-u", f"textmill:{password}",
         f"{flower}/api/task/send-task/textmill.run_shard"],
        capture_output=True, text=True, check=True,
    ) if shutil.which("curl") else None  # fmt: skip
    assert answer is None or answer.stdout in ("403", "405")


def test_flower_shows_its_pages_whatever_somebody_who_writes_to_the_broker_says_of_workers(running: Stack) -> None:
    """As it was, one sign of life with a word for a number made /workers a 500 until Flower's history was removed."""
    forged: list[tuple[str, dict[str, object]]] = [
        ("worker-heartbeat", {"freq": "often"}),
        ("worker-heartbeat", {"active": "many"}),
        ("worker-heartbeat", {"event": 5}),
        ("worker-online", {"loadavg": {"a": 1}}),
        ("task-received", {"uuid": ["x"], "name": "x"}),
        ("task-received", {"uuid": "x", "name": {"x": 1}}),
        ("task-custom", {"uuid": "y", "name": "x"}),
    ]
    flower, login = str(running.state["flower"]), "textmill:" + (running.home / "secrets" / "flower").read_text().strip()
    key = "of_somebody_who_took_this_for_the_API"
    app = Celery(broker=(running.home / "run" / "redis.url").read_text().strip(), set_as_current=False)
    with app.connection() as broker:
        with app.events.Dispatcher(broker, hostname="forged@here") as dispatcher:
            for kind, fields in forged:
                dispatcher.send(kind, **fields)
        with app.events.Dispatcher(broker, hostname="witness@here") as dispatcher:
            wait_until(
                lambda: (
                    dispatcher.send("worker-heartbeat", freq=60, active=0, processed=0, loadavg=[0.5])
                    or "witness@here" in text_of(f"{flower}/workers?json=1", login)
                ),
                "Flower shows the worker that came after the forged ones",
            )
    for page in ("workers", "workers?json=1", "tasks", "broker", "metrics", "api/workers", "api/tasks"):
        assert status_of(f"{flower}/{page}", user=login) == 200, page
    assert status_of(f"{flower}/worker/tm_{key}", user=login) == 404
    assert status_of(f"{flower}/tasks/datatable?draw=tm_{key}", user=login) == 400
    assert "HTTPError 404" in running.log("flower")
    assert key not in running.log("flower")


def test_no_secret_is_on_a_command_line_or_in_an_environment(running: Stack) -> None:
    secrets = [path.read_text().strip() for path in (running.home / "secrets").iterdir()]
    assert len(secrets) >= 9
    for process in running.family():
        told = " ".join(process.cmdline()) + " ".join(process.environ().values())
        assert not any(secret in told for secret in secrets), process.name()


def test_files_are_for_this_user_alone_and_no_part_dumps_core(running: Stack) -> None:
    for path in running.home.rglob("*"):
        if not path.is_symlink() and not stat.S_ISSOCK(path.stat().st_mode):
            assert path.stat().st_mode & 0o077 == 0, path
    for process in running.family():
        assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (0, 0), process.name()


def test_a_second_up_in_the_same_home_names_the_first(running: Stack) -> None:
    for arguments in (["up"], ["up", "--detach"], ["up", *FREE_PORTS]):
        done = running.call(*arguments)
        assert done.returncode == 6
        assert f"pid {running.state['pid']}" in done.stderr


def test_parts_that_are_killed_come_back_at_their_old_places(running: Stack) -> None:
    before = running.children
    for name in ("valkey", "postgres", "dispatcher"):
        os.kill(before[name], signal.SIGKILL)
    for name in ("valkey", "postgres", "dispatcher"):
        wait_until(
            lambda name=name: running.part(name)["state"] == "running" and running.children[name] != before[name],  # type: ignore[misc]
            f"{name} is back",
        )
        assert running.part(name)["restarts"] == 1
        assert "SIGKILL" in str(running.part(name)["note"])
    assert "postgres died: killed by SIGKILL" in running.log("up")
    wait_until(lambda: status_of(f"{running.state['api']}/readyz") == 200, "the API has its database again")
    with redis.Redis.from_url((running.home / "run" / "redis.url").read_text().strip()) as client:
        assert client.ping()
    assert running.call("status").returncode == 0


def test_a_worker_that_is_killed_is_struck_off_the_list_before_its_lease_would_end(running: Stack) -> None:
    """So are its leases: tests/faults/test_operators.py."""
    pid = running.children["worker-cpu"]

    def known() -> list[str]:
        return [str(each["worker"]) for each in json.loads(running.call("workers", "list", "--json").stdout)]

    wait_until(lambda: any(pid_of(name) == pid for name in known()), "the worker is listed")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(pid_of(name) == pid for name in known()), "the dead worker is gone", 10)
    wait_until(lambda: len(known()) == 1, "there is a new one")


def test_the_queue_gauge_counts_what_is_to_do(running: Stack) -> None:
    from db.operators.queue_gauge import QueueGauge

    settings = StoreSettings(home=running.home)
    gauge = QueueGauge(settings.database_url_for(Role.DISPATCHER))
    counts = gauge.read()
    gauge.close()
    assert counts is not None
    assert (counts.jobs, counts.ready, counts.leased) == (0, 0, 0)


# Start and end


def test_killing_up_itself_ends_everything_and_the_next_start_goes_on(fresh: Stack) -> None:
    fresh.up()
    key, family = (fresh.home / "secrets" / "api-key").read_text(), fresh.family()
    os.kill(family[0].pid, signal.SIGKILL)
    wait_until(lambda: all(gone(process) for process in family), "every part has ended")
    assert (fresh.home / "run" / "up.pid").exists()
    assert fresh.call("status").returncode == 3
    fresh.up()
    assert "ended without a word" in fresh.log("up")
    assert (fresh.home / "secrets" / "api-key").read_text() == key
    assert fresh.call("keys", "list").returncode == 0
    family = fresh.family()
    fresh.down()
    assert all(gone(process) for process in family)
    assert {path.name for path in (fresh.home / "run").iterdir()} <= {"up.lock", "flower.py"}
    assert fresh.call("down").returncode == 0


def test_what_a_killed_worker_held_is_at_work_elsewhere_while_its_leases_would_still_last(fresh: Stack, tmp_path: Path) -> None:
    """By default a lease lasts 30 s; how soon it is at work again is measured by the faults (two seconds)."""
    fresh.extra |= {"TEXTMILL_FAKE_DELAY_MS": "4", "TEXTMILL_SHARD_SECONDS": "0.5", "TEXTMILL_CHUNK_SECONDS": "0.2"}
    fresh.up("--port", "0", "--no-flower", "--workers", "2")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"text {number}"}) + "\n" for number in range(6_000)))
    started = fresh.call("label", str(rows), "--labels", "x,y", "--detach", "-q")
    assert started.returncode == 0, started.stderr
    database = StoreSettings(home=fresh.home).database_url_for(Role.DISPATCHER).set(drivername="postgresql")
    with psycopg.connect(database.render_as_string(hide_password=False), autocommit=True) as conn:

        def held(by: int) -> dict[object, tuple[int, datetime]]:
            found = conn.execute(
                "SELECT shard_id, epoch, lease_expires_at FROM shards WHERE state = 'leased' AND worker LIKE %s", [f"%:{by}:%"]
            )
            return {shard: (int(epoch), until) for shard, epoch, until in found}

        doomed, living = fresh.children["worker-cpu"], fresh.children["worker-cpu-2"]

        def stopped_at_work() -> dict[object, tuple[int, datetime]]:
            os.kill(doomed, signal.SIGSTOP)
            found = held(doomed) if held(living) else {}
            if not found:
                os.kill(doomed, signal.SIGCONT)
            return found

        lost = wait_until(stopped_at_work, "both work", every_seconds=0.2)
        os.kill(doomed, signal.SIGKILL)

        in_time: list[bool] = []

        def taken_over() -> bool:
            now = conn.execute("SELECT shard_id, epoch, clock_timestamp() FROM shards WHERE shard_id = ANY(%s)", [list(lost)])
            in_time.extend(moment < lost[shard][1] for shard, epoch, moment in now if epoch > lost[shard][0])
            return bool(in_time)

        wait_until(lambda: not held(doomed), "its leases are given up")
        wait_until(taken_over, "another worker has one of its shards")
    assert any(in_time)
    assert "is dead:" in fresh.log("up")
    assert fresh.call("jobs", "watch", started.stdout.strip(), "-q").returncode == 0


def test_ctrl_c_drains_on_a_terminal_that_shows_the_parts(fresh: Stack) -> None:
    manager, terminal = pty.openpty()
    process = subprocess.Popen(
        [*command(), "up", *FREE_PORTS],
        env={**fresh.environment, "TERM": "xterm", "COLUMNS": "120"},
        stdout=terminal,
        stderr=terminal,
        cwd="/",
    )
    os.close(terminal)
    seen = b""

    def shown(text: bytes) -> bool:
        nonlocal seen
        seen += os.read(manager, 65536)
        return text in seen

    wait_until(lambda: shown(b"jobs live"), "the live table counts the queue", 60)
    assert b"worker-cpu" in seen
    assert b"API key" in seen
    process.send_signal(signal.SIGINT)
    wait_until(lambda: _drained(process, manager), "it ends")
    assert process.returncode == 0
    os.close(manager)


def _drained(process: "subprocess.Popen[bytes]", manager: int) -> bool:
    with contextlib.suppress(OSError):
        os.read(manager, 65536)  # a full terminal would stop its writer
    return process.poll() is not None


def test_a_second_ctrl_c_does_not_wait(fresh: Stack) -> None:
    process = subprocess.Popen([*command(), "up", *FREE_PORTS], env=fresh.environment, stderr=subprocess.PIPE, text=True, cwd="/")
    assert process.stderr is not None
    for line in process.stderr:
        if "ready after" in line:
            break
    family = fresh.family()
    os.kill(fresh.children["api"], signal.SIGSTOP)  # it will not drain
    process.send_signal(signal.SIGINT)
    for line in process.stderr:
        if "api stopping" in line:
            break
    process.send_signal(signal.SIGINT)
    _, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert all(gone(each) for each in family[1:])


def test_outside_servers_are_used_and_none_is_started(settings: StoreSettings, valkey: str) -> None:
    assert settings.database_url is not None
    stack = Stack(settings.home, {"TEXTMILL_DATABASE_URL": settings.database_url, "TEXTMILL_REDIS_URL": valkey})
    stack.up("--port", "0", "--no-flower", "--workers", "2")
    try:
        assert set(stack.children) == {"api", "dispatcher", "worker-cpu", "worker-cpu-2"}
        assert valkey.partition("@")[0] not in json.dumps(stack.state)
        assert stack.call("keys", "list").returncode == 0
    finally:
        stack.down()


# Ways it may go wrong


def test_a_taken_port_is_named_with_who_has_it(fresh: Stack) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        for arguments in (["--detach", "--port", port, "--flower-port", "0"], ["--port", "0", "--flower-port", port]):
            done = fresh.call("up", *arguments)
            assert done.returncode == 7
            assert f"Port {port} is taken by" in done.stderr
            assert str(os.getpid()) in done.stderr
    assert not (fresh.home / "run" / "up.pid").exists()


def test_a_home_of_a_newer_layout_is_left_alone(fresh: Stack) -> None:
    fresh.home.mkdir()
    (fresh.home / "version").write_text("99\n")
    done = fresh.call("up")
    assert done.returncode == 9
    assert "newer textmill" in done.stderr
    assert [path.name for path in fresh.home.iterdir()] == ["version"]


def test_a_database_of_a_newer_version_is_left_alone(fresh: Stack) -> None:
    Home(fresh.home).prepare()
    postgres = EmbeddedPostgres(fresh.home, durable=False)
    postgres.start()
    bootstrap(postgres.superuser_url(), dict.fromkeys(Role, "pass"))
    with psycopg.connect(postgres.superuser_url("textmill").render_as_string(hide_password=False), autocommit=True) as conn:
        conn.execute("CREATE TABLE alembic_version (version_num varchar(32))")
        conn.execute("INSERT INTO alembic_version VALUES ('9999')")
        conn.execute("GRANT SELECT ON alembic_version TO textmill_owner")
    postgres.stop()
    (fresh.home / "keys" / "kek.json").write_text("kept")
    done = fresh.call("up", *FREE_PORTS)
    assert done.returncode == 9, done.stderr
    assert "newer textmill" in done.stderr
    assert not (fresh.home / "run" / "up.pid").exists()
    assert not (fresh.home / "postgres" / "postmaster.pid").exists()


def test_a_lost_key_file_is_not_replaced_by_a_new_one(fresh: Stack) -> None:
    fresh.up("--port", "0", "--no-flower", "--workers", "0")
    fresh.down()
    (fresh.home / "keys" / "kek.json").unlink()
    done = fresh.call("up", "--detach", *FREE_PORTS)
    assert done.returncode == 3
    assert "put it back from your backup" in done.stderr
    assert not (fresh.home / "keys" / "kek.json").exists()


def test_a_home_that_is_a_file_is_refused(fresh: Stack) -> None:
    fresh.home.write_text("no folder")
    done = fresh.call("up")
    assert done.returncode == 8
    assert "not a folder" in done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"), [("size=8m", "MiB of free disk"), ("size=8m,ro", "read-only disk"), ("nr_inodes=3", "full")]
)
def test_a_full_or_read_only_disk_is_said_before_anything_starts(fresh: Stack, options: str, sentence: str) -> None:
    fresh.home.mkdir()
    mount = f'mount -t tmpfs -o mode=0700,{options} tmpfs {fresh.home} && exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount")
    done = fresh.call("up", prefix=prefix)
    assert done.returncode == 8, done.stderr
    assert sentence in done.stderr


def test_a_part_that_never_starts_ends_the_start_with_its_reason(fresh: Stack) -> None:
    fresh.extra["TEXTMILL_DEVICE"] = "cuda:7"
    done = fresh.call("up", "--detach", *FREE_PORTS)
    assert done.returncode == 3
    assert "worker-cuda7 does not start" in done.stderr
    assert "cuda:7" in done.stderr
    assert not (fresh.home / "run" / "state.json").exists()


def test_a_wrong_setting_is_said_at_once(fresh: Stack) -> None:
    fresh.extra["TEXTMILL_LEASE_SECONDS"] = "1"
    done = fresh.call("up")
    assert done.returncode == 2
    assert "TEXTMILL_LEASE_SECONDS" in done.stderr
    assert not fresh.home.exists()


def test_with_models_to_preload_it_is_ready_when_they_are_loaded(fresh: Stack, tmp_path: Path) -> None:
    make("bert", tmp_path / "models" / "small", classifier=True)
    fresh.extra["TEXTMILL_MODEL_FOLDERS"] = str(tmp_path / "models")
    fresh.up(*FREE_PORTS, "--models", "local:small")
    assert "local:small: torch" in fresh.log("worker-cpu")
    assert fresh.part("worker-cpu")["state"] == "running"


def test_a_model_to_preload_that_is_none_is_said_at_once(fresh: Stack) -> None:
    refused = fresh.call("up", *FREE_PORTS, "--models", "no-such-model")
    assert refused.returncode == 2
    assert "No such model" in refused.stderr
    assert not (fresh.home / "run").exists()


def test_errors_are_json_where_asked(fresh: Stack) -> None:
    fresh.home.write_text("no folder")
    done = fresh.call("up", "--detach", "--json")
    assert json.loads(done.stderr)["error"]["exit_code"] == done.returncode == 8


def test_another_user_than_root_runs_it_too() -> None:
    # The interpreter of the tests may lie in a folder of root's: this user may read everywhere, and write where any other may.
    reading = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reading, "--"]
    if os.geteuid() != 0 or subprocess.run([*prefix, sys.executable, "-c", ""], capture_output=True, check=False).returncode != 0:
        pytest.skip("not root, or nobody else may be")
    if not is_open_to_all(binary("initdb")):  # which Postgres asks by access(2), and that leaves the right above out
        pytest.skip("the environment lies in a folder of root's alone")
    place = Path("/tmp") / f"textmill-nobody-{os.getpid()}"
    place.mkdir(mode=0o700)
    os.chown(place, 65534, 65534)
    stack = Stack(place / "home", {"HOME": str(place)})
    try:
        done = stack.call("up", "--detach", "--port", "0", "--no-flower", prefix=prefix)
        assert done.returncode == 0, done.stderr + stack.log("up")
        assert {process.uids().real for process in stack.family()} == {65534}
        assert stack.call("down", prefix=prefix).returncode == 0
    finally:
        shutil.rmtree(place, ignore_errors=True)
