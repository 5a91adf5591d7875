"""The client against answers that servers give on bad days."""

import io
import os
import re
from collections.abc import Callable

import httpx
import pytest

from api import client as module
from api.client import ApiError, Client, Unreachable, Upload, is_loopback, segment

Handler = Callable[[httpx.Request], httpx.Response]
BATCH = {"id": "batch_1", "endpoint": "/v1/classifications", "status": "in_progress", "input_file_id": "file-1", "created_at": 1}


def client_for(handler: Handler) -> Client:
    return Client("http://127.0.0.1:1", "tm_key", transport=httpx.MockTransport(handler))


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr("time.sleep", taken.append)
    return taken


def test_a_refusal_carries_code_sentence_and_request_id() -> None:
    body = {"error": {"message": "No such batch.", "type": "invalid_request_error", "param": None, "code": "not_found"}}
    client = client_for(lambda _: httpx.Response(404, json=body, headers={"x-request-id": "req_9"}))
    with pytest.raises(ApiError) as caught:
        client.batch("batch_1")
    assert (caught.value.code, caught.value.message, caught.value.status, caught.value.request_id) == (
        "not_found",
        "No such batch.",
        404,
        "req_9",
    )


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_a_server_that_is_not_ours_gets_a_sentence(status: int) -> None:
    with pytest.raises(ApiError):
        client_for(lambda _: httpx.Response(status, text="<html>hello</html>")).batch("batch_1")


def test_a_busy_server_is_asked_again_after_the_time_it_names(pauses: list[float]) -> None:
    answers = iter(
        [
            httpx.Response(503, headers={"retry-after-ms": "20"}),
            httpx.Response(429, headers={"retry-after": "2"}),
            httpx.Response(200, json=BATCH),
        ]
    )
    assert client_for(lambda _: next(answers)).batch("batch_1").id == "batch_1"
    assert pauses == [0.02, 2.0]


def test_a_busy_server_is_not_asked_for_ever() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(503)

    with pytest.raises(ApiError):
        client_for(answer).batch("batch_1")
    assert len(asked) == module.ATTEMPTS


def test_a_person_who_interrupts_is_not_asked_again() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client_for(answer).batch("batch_1")
    assert len(asked) == 1


def test_a_creation_that_is_repeated_names_the_same_key() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx.ReadError("cut")
        return httpx.Response(200, json=BATCH)

    client_for(answer).create_batch("file-1", "/v1/classifications")
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_a_key_is_not_created_twice_when_the_answer_is_lost() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ReadError("cut")

    with pytest.raises(Unreachable):
        client_for(answer).post("/v1/keys", {})
    assert len(asked) == 1


def test_nobody_there_tells_what_to_do() -> None:
    with Client("http://127.0.0.1:9", "tm_key") as client, pytest.raises(Unreachable, match="textmill up"):
        client.batch("batch_1")


def test_an_address_may_end_in_v1_as_other_clients_have_it() -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, json={})

    with Client("http://127.0.0.1:9/v1/", "tm_key", transport=httpx.MockTransport(answer)) as client:
        client.get("/v1/label_sets/x")
    assert str(asked[0]) == "http://127.0.0.1:9/v1/label_sets/x"


@pytest.mark.parametrize("url", ["ftp://host", "nonsense", "http://"])
def test_an_address_that_is_none_gets_a_sentence(url: str) -> None:
    with Client(url, "tm_key") as client, pytest.raises(Unreachable):
        client.batch("batch_1")


@pytest.mark.parametrize("key", ["", "tm_ä", "tm_\n"])
def test_a_key_that_is_none_is_refused_before_anything_is_sent(key: str) -> None:
    with pytest.raises(ApiError):
        Client("http://127.0.0.1:1", key)


FILE = {"id": "file-1", "bytes": 5, "created_at": 1, "filename": "x", "purpose": "rows", "status": "processed"}


@pytest.mark.parametrize("known_size", [True, False])
def test_an_upload_is_one_form_with_the_file_last(known_size: bool) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        return httpx.Response(200, json=FILE)

    sent: list[int] = []
    upload = Upload(io.BytesIO(b"a\nb\nc"), 'na"me\r\n.jsonl', "rows", {"format": "jsonl"}, 5 if known_size else None)
    client_for(answer).upload(upload, sent.append)
    request = seen[0]
    boundary = re.fullmatch(r"multipart/form-data; boundary=(\w+)", request.headers["content-type"])
    assert boundary
    parts = request.content.split(b"--" + boundary[1].encode())
    assert b'name="purpose"\r\n\r\nrows\r\n' in parts[1]
    assert b'name="format"\r\n\r\njsonl\r\n' in parts[2]
    assert b'filename="na%22me%0D%0A.jsonl"' in parts[3]
    assert parts[3].endswith(b"\r\n\r\na\nb\nc\r\n")
    assert parts[4] == b"--\r\n"
    assert sent == [5]
    if known_size:
        assert int(request.headers["content-length"]) == len(request.content)
    else:
        assert request.headers["transfer-encoding"] == "chunked"


