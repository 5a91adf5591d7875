"""What goes to a server and comes back: to whom, with which key, how much, and for how long."""

import asyncio
import logging
import os
import tracemalloc
from pathlib import Path

import pytest

from db.errors import TextmillError
from tests.faults.faulty_server import FaultyServer
from tests.workers.engines.servers.certificates import Authority
from tests.workers.engines.servers.conftest import entry_of
from workers.engines.servers.wire import MOST_BYTES, Busy, Refused, Trouble, Wire, seconds_of
from workers.models.server_entry import ServerEntry

BODY = b'{"messages": [{"role": "user", "content": "a secret text"}], "max_tokens": 2}'


def ask(entry: ServerEntry, path: str = "/chat/completions", *, seconds: float = 5.0) -> bytes:
    async def once() -> bytes:
        wire = Wire.open(entry, entry.url)
        try:
            return await wire.post(path, BODY, seconds=seconds)
        finally:
            await wire.close()

    return asyncio.run(once())


def trouble_of(entry: ServerEntry, **how: float) -> str:
    with pytest.raises(Trouble) as found:
        ask(entry, **how)
    return found.value.why


def test_a_server_is_spoken_to_over_tls_where_the_operators_authority_vouches_for_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with FaultyServer(tls=authority.server("127.0.0.1")) as server:
        assert b"choices" in ask(entry_of(server, ca_file=str(authority.file)))


def test_a_server_with_a_wrong_certificate_gets_nothing(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    for context, ca_file in (
        (authority.server("127.0.0.1"), ""),  # the system's authorities do not know it
        (authority.server("127.0.0.1"), str(other.file)),
        (authority.server("127.0.0.2"), str(authority.file)),  # another host's
        (authority.server("127.0.0.1", days=-1), str(authority.file)),  # run out
    ):
        with FaultyServer(tls=context) as server:
            assert trouble_of(entry_of(server, ca_file=ca_file)) == "certificate"
            assert server.asked == []


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with FaultyServer() as elsewhere, FaultyServer(lambda _asked: "redirect") as server:
        assert trouble_of(entry_of(server)) == "misdirected"
        assert elsewhere.asked == []


def test_no_proxy_and_no_password_is_taken_from_the_environment(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    with FaultyServer() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        ask(entry_of(server))
        assert proxy.asked == []
        assert "authorization" not in server.asked[0].headers


def test_the_key_comes_from_a_private_file_or_a_variable(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_text("sk-of-a-file\n")
    path.chmod(0o600)
    tmp_path.chmod(0o700)
    ask(entry_of(server, key_file=str(path)))
    monkeypatch.setenv("OF_THE_SERVER", "sk-of-a-variable")
    ask(entry_of(server, key_variable="OF_THE_SERVER"))
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer sk-of-a-file", "Bearer sk-of-a-variable"]


@pytest.mark.parametrize("content", ["", "two\nlines", "sch\u00f6n", "x" * 5_000])
def test_what_is_no_key_is_not_sent(content: str, server: FaultyServer, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(TextmillError) as found:
        ask(entry_of(server, key_file=str(path)))
    assert content[:20] == "" or content[:20] not in str(found.value)
    assert server.asked == []


def test_a_key_that_others_may_read_is_not_sent(server: FaultyServer, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk")
    path.chmod(0o644)
    with pytest.raises(TextmillError, match="chmod 600"):
        ask(entry_of(server, key_file=str(path)))


def test_neither_texts_nor_the_key_are_logged_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OF_THE_SERVER", "sk-secret")
    told: list[str] = []
    with caplog.at_level(logging.INFO):
        for fault in ("400", "401", "500", "nonsense", "reset", "redirect", None):
            with FaultyServer(lambda _asked, fault=fault: fault) as server:  # type: ignore[misc]
                try:
                    ask(entry_of(server, key_variable="OF_THE_SERVER"))
                except (Busy, Refused, Trouble) as error:
                    told.append(f"{error!r} {error}")
    whole = caplog.text + "".join(told)
    assert "secret" not in whole


def test_a_body_without_an_end_is_given_up_at_the_bound_of_size() -> None:
    with FaultyServer(lambda _asked: "endless") as server:
        tracemalloc.start()
        assert trouble_of(entry_of(server)) == "nonsense"
        assert tracemalloc.get_traced_memory()[1] < 3 * MOST_BYTES
        tracemalloc.stop()


@pytest.mark.timeout(60)  # without the bound it never ends
@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_an_answer_that_drips_is_given_up_at_the_bound_of_time(fault: str) -> None:
    with FaultyServer(lambda _asked: fault) as server:
        assert trouble_of(entry_of(server), seconds=0.2) == "slow"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("soon", None),
        (None, None),
        ("-1", None),
        ("²", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(said: str | None, seconds: float | None) -> None:
    assert seconds_of(said) == seconds


def test_a_connection_is_used_again(server: FaultyServer) -> None:
    async def many() -> None:
        wire = Wire.open(entry_of(server), server.url)
        for _ in range(5):
            await wire.post("/chat/completions", BODY, seconds=5.0)
            assert server.connections == 1
        await wire.close()

    asyncio.run(many())


def test_a_socket_is_an_address(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def both() -> bytes:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()

        async with await asyncio.start_unix_server(serve, path):
            wire = Wire.open(ServerEntry(id="m", engine="server", url=f"unix://{path}"), f"unix://{path}")
            answer = await wire.post("/chat/completions", BODY, seconds=5.0)
            await wire.close()
            return answer

    assert os.fspath(path)
    assert asyncio.run(both()) == b"{}"
