"""T6: a valid key of one tenant against everything of another. A foreign id answers as a missing one: same status, same body."""

from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest

from db.connect import Store
from db.operators.api_keys import SCOPES, create_api_key
from db.operators.tenants import create_tenant
from db.settings import Role
from tests.api.conftest import Served, api, mill, serve  # noqa: F401
from tests.api.lines import CLASSIFY, classify_file, classify_line
from tests.api.mill import Mill

Stores = Callable[[Role], Store]
MISSING = "0" * 32
SECRET = "owner-only-text"


@pytest.fixture
def owned(api: Served, mill: Mill) -> dict[str, str]:  # noqa: F811
    """Ids of all kinds of things that belong to the first tenant."""
    http = api.http()
    file_id = api.upload(classify_line("a", SECRET) + classify_line("b", ""), f"{SECRET}.jsonl").json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "metadata": {"k": SECRET}}).json()["id"]
    mill.run_all()
    http.put(f"/v1/label_sets/{SECRET}", json={"labels": [SECRET, "b"]}).raise_for_status()
    http.put(f"/v1/rules/{SECRET}", json={"source": "rules: [{when: {contains: a}, label: b}]"}).raise_for_status()
    http.put(f"/v1/templates/{SECRET}", json={"source": "text: a"}).raise_for_status()
    key = http.post("/v1/keys", json={"name": SECRET, "scopes": ["read"]}).json()["id"]
    event = http.get("/v1/audit/events").json()["data"][0]["id"]
    http.put(f"/v1/prompts/{SECRET}", json={"source": SECRET}).raise_for_status()
    return {"file": file_id, "batch": batch, "label_set": SECRET, "prompt": SECRET, "key": key, "event": event}


@pytest.fixture
def stranger(api: Served, stores: Stores) -> httpx.Client:  # noqa: F811
    store = stores(Role.API)
    tenant_id = create_tenant(store, "stranger")
    _, key = create_api_key(store, tenant_id, uuid4(), "stranger", SCOPES)
    return api.http(key)


def attempts(ids: dict[str, str]) -> list[tuple[str, str, dict[str, object]]]:
    """Each route that takes an id, with it. Deletions last."""
    file_hex, batch_hex = ids["file"][-32:], ids["batch"][-32:]
    return [
        ("GET", f"/v1/files/file-{file_hex}", {}),
        ("GET", f"/v1/files/file-{file_hex}/content", {}),
        ("GET", f"/v1/files/file-o{batch_hex}", {}),
        ("GET", f"/v1/files/file-o{batch_hex}/content", {}),
        ("GET", f"/v1/files/file-e{batch_hex}", {}),
        ("GET", f"/v1/files/file-e{batch_hex}/content", {}),
        ("GET", "/v1/files", {"params": {"after": f"file-{file_hex}"}}),
        ("GET", f"/v1/batches/batch_{batch_hex}", {}),
        ("GET", f"/v1/batches/batch_{batch_hex}/shards", {}),
        ("POST", f"/v1/batches/batch_{batch_hex}/cancel", {}),
        ("GET", "/v1/batches", {"params": {"after": f"batch_{batch_hex}"}}),
        ("POST", "/v1/batches", {"json": {"input_file_id": f"file-{file_hex}", "endpoint": CLASSIFY}}),
        ("POST", "/v1/heads", {"json": {"name": "h", "training_file": f"file-{file_hex}"}}),
        ("GET", f"/v1/label_sets/{ids['label_set']}", {}),
        ("GET", f"/v1/rules/{ids['label_set']}", {}),
        ("GET", f"/v1/templates/{ids['label_set']}", {}),
        ("GET", f"/v1/prompts/{ids['prompt']}", {}),
        ("GET", "/v1/audit/events", {"params": {"after": ids["event"]}}),
        ("DELETE", f"/v1/files/file-{file_hex}", {}),
        ("DELETE", f"/v1/files/file-o{batch_hex}", {}),
        ("DELETE", f"/v1/files/file-e{batch_hex}", {}),
        ("DELETE", f"/v1/label_sets/{ids['label_set']}", {}),
        ("DELETE", f"/v1/rules/{ids['label_set']}", {}),
        ("DELETE", f"/v1/templates/{ids['label_set']}", {}),
        ("DELETE", f"/v1/prompts/{ids['prompt']}", {}),
        ("DELETE", f"/v1/keys/{ids['key']}", {}),
    ]


def test_a_foreign_id_answers_as_a_missing_one(api: Served, owned: dict[str, str], stranger: httpx.Client) -> None:  # noqa: F811
    nothing = {
        "file": f"file-{MISSING}",
        "batch": f"batch_{MISSING}",
        "label_set": "none",
        "prompt": "none",
        "key": f"key_{MISSING}",
        "event": f"audit_{MISSING}",
    }
    for (method, path, options), (_, missing_path, missing_options) in zip(attempts(owned), attempts(nothing), strict=True):
        foreign = stranger.request(method, path, **options)  # type: ignore[arg-type]
        missing = stranger.request(method, missing_path, **missing_options)  # type: ignore[arg-type]
        assert foreign.status_code == 404, (method, path)
        assert foreign.content == missing.content, (method, path)
        differing = {"x-request-id", "date"}
        assert {name: value for name, value in foreign.headers.items() if name not in differing} == {
            name: value for name, value in missing.headers.items() if name not in differing
        }
    http = api.http()
    assert http.get(f"/v1/files/{owned['file']}/content").status_code == 200
    assert http.get(f"/v1/files/{owned['batch'].replace('batch_', 'file-o')}/content").status_code == 200
    assert http.get(f"/v1/label_sets/{owned['label_set']}").status_code == 200


def test_lists_show_nothing_of_another_tenant(owned: dict[str, str], stranger: httpx.Client) -> None:
    for path in (
        "/v1/files",
        "/v1/batches",
        "/v1/label_sets",
        "/v1/prompts",
        "/v1/rules",
        "/v1/templates",
        "/v1/heads",
        "/v1/keys",
        "/v1/audit/events",
        "/v1/models",
    ):
        response = stranger.get(path)
        assert response.status_code == 200
        assert SECRET not in response.text
        for id in owned.values():
            assert id not in response.text


def test_a_label_set_of_another_tenant_cannot_be_named(owned: dict[str, str], stranger: httpx.Client) -> None:
    file_id = stranger.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", classify_file())}).json()["id"]
    body = {"input_file_id": file_id, "endpoint": CLASSIFY, "defaults": {"label_set": owned["label_set"]}}
    assert stranger.post("/v1/batches", json=body).json()["error"]["code"] == "unknown_label_set"


def test_the_same_name_is_another_thing_for_another_tenant(api: Served, owned: dict[str, str], stranger: httpx.Client) -> None:  # noqa: F811
    stranger.put(f"/v1/label_sets/{owned['label_set']}", json={"labels": ["mine", "yours"]}).raise_for_status()
    assert api.http().get(f"/v1/label_sets/{owned['label_set']}").json()["labels"] == [SECRET, "b"]
    stranger.delete(f"/v1/label_sets/{owned['label_set']}").raise_for_status()
    assert api.http().get(f"/v1/label_sets/{owned['label_set']}").status_code == 200


def test_a_denied_look_is_on_the_stranger_s_record(owned: dict[str, str], stranger: httpx.Client) -> None:
    refused = stranger.get(f"/v1/files/{owned['file']}")
    events = stranger.get("/v1/audit/events", params={"object": owned["file"]}).json()["data"]
    denied = [event for event in events if event["outcome"] == "denied"]
    assert [event["request_id"] for event in denied] == [refused.headers["x-request-id"]]
