"""To whom a command gives the key of this home, and a text: to the stack of this home alone, or to the server that its user named."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from api import cli
from api.local.home.secret_files import write_private
from db.sealing.keys import LocalKeyFile
from tests.waiting import wait_until

KEY = "tm_" + "k" * 43
# Answers any request with an empty list, and writes down what it got.
LISTENER = """
import os, pathlib, socket, sys
os.setuid(int(sys.argv[2]))
server = socket.create_server(("127.0.0.1", 0))
pathlib.Path(sys.argv[1], "port").write_text(str(server.getsockname()[1]))
while True:
    connection, _ = server.accept()
    with connection, open(sys.argv[1] + "/got", "ab") as got:
        got.write(connection.recv(65536))
        got.flush()
        connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 27\\r\\n\\r\\n" + b'{"data":[],"has_more":false}'[:27])
"""
NOBODY = 65534


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TEXTMILL_API_URL", "TEXTMILL_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEXTMILL_HOME", str(tmp_path / "home"))
    for folder in ("run", "secrets"):
        (tmp_path / "home" / folder).mkdir(parents=True)
    write_private(tmp_path / "home" / "secrets" / "api-key", KEY)
    return tmp_path / "home"


class Listener:
    """Somebody at a port: ``got`` is all that was ever sent to them."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self._folder = folder
        self.pid = process.pid
        wait_until(lambda: (folder / "port").exists() and (folder / "port").read_text(), "it listens")
        self.url = f"http://127.0.0.1:{(folder / 'port').read_text()}"

    @property
    def got(self) -> bytes:
        return (self._folder / "got").read_bytes() if (self._folder / "got").exists() else b""


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    with ExitStack() as running:

        def start(user: int = os.geteuid()) -> Listener:
            folder = Path(running.enter_context(TemporaryDirectory()))  # pytest's own folders let nobody else in
            folder.chmod(0o777)
            process = running.enter_context(subprocess.Popen([sys.executable, "-c", LISTENER, str(folder), str(user)]))
            running.callback(process.kill)
            return Listener(folder, process)

        yield start


def publish(home: Path, url: str, pid: int) -> None:
    write_private(home / "run" / "state.json", json.dumps({"api": url, "children": {"api": pid}}))


def test_a_stack_of_this_home_gets_the_key(home: Path, listen: Callable[..., Listener]) -> None:
    """The control: what the others are kept from does reach who may have it."""
    ours = listen()
    publish(home, ours.url, ours.pid)
    cli.run(["jobs", "list"])
    assert KEY.encode() in ours.got


@pytest.mark.parametrize("key_in_environment", [False, True])
def test_with_the_stack_down_whoever_listens_at_its_port_gets_nothing(
    home: Path,
    listen: Callable[..., Listener],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key_in_environment: bool,
) -> None:
    """A crash leaves the state file behind, and the port to anybody."""
    if key_in_environment:
        monkeypatch.setenv("TEXTMILL_API_KEY", KEY)
    stranger = listen()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (home / "text.jsonl").write_text('{"text": "a secret"}\n')
    for pid in (dead.pid, os.getpid()):
        publish(home, stranger.url, pid)
        assert cli.run(["jobs", "list"]) == 3
        assert cli.run(["label", str(home / "text.jsonl"), "--labels", "a,b", "-o", "-"]) == 3
    (home / "run" / "state.json").unlink()
    assert cli.run(["jobs", "list"]) == 3
    assert stranger.got == b""
    assert "textmill up" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_users_program_gets_the_key_neither_by_the_state_file_nor_by_the_address(
    home: Path, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = listen(NOBODY)
    publish(home, stranger.url, stranger.pid)
    assert cli.run(["jobs", "list"]) == 3
    monkeypatch.setenv("TEXTMILL_API_URL", stranger.url)
    assert cli.run(["jobs", "list"]) == 4
    assert stranger.got == b""
    assert "Another user's program" in capsys.readouterr().err
    monkeypatch.setenv("TEXTMILL_API_KEY", KEY)  # whoever names both means it
    cli.run(["jobs", "list"])
    assert KEY.encode() in stranger.got


def test_an_address_without_a_scheme_is_called_so_and_no_other_machine(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEXTMILL_API_URL", "127.0.0.1:8910")
    assert cli.run(["jobs", "list"]) == 3
    assert "looks like http://127.0.0.1:8910" in capsys.readouterr().err


def test_who_may_not_see_whose_program_listens_gets_a_sentence_and_keeps_the_key(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(*_: object, **__: object) -> list[object]:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", denied)
    monkeypatch.setenv("TEXTMILL_API_URL", "http://127.0.0.1:8910")
    assert cli.run(["jobs", "list"]) == 4
    assert "or this user may not see whose it is" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["[::1", "127.0.0.1:abc", "127.0.0.1:99999", "127.0.0.1:0", "", "a..b\x01"])
@pytest.mark.parametrize("scheme", ["http://", "nope", "ftp://"])
def test_an_address_that_is_none_is_told_in_a_sentence(
    scheme: str, url: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEXTMILL_API_URL", scheme + url)
    monkeypatch.setenv("TEXTMILL_API_KEY", KEY)
    assert cli.run(["jobs", "list"]) != 0
    assert "TEXTMILL_API_URL is not an address of an HTTP API" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["tm_schl\u00fcssel", "tm_\udcff", "  "])
def test_a_key_that_is_none_is_told_in_a_sentence(
    key: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEXTMILL_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TEXTMILL_API_KEY", key)
    (home / "secrets" / "api-key").write_text("")
    assert cli.run(["jobs", "list"]) != 0
    assert "The API key is none" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["db", "migrate"], ["db", "tenant", "x"], ["workers", "list"], ["doctor", "--json"]])
def test_an_address_of_a_database_that_no_client_knows_is_told_in_a_sentence(
    command: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEXTMILL_DATABASE_URL", "postgresql://127.0.0.1:1/textmill?pool_size=5")
    LocalKeyFile.create(home / "keys" / "kek.json")
    assert cli.run(command) != 0
    said = capsys.readouterr()
    assert "(“pool_size”)" in said.err + said.out
    assert "ProgrammingError" not in said.err + said.out


@pytest.mark.parametrize("command", [["workers", "list"], ["doctor", "--json"]])
def test_a_password_file_that_holds_no_text_is_told_in_a_sentence(
    command: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEXTMILL_DATABASE_URL", "postgresql://127.0.0.1:1/textmill")
    write_private(home / "secrets" / "db-dispatcher", "x")
    (home / "secrets" / "db-dispatcher").write_bytes(b"\xff\xfe\x00")
    assert cli.run(command) != 0
    said = capsys.readouterr()
    assert "holds no text" in said.err + said.out


def test_an_api_key_that_holds_no_text_is_told_in_a_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEXTMILL_API_URL", "http://127.0.0.1:1")
    (home / "secrets" / "api-key").write_bytes(b"\xff\xfe\x00")
    assert cli.run(["jobs", "list"]) != 0
    assert "api-key holds no text" in capsys.readouterr().err
