"""Connections that bring no request in time are ended; those that bring one are not."""

import select
import socket
from collections.abc import Callable

import pytest

from api.requests import punctual
from tests.api.conftest import Served
from tests.waiting import wait_until

SOON = 0.3


@pytest.fixture
def api(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setattr(punctual, "HEADER_SECONDS", SOON)
    return serve()


def connect(api: Served) -> socket.socket:
    host, _, port = api.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def ended(connection: socket.socket) -> bool:
    """Waits until the server ends it; what it still said before does not count."""
    try:
        while connection.recv(65_536):
            pass
        return True
    except ConnectionResetError:
        return True


def test_a_silent_connection_is_ended(api: Served) -> None:
    with connect(api) as connection:
        assert ended(connection)


def test_a_header_that_comes_by_bytes_does_not_put_the_end_off(api: Served) -> None:
    with connect(api) as connection:
        try:
            for byte in b"GET /healthz HTTP/1.1\r\n" + b"X-Slow: " + b"x" * 100_000:
                connection.send(bytes([byte]))
                if select.select([connection], [], [], 0.02)[0]:
                    break
        except (ConnectionResetError, BrokenPipeError):
            return
        assert ended(connection)


def test_half_a_header_behind_an_answered_request_is_ended(api: Served) -> None:
    with connect(api) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /healthz HTT")
        assert ended(connection)


def test_a_request_that_is_under_way_for_longer_is_answered(api: Served) -> None:
    with connect(api) as connection:
        head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n"
        connection.sendall((head + "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 12\r\n\r\n--b\r\n").encode())
        wait_until(lambda: api.app.state.front.uploads.in_flight == 1)
        select.select([connection], [], [], 3 * SOON)
        connection.sendall(b"--b--\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400")


def test_one_connection_too_many_is_closed_at_once(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(punctual, "MAX_CONNECTIONS", 1)
    with connect(api), connect(api) as second:
        assert ended(second)
