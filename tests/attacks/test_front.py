"""What the front lets slip beside its routes: keys in addresses, answers that stay in caches, metrics through a proxy."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote, urlsplit

import pytest

from tests.api.conftest import Served
from tests.api.lines import classify_file
from tests.api.routes.test_files import error_of
from tests.api.test_errors import requests_in
from tests.waiting import wait_until


def percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


@pytest.mark.parametrize("path", ["/v1/files?after={}", "/v1/files/{}", "/healthz?x={}", "/metrics?x={}", "/docs?{}", "/nowhere/{}"])
def test_a_key_in_an_address_is_refused_on_every_route_and_logged_on_none(api: Served, log_lines: list[str], path: str) -> None:
    """As it was, ``%74m_…`` was no key to the check and one to whoever reads the log of a proxy."""
    client = api.http(key="")
    for spelt in (api.key, percent(api.key), quote(percent(api.key)), api.key.replace("_", "%5F")):
        assert error_of(client.get(path.format(spelt)))[:2] == (400, "key_in_url")
    wait_until(lambda: len(requests_in(log_lines)) == 4, "each request is logged, which follows its answer")
    for key in (api.key, percent(api.key)):
        assert not any(key in line for line in log_lines)
    assert [line["error"] for line in requests_in(log_lines)] == ["key_in_url"] * 4


def test_a_key_beside_the_address_is_logged_nowhere(api: Served, log_lines: list[str]) -> None:
    """In the address' user, in headers of other services, as Basic."""
    key, place = api.key, urlsplit(api.url).netloc
    client = api.http(key="")
    client.get(f"http://{key}@{place}/v1/models")
    client.get(f"http://user:{key}@{place}/v1/models")
    for name in ("x-api-key", "cookie", "referer", "user-agent", "x-request-id", "proxy-authorization"):
        client.get("/v1/models", headers={name: key})
    wait_until(lambda: len(requests_in(log_lines)) == 8, "each request is logged, which follows its answer")
    assert not any(key in line for line in log_lines)


def test_no_answer_stays_in_a_cache_or_is_taken_for_another_type(api: Served) -> None:
    file_id = api.upload(classify_file(1)).json()["id"]
    client = api.http()
    paths = ["/v1/files", f"/v1/files/{file_id}", f"/v1/files/{file_id}/content", "/v1/models", "/v1/audit/events", "/v1/keys"]
    paths += ["/v1/files/none", "/nowhere", "/healthz", "/metrics"]
    for path in paths:
        headers = client.get(path).headers
        assert headers.get_list("cache-control") == ["no-store"], path
        assert headers.get_list("x-content-type-options") == ["nosniff"], path
    refused = api.http(key="").get("/v1/files").headers
    assert (refused["cache-control"], refused["x-content-type-options"]) == ("no-store", "nosniff")
    for path in ("/docs", "/docs/jobs"):  # these say the same everywhere
        assert client.get(path).headers.get_list("cache-control") == ["no-cache"]


