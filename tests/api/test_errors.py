"""What a caller is told, and what the log keeps, when something goes wrong."""

import json
import logging
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.exc import OperationalError

from api.errors import response_to
from api.request_log import JsonLines, log
from api.routes import models
from db.errors import SealError
from db.files.rows import StoredRow
from db.server.revision import head_revision
from tests.api.conftest import Served
from tests.api.lines import classify_file, classify_line
from tests.api.routes.test_files import error_of
from tests.db.conftest import AsSuperuser, as_superuser  # noqa: F401
from tests.db.server.test_versions import move_to

SECRET = "a-very-secret-text"


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """Lines of all loggers, as the process would write them."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(), log]
    levels = [logger.level for logger in loggers]
    loggers[0].addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield lines
    loggers[0].removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def requests_in(lines: list[str]) -> list[dict[str, object]]:
    return [line for line in map(json.loads, lines) if line["logger"] == "textmill.api" and line["event"] == "request"]


def test_every_response_has_a_request_id_of_its_own(api: Served) -> None:
    http = api.http()
    responses = [http.get(path) for path in ("/healthz", "/v1/models", "/v1/files/none", "/nowhere", "/v1/files?limit=x")]
    responses.append(http.delete("/v1/models"))
    responses.append(http.get("/v1/models", headers={"x-request-id": "mine"}))
    ids = [response.headers["x-request-id"] for response in responses]
    assert len(set(ids)) == len(ids)
    assert all(id.startswith("req_") for id in ids)


def test_an_address_or_method_that_is_not_there_gets_the_usual_body(api: Served) -> None:
    http = api.http()
    for path in ("/nowhere", "/v1/nowhere", "/v1/files/"):
        assert error_of(http.get(path)) == (404, "not_found", None)
    for method, path in (("DELETE", "/v1/models"), ("PATCH", "/v1/files")):
        assert error_of(http.request(method, path)) == (405, "method_not_allowed", None)


def test_an_unforeseen_error_is_answered_and_logged_without_content(
    api: Served, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    def fail() -> list[object]:
        raise ValueError(f"cannot handle {SECRET}")

    monkeypatch.setattr(models.registry, "all_models", fail)
    response = api.http().get(f"/v1/models/{SECRET}")
    assert error_of(response) == (500, "internal_error", None)
    assert SECRET not in response.text
    written = "\n".join(log_lines)
    assert SECRET not in written
    assert response.headers["x-request-id"] in written
    unhandled = [json.loads(line) for line in log_lines if "unhandled" in line]
    assert unhandled[0]["error"] == "ValueError"
    assert any(place.startswith("api/routes/models.py:") for place in unhandled[0]["at"])


def test_an_error_in_the_middle_of_an_answer_breaks_it_off(api: Served, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]) -> None:
    import httpx

    from api.streams import downloads

    file_id = api.upload(classify_file(3000)).json()["id"]
    whole = downloads.input_line

    def fail(row: StoredRow) -> bytes:
        if row.line == 2500:
            raise ValueError(SECRET)
        return whole(row)

    monkeypatch.setattr(downloads, "input_line", fail)
    with pytest.raises(httpx.RemoteProtocolError):
        api.http().get(f"/v1/files/{file_id}/content")
    assert SECRET not in "\n".join(log_lines)


def test_the_log_tells_the_route_and_never_the_address(api: Served, log_lines: list[str]) -> None:
    http = api.http()
    http.put(f"/v1/label_sets/{SECRET}", json={"labels": [SECRET, "b"]})
    http.get(f"/v1/label_sets/{SECRET}")
    http.get("/v1/audit/events", params={"action": SECRET.replace("-", "_")})
    http.get(f"/{SECRET}")
    http.get("/v1/models", headers={"user-agent": SECRET})
    api.upload(classify_line(SECRET, SECRET) + SECRET.encode(), f"{SECRET}.jsonl")
    http.post("/v1/files", content=SECRET.encode() * 5, headers={"content-type": "multipart/form-data; boundary=b"})
    http.post("/v1/batches", content=SECRET.encode())
    written = "\n".join(log_lines)
    assert SECRET not in written
    assert api.key not in written
    entries = requests_in(log_lines)
    assert [(entry["method"], entry["route"], entry["status"]) for entry in entries[:4]] == [
        ("PUT", "/v1/label_sets/{name}", 200),
        ("GET", "/v1/label_sets/{name}", 200),
        ("GET", "/v1/audit/events", 200),
        ("GET", "unmatched", 404),
    ]
    assert all(isinstance(entry["ms"], float) and str(entry["request_id"]).startswith("req_") for entry in entries)


def test_a_store_that_is_away_is_told_as_such(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from db.connect import Store

    def away(self: Store, **context: object) -> None:
        raise OperationalError(f"select '{SECRET}'", {}, Exception(SECRET))

    key = api.key
    assert api.http(key).get("/v1/models").status_code == 200
    monkeypatch.setattr(Store, "transaction", away)
    response = api.http(key).get("/v1/files")
    assert error_of(response) == (503, "store_unavailable", None)
    assert response.headers["retry-after"] == "1"
    assert SECRET not in response.text


def test_what_libraries_log_is_told_without_their_words(log_lines: list[str]) -> None:
    logging.getLogger("asyncio").error(f"Task exception was never retrieved: ValueError('{SECRET}')")
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("some.library").exception("failed on %s", SECRET)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received from %s", SECRET)
    first, second, third = map(json.loads, log_lines)
    assert str(first["event"]).startswith("message of a library at test_errors:")
    assert second["error"] == "ValueError"
    assert third["event"] == "Invalid HTTP request received from %s"
    assert SECRET not in "".join(log_lines)


def test_a_broken_seal_is_a_constant_500() -> None:
    response = response_to(SealError())
    assert response.status_code == 500
    assert json.loads(bytes(response.body))["error"]["code"] == "sealed_value_damaged"


def test_metrics_have_bounded_labels_and_no_content(api: Served) -> None:
    http = api.http()
    http.get(f"/{SECRET}")
    http.get(f"/v1/files/{SECRET}")
    http.request("BREW", "/v1/files")
    text = http.get("/metrics").text
    assert 'textmill_http_requests_total{method="GET",route="/v1/files/{file_id}",status="404"}' in text
    assert 'method="other"' in text
    assert 'route="unmatched"' in text
    assert SECRET not in text
    assert api.actor.tenant_id.hex not in text


def test_metrics_are_for_this_machine_only(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    from api.routes import metrics

    api = serve()
    monkeypatch.setattr(metrics, "_asks_here", lambda request: False)
    assert error_of(api.http().get("/metrics"))[:2] == (404, "not_found")
    assert serve(metrics_from_anywhere=True).http().get("/metrics").status_code == 200


def test_health_needs_no_key(api: Served) -> None:
    http = api.http(key="")
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ok"}


@pytest.mark.parametrize(("revision", "code"), [("0001", "older_database"), ("9999", "newer_home")])
def test_a_schema_that_changes_beneath_the_api_is_told_by_readyz_and_by_every_request(
    api: Served,
    as_superuser: AsSuperuser,  # noqa: F811
    revision: str,
    code: str,
) -> None:
    move_to(as_superuser, revision)
    for path in ("/readyz", "/v1/files"):
        answer = api.http().get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, code)
    assert "\ntextmill_schema_fits 0.0\n" in api.http().get("/metrics").text
    assert api.http().get("/healthz").status_code == 200
    move_to(as_superuser, head_revision())
    assert api.http().get("/readyz").status_code == 200
    assert "\ntextmill_schema_fits 1.0\n" in api.http().get("/metrics").text
