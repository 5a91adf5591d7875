"""T7, T20: quotes, NULs, escapes and control characters in every place a caller can write to. Nothing but a clear refusal comes of it."""

from tests.api.conftest import Served, api, mill, serve  # noqa: F401
from tests.api.lines import CLASSIFY, classify_file

HOSTILE = [
    "'",
    "' OR '1'='1",
    "'; DROP TABLE files; --",
    '"',
    "\\",
    "%",
    "_",
    "%00",
    "%0d%0aset-cookie:x",
    "%ff%fe",
    "%ed%a0%80",
    "%F0%9F%98%80",
    "..%2f..%2fetc%2fpasswd",
    "$(id)",
    "{{7*7}}",
    "x" * 5000,
    "0" * 32,
    "file-" + "F" * 32,
    "batch_" + "0" * 31 + "'",
    "-1",
    "1e9",
    "null",
]
PATHS = [
    "/v1/files/{}",
    "/v1/files/{}/content",
    "/v1/batches/{}",
    "/v1/models/{}",
    "/v1/label_sets/{}",
    "/v1/rules/{}",
    "/v1/templates/{}",
    "/v1/prompts/{}",
    "/v1/files?after={}",
    "/v1/files?limit={}",
    "/v1/files?order={}",
    "/v1/files?purpose={}",
    "/v1/batches?after={}",
    "/v1/batches?limit={}",
    "/v1/audit/events?after={}",
    "/v1/audit/events?action={}",
    "/v1/audit/events?object={}",
    "/v1/audit/events?limit={}",
    "/{}",
]


def test_hostile_addresses_are_refused_or_find_nothing(api: Served) -> None:  # noqa: F811
    http = api.http()
    http.put("/v1/label_sets/mine", json={"labels": ["a", "b"]}).raise_for_status()
    for text in HOSTILE:
        for path in PATHS:
            response = http.get(path.format(text))
            assert response.status_code < 500, (path, text)
            assert "set-cookie" not in response.headers
            if response.status_code == 200:
                assert response.json()["data"] is not None
        for method, path in (
            ("DELETE", "/v1/files/{}"),
            ("DELETE", "/v1/heads/{}"),
            ("DELETE", "/v1/keys/{}"),
            ("POST", "/v1/batches/{}/cancel"),
        ):
            assert http.request(method, path.format(text)).status_code in {400, 404, 405}, (method, path, text)
    assert http.get("/v1/label_sets/mine").status_code == 200


def test_hostile_values_are_kept_as_they_are_or_refused(api: Served) -> None:  # noqa: F811
    http = api.http()
    values = ["'; DROP TABLE jobs; --", "\x00", "a\r\nb", "\u202e", "😀", "\\", "=1+1", "<script>"]
    for value in values:
        uploaded = http.post("/v1/files", data={"purpose": "batch"}, files={"file": (f"{value}.jsonl", classify_file())})
        assert uploaded.status_code == 200
        file_id = uploaded.json()["id"]
        body = {"input_file_id": file_id, "endpoint": CLASSIFY, "metadata": {value: value}}
        made = http.post("/v1/batches", json=body, headers={"idempotency-key": value.encode("unicode_escape")})
        assert made.json()["metadata"] == {value: value}
        for field in ("purpose", "format", "text_column", "delimiter", "expires_after[seconds]"):
            response = http.post("/v1/files", data={"purpose": "rows", "format": "csv", field: value}, files={"file": ("a", b"x\ny\n")})
            assert response.status_code == 400
        for field in ("endpoint", "completion_window", "input_file_id"):
            assert http.post("/v1/batches", json={**body, field: value}).status_code in {400, 404}
        for defaults in ({"model": value}, {"label_set": value}, {"input": value, value: 1}):
            assert http.post("/v1/batches", json={**body, "defaults": defaults}).status_code == 400
        labels = http.put("/v1/label_sets/x", json={"labels": [value, "b"]})
        assert labels.status_code == (400 if value in {"\x00", "\u202e"} else 200)  # a label that nobody sees is none