@contextmanager
def proxy(target: int, change: Callable[[bytes], bytes]) -> Iterator[int]:
    """A server on this machine that passes one request's head on, changed as some proxy would. Its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_one() -> None:
            with suppress(OSError):
                client, _ = listening.accept()
                with client, socket.create_connection(("127.0.0.1", target)) as upstream:
                    upstream.sendall(change(client.recv(65536)))
                    while piece := upstream.recv(65536):
                        client.sendall(piece)

        thread = threading.Thread(target=serve_one)
        thread.start()
        yield listening.getsockname()[1]
    thread.join(timeout=10)


def status_through(api: Served, change: Callable[[bytes], bytes], host: str) -> int:
    """Of `/metrics`, as a client elsewhere that asks ``host`` gets it."""
    with proxy(urlsplit(api.url).port or 0, change) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics", headers={"Host": host, "Connection": "close"})
        status = connection.getresponse().status
        connection.close()
        return status


def adding(header: bytes) -> Callable[[bytes], bytes]:
    return lambda head: head.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n", 1)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(adding(b"X-Forwarded-For: 203.0.113.9"), id="forwarded for"),
        pytest.param(adding(b"X-Forwarded-For: 127.0.0.1"), id="forwarded for, as the client wrote it"),
        pytest.param(adding(b"Forwarded: for=203.0.113.9"), id="the standard's"),
        pytest.param(adding(b"X-Forwarded-Proto: https"), id="the scheme alone"),
        pytest.param(adding(b"X-Real-IP: 203.0.113.9"), id="nginx as many write it"),
        pytest.param(adding(b"Via: 1.1 proxy"), id="via"),
        *(
            pytest.param(adding(name + b": 203.0.113.9"), id=name.decode())
            for name in (
                b"X-Forwarded",
                b"Client-IP",
                b"X-Cluster-Client-Ip",
                b"Fastly-Client-IP",
                b"X-Envoy-External-Address",
                b"CF-Connecting-IP",
                b"X-Client-IP",
                b"X-Original-URL",
                b"X-ProxyUser-Ip",
                b"X-Azure-ClientIP",
                b"X-Request-Id",
                b"Traceparent",
                b"Baggage",
                b"X-Scheme",
                b"CloudFront-Viewer-Address",
                b"X-Amzn-Trace-Id",
                b"Fly-Client-IP",
                b"X-Of-Tomorrow",
            )
        ),
        pytest.param(lambda head: head.replace(b"HTTP/1.1", b"HTTP/1.0"), id="nginx as it comes"),
    ],
)
def test_metrics_are_closed_to_what_comes_through_a_proxy_on_this_machine(api: Served, change: Callable[[bytes], bytes]) -> None:
    """The peer is this machine, and who asks is not."""
    assert status_through(api, change, f"127.0.0.1:{urlsplit(api.url).port}") == 404


@pytest.mark.parametrize(
    "host", ["mill.example", "mill.example:443", "203.0.113.9", "127.0.0.1.example", "localhost.example", "[::2]", "", "["]
)
def test_metrics_are_closed_to_who_asks_for_another_name(api: Served, host: str) -> None:
    """HAProxy, Caddy and a page whose name was pointed here pass on what their client asked for."""
    assert status_through(api, lambda head: head, host) == 404


@pytest.mark.parametrize("host", ["127.0.0.1:8910", "localhost", "localhost:8910", "[::1]:8910", "127.0.0.2"])
def test_metrics_answer_this_machine(api: Served, host: str) -> None:
    """The control: the same way, with nothing added."""
    assert status_through(api, lambda head: head, host) == 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(
            b"Accept: application/openmetrics-text;version=1.0.0\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\nAuthorization: Bearer x",
            id="prometheus",
        ),
        pytest.param(
            b"X-Prometheus-Scrape-Timeout-Seconds: 10\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
            b"Tracestate: a=b\r\nBaggage: a=b",
            id="prometheus that traces",
        ),
        pytest.param(b"User-Agent: curl/8.5.0\r\nAccept: */*", id="curl"),
        pytest.param(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", id="curl --http2"),
        pytest.param(
            b"Accept-Language: de\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nsec-ch-ua: x\r\nDNT: 1\r\nPriority: u=0",
            id="a browser",
        ),
    ],
)
def test_metrics_answer_what_asks_for_itself(api: Served, headers: bytes) -> None:
    """The control of the list: what such a one sends."""
    assert status_through(api, adding(headers), f"127.0.0.1:{urlsplit(api.url).port}") == 200


def test_metrics_that_a_setting_opens_answer_through_a_proxy(serve: Callable[..., Served]) -> None:
    assert status_through(serve(metrics_from_anywhere=True), adding(b"X-Forwarded-For: 203.0.113.9"), "mill.example") == 200
