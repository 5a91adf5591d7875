"""Who may do what: keys, scopes, and where a key may stand."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from api.app import RESOURCES
from db.connect import Store
from db.operators.api_keys import SCOPES, create_api_key, revoke_api_key
from db.settings import Role
from tests.api.conftest import Served
from tests.api.lines import CLASSIFY, classify_file
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of
from tests.waiting import wait_until

Stores = Callable[[Role], Store]
NONE = "0" * 32
DEFINITION = (("GET", "", "read"), ("GET", "/none", "read"), ("PUT", "/none", "manage"), ("DELETE", "/none", "manage"))

ROUTES: list[tuple[str, str, set[str]]] = [
    ("POST", "/v1/files", {"submit"}),
    ("GET", "/v1/files", {"submit", "read"}),
    ("GET", f"/v1/files/file-{NONE}", {"submit", "read"}),
    ("GET", f"/v1/files/file-{NONE}/content", {"read"}),
    ("GET", f"/v1/files/file-o{NONE}/content", {"read"}),
    ("GET", f"/v1/files/file-{NONE}/columns", {"read"}),
    ("GET", f"/v1/batches/batch_{NONE}/table", {"read"}),
    ("DELETE", f"/v1/files/file-{NONE}", {"manage"}),
    ("POST", "/v1/batches", {"submit"}),
    ("POST", "/v1/batches/check", {"submit"}),
    ("GET", "/v1/batches", {"submit", "read"}),
    ("GET", f"/v1/batches/batch_{NONE}", {"submit", "read"}),
    ("GET", f"/v1/batches/batch_{NONE}/shards", {"submit", "read"}),
    ("GET", f"/v1/batches/batch_{NONE}/rows/1", {"read"}),
    ("POST", f"/v1/batches/batch_{NONE}/rows", {"read"}),
    ("POST", f"/v1/batches/batch_{NONE}/cancel", {"manage"}),
    ("POST", f"/v1/batches/batch_{NONE}/pause", {"manage"}),
    ("POST", f"/v1/batches/batch_{NONE}/resume", {"manage"}),
    ("POST", f"/v1/batches/batch_{NONE}/retry", {"manage"}),
    ("POST", f"/v1/batches/batch_{NONE}/priority", {"manage"}),
    ("DELETE", f"/v1/batches/batch_{NONE}", {"manage"}),
    ("GET", "/v1/models", {"submit", "read"}),
    ("GET", "/v1/models/minilm-l6-v2", {"submit", "read"}),
    ("GET", "/v1/heads/none", {"read"}),
    ("GET", "/v1/label_sets", {"read"}),
    ("GET", "/v1/label_sets/none", {"read"}),
    ("PUT", "/v1/label_sets/none", {"manage"}),
    ("DELETE", "/v1/label_sets/none", {"manage"}),
    *((method, f"{path}{name}", {scope}) for path in ("/v1/prompts", "/v1/rules", "/v1/templates") for method, name, scope in DEFINITION),
    ("POST", "/v1/heads", {"submit"}),
    ("POST", "/v1/heads/check", {"submit"}),
    ("GET", "/v1/heads", {"read"}),
    ("DELETE", "/v1/heads/none", {"manage"}),
    ("GET", "/v1/audit/events", {"audit"}),
    ("GET", "/v1/keys", {"admin"}),
    ("POST", "/v1/keys", {"admin"}),
    ("DELETE", f"/v1/keys/key_{NONE}", {"admin"}),
]
OPEN = {"/healthz", "/readyz", "/metrics", "/docs"}


def test_every_route_is_in_the_table() -> None:
    known = [(method, path) for method, path, _ in ROUTES] + [("GET", path) for path in (*OPEN, "/docs/jobs")]
    routes = [(method, route) for resource in RESOURCES for route in resource.router.routes for method in route.methods]
    assert len(routes) > 30
    for method, route in routes:
        assert any(asked == method and route.path_regex.fullmatch(path) for asked, path in known), (method, route.path)


def test_without_a_good_key_every_route_answers_401(api: Served) -> None:
    http = api.http(key="")
    wrong = ["", "Bearer", "Basic dGVzdA==", "tm_" + "A" * 43, "Bearer tm_" + "A" * 43, "Bearer x", "Bearer é", f"bearer {api.key}x"]
    for authorization in wrong:
        headers = {"authorization": authorization.encode()} if authorization else {}
        for method, path, _ in ROUTES:
            response = http.request(method, path, headers=headers)
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"] == "Bearer"
            assert error_of(response)[1] in {"missing_api_key", "invalid_api_key"}


def test_a_scope_opens_its_routes_and_no_other(api: Served, stores: Stores) -> None:
    for scope in sorted(SCOPES):
        _, key = create_api_key(stores(Role.API), api.actor.tenant_id, uuid4(), scope, {scope})
        http = api.http(key)
        for method, path, scopes in ROUTES:
            response = http.request(method, path)
            if scope in scopes:
                assert response.status_code != 403, (scope, method, path)
            else:
                assert error_of(response)[:2] == (403, "missing_scope"), (scope, method, path)


def test_expired_and_revoked_keys_are_told_apart(api: Served, stores: Stores) -> None:
    store = stores(Role.API)
    _, expired = create_api_key(store, api.actor.tenant_id, uuid4(), "old", SCOPES, datetime.now(UTC) - timedelta(seconds=1))
    key_id, revoked = create_api_key(store, api.actor.tenant_id, uuid4(), "gone", SCOPES)
    revoke_api_key(store, api.actor, key_id)
    assert error_of(api.http(expired).get("/v1/models"))[:2] == (401, "expired_api_key")
    refused = api.http(revoked).get("/v1/models")
    assert error_of(refused)[:2] == (401, "revoked_api_key")
    [event] = api.http().get("/v1/audit/events", params={"object": f"key_{key_id.hex}", "action": "key.use"}).json()["data"]
    assert (event["code"], event["route"]) == ("revoked_api_key", "GET /v1/models")
    assert (event["outcome"], event["request_id"], event["origin"]) == ("denied", refused.headers["x-request-id"], "127.0.0.1")


def test_a_key_revoked_elsewhere_stops_within_the_cache_time(serve: Callable[..., Served], stores: Stores) -> None:
    api = serve(key_cache_seconds=0.3)
    key_id, key = create_api_key(stores(Role.API), api.actor.tenant_id, uuid4(), "short", SCOPES)
    http = api.http(key)
    assert http.get("/v1/models").status_code == 200
    revoke_api_key(stores(Role.API), api.actor, key_id)
    wait_until(lambda: http.get("/v1/models").status_code == 401, "the key is refused", 2)


def test_a_key_revoked_here_stops_at_once(api: Served) -> None:
    admin = api.http()
    made = admin.post("/v1/keys", json={"name": "short", "scopes": ["read"]}).json()
    http = api.http(made["key"])
    assert http.get("/v1/models").status_code == 200
    assert admin.delete(f"/v1/keys/{made['id']}").json()["deleted"]
    assert error_of(http.get("/v1/models"))[:2] == (401, "revoked_api_key")


def test_a_key_in_the_address_is_refused(api: Served) -> None:
    key = api.key
    for query in (f"api_key={key}", "key=x", "token=x", f"access_token={key}", f"after={key}", "a=1&Api-Key=x"):
        for http in (api.http(), api.http(key="")):
            assert error_of(http.get(f"/v1/files?{query}"))[:2] == (400, "key_in_url")
    assert error_of(api.http().get(f"/v1/files/{key}"))[:2] == (400, "key_in_url")


def test_a_missing_scope_is_on_record(api: Served, stores: Stores) -> None:
    key_id, key = create_api_key(stores(Role.API), api.actor.tenant_id, uuid4(), "reader", {"read"})
    http, secret = api.http(key), "what somebody wrote"
    denied = http.get("/v1/keys")
    events = api.http().get("/v1/audit/events", params={"action": "scope.missing"}).json()["data"]
    assert [(event["code"], event["key_id"], event["request_id"], event["origin"]) for event in events] == [
        ("missing_scope", f"key_{key_id.hex}", denied.headers["x-request-id"], "127.0.0.1")
    ]
    for method, path in (("POST", f"batches/batch_{NONE}/cancel"), ("DELETE", f"files/file-o{NONE}"), ("DELETE", f"heads/{secret}")):
        assert http.request(method, f"/v1/{path}").status_code == 403
    tried = api.http().get("/v1/audit/events", params={"action": "scope.missing"})
    assert secret not in tried.text
    assert [(event["route"], event["object_kind"], event["object_id"]) for event in tried.json()["data"]] == [
        ("DELETE /v1/heads/{name}", None, None),
        ("DELETE /v1/files/{file_id}", "job", f"batch_{NONE}"),
        ("POST /v1/batches/{batch_id}/cancel", "job", f"batch_{NONE}"),
        ("GET /v1/keys", None, None),
    ]


def test_what_people_wrote_is_shown_to_keys_that_may_read_and_to_no_others(api: Served, mill: Mill, stores: Stores) -> None:
    """Names of files and heads, metadata, labels: in lists, looks, and the answers to whatever else a key may do."""
    secret, http = "what somebody wrote", api.http()
    file_id = api.upload(classify_file(3), f"{secret}.jsonl").json()["id"]
    body = {"input_file_id": file_id, "endpoint": CLASSIFY, "defaults": {"model": "fake-encoder"}}
    batch_id = http.post("/v1/batches", json={**body, "metadata": {"k": secret}}).json()["id"]
    http.put(f"/v1/label_sets/{secret}", json={"labels": [secret, "b"]}).raise_for_status()
    examples = "".join(json.dumps({"text": f"example {at}", "label": "ab"[at % 2]}) + "\n" for at in range(8))
    trained = api.upload(examples.encode(), purpose="train").json()["id"]
    http.post("/v1/heads", json={"name": secret, "training_file": trained, "model": "fake-encoder"}).raise_for_status()
    mill.run_all()
    looks = [
        "/v1/files",
        f"/v1/files/{file_id}",
        f"/v1/files?prefix={file_id[-32:]}",
        "/v1/batches",
        f"/v1/batches/{batch_id}",
        "/v1/models",
    ]
    looks += ["/v1/heads", "/v1/label_sets", f"/v1/heads/{secret}", f"/v1/label_sets/{secret}", f"/v1/models/head:{secret}"]
    looks += [f"/v1/batches/{batch_id}/shards", f"/v1/files/file-o{batch_id[-32:]}"]
    answers = {}
    for scopes in ({"submit"}, {"manage"}, {"submit", "manage"}, {"read"}, {"submit", "read", "manage"}):
        _, key = create_api_key(stores(Role.API), api.actor.tenant_id, uuid4(), "a key", scopes)
        caller = api.http(key)
        told = [caller.get(path) for path in looks]
        told.append(caller.post("/v1/batches", json=body))
        told += [caller.post(f"/v1/batches/{batch_id}/{act}") for act in ("pause", "resume", "cancel", "retry")]
        told.append(caller.post(f"/v1/batches/{batch_id}/priority", json={"priority": 1}))
        own = caller.post("/v1/batches", json={**body, "metadata": {"mine": "my own"}})
        told.append(caller.post(f"/v1/batches/{own.json().get('id', batch_id)}/cancel"))
        answers[frozenset(scopes)] = sum(secret in answer.text for answer in told)
        if "submit" in scopes:
            assert own.json()["metadata"] == {"mine": "my own"}, "what it said itself it is told"
            assert caller.get(f"/v1/files/{file_id}").json()["filename"] == (f"{secret}.jsonl" if "read" in scopes else file_id)
    assert {scopes: bool(shown) for scopes, shown in answers.items()} == {scopes: "read" in scopes for scopes in answers}
    assert answers[frozenset({"read"})] >= 8, "the control: it is there to be seen"


def test_a_size_that_was_counted_for_a_reader_is_told_to_no_other(api: Served, mill: Mill, stores: Stores) -> None:
    http = api.http()
    file_id = api.upload(classify_file(3)).json()["id"]
    body = {"input_file_id": file_id, "endpoint": CLASSIFY, "defaults": {"model": "fake-encoder"}}
    output = f"/v1/files/file-o{http.post('/v1/batches', json=body).json()['id'][-32:]}"
    mill.run_all()
    assert http.get(output).json()["bytes"] > 0
    _, key = create_api_key(stores(Role.API), api.actor.tenant_id, uuid4(), "a key", {"submit"})
    assert api.http(key).get(output).json()["bytes"] == 0