@pytest.mark.timeout(20)
def test_a_pipe_is_sent_as_it_fills_and_before_it_ends() -> None:
    """Nobody waits for the end of what has no size: the first piece is with the server before the second is written."""
    reading, writing = os.pipe()
    arrived: list[bytes] = []

    class Server(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            assert request.headers["transfer-encoding"] == "chunked"
            assert isinstance(request.stream, httpx.SyncByteStream)
            for chunk in request.stream:
                arrived.append(chunk)
                if chunk == b"first\n":
                    os.write(writing, b"second\n")
                    os.close(writing)
            return httpx.Response(200, json=FILE)

    os.write(writing, b"first\n")
    with open(reading, "rb", buffering=0) as source:
        Client("http://127.0.0.1:1", "tm_key", transport=Server()).upload(Upload(source, "stdin", "rows", {}))
    assert b"first\nsecond\n" in b"".join(arrived)


def test_a_file_whose_name_is_not_utf8_is_sent() -> None:
    names: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        names.extend(re.findall(rb'filename="(.*?)"', request.read()))
        return httpx.Response(200, json=FILE)

    client_for(answer).upload(Upload(io.BytesIO(b"a"), os.fsdecode(b"\xff.jsonl"), "rows", {}, 1))
    assert names == [b"?.jsonl"]


def test_pages_follow_the_last_id_and_end() -> None:
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        after = request.url.params.get("after")
        asked.append(after)
        first = int(after or 0)
        data = [{"id": str(first + 1)}, {"id": str(first + 2)}]
        return httpx.Response(200, json={"object": "list", "data": data, "last_id": data[-1]["id"], "has_more": first < 4})

    assert [one["id"] for one in client_for(answer).pages("/v1/files")] == ["1", "2", "3", "4", "5", "6"]
    assert asked == [None, "2", "4"]


def test_lines_are_whole_whatever_the_chunks() -> None:
    client = client_for(lambda _: httpx.Response(200, content=iter([b"on", b"e\ntw", b"o\n", b"\nthree"])))
    assert list(client.lines("file-o1")) == [b"one", b"two", b"three"]


def test_a_name_cannot_leave_its_place_in_the_path() -> None:
    assert segment("a/b?c#d") == "a%2Fb%3Fc%23d"
    assert segment("..") == "%2E%2E"


def test_only_this_machine_is_loopback() -> None:
    assert all(map(is_loopback, ("http://127.0.0.1:8910", "http://localhost", "http://[::1]:1")))
    assert not any(map(is_loopback, ("http://10.0.0.1", "https://mill.example.org", "http://localhost.example.org", "nonsense")))


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.ReadError])
def test_who_named_a_server_is_sent_to_that_name_and_not_to_this_machines_stack(
    error: type[httpx.TransportError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error("")

    def told() -> str:
        with pytest.raises(Unreachable) as caught:
            client_for(fail).batch("batch_1")
        return caught.value.message

    monkeypatch.delenv("TEXTMILL_API_URL", raising=False)
    assert "`textmill " in told()
    monkeypatch.setenv("TEXTMILL_API_URL", "http://127.0.0.1:1")
    assert "is TEXTMILL_API_URL right?" in told()
    assert "`textmill " not in told()


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_that_checks_nothing_beforehand_is_asked_all_the_same(status: int) -> None:
    client_for(lambda _: httpx.Response(status)).check_batch("/v1/classifications")


def test_a_plan_that_the_server_refuses_is_refused() -> None:
    with pytest.raises(ApiError):
        client_for(lambda _: httpx.Response(400)).check_head("a/b")


@pytest.mark.parametrize(("status", "told"), [(401, "Not valid. The key is that of TEXTMILL_API_KEY."), (403, "Not valid.")])
def test_a_key_that_is_refused_is_told_with_where_it_came_from(status: int, told: str) -> None:
    answer = httpx.MockTransport(lambda _: httpx.Response(status, json={"error": {"message": "Not valid.", "code": "c"}}))
    with Client("http://127.0.0.1:1", "tm_key", key_from="TEXTMILL_API_KEY", transport=answer) as client, pytest.raises(ApiError) as caught:
        client.batch("batch_1")
    assert caught.value.message == told
