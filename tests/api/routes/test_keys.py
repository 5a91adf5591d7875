"""`/v1/keys` and `/v1/audit/events`."""

import time
from uuid import UUID

from db.audit.acts import record_act
from db.settings import Role
from tests.api.conftest import Served
from tests.api.lines import CLASSIFY, classify_file
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of
from tests.db.flow import Stores


def test_a_key_is_shown_once_and_listed_without_its_secret(api: Served) -> None:
    http = api.http()
    made = http.post("/v1/keys", json={"name": "reader", "scopes": ["read"], "expires_at": int(time.time()) + 60}).json()
    assert made["key"].startswith("tm_")
    assert api.http(made["key"]).get("/v1/models").status_code == 200
    listed = http.get("/v1/keys")
    assert made["key"] not in listed.text
    keys = {key["id"]: key for key in listed.json()["data"]}
    assert (keys[made["id"]]["name"], keys[made["id"]]["scopes"], keys[made["id"]]["revoked_at"]) == ("reader", ["read"], None)
    assert keys[made["id"]]["expires_at"] == made["expires_at"]
    http.delete(f"/v1/keys/{made['id']}").raise_for_status()
    keys = {key["id"]: key for key in http.get("/v1/keys").json()["data"]}
    assert isinstance(keys[made["id"]]["revoked_at"], int)


def test_a_bad_key_request_names_its_field(api: Served) -> None:
    bad: list[tuple[dict[str, object], str]] = [
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "scopes"),
        ({"name": "", "scopes": ["read"]}, "name"),
        ({"name": "x", "scopes": ["read"], "expires_at": 1}, "expires_at"),
        ({"name": "x", "scopes": ["read"], "expires_at": 10**12}, "expires_at"),
        ({"name": "x", "scopes": "read"}, "scopes"),
    ]
    for body, param in bad:
        status, _, named = error_of(api.http().post("/v1/keys", json=body))
        assert (status, named) == (400, param)


def test_a_key_that_is_not_there_is_not_found(api: Served) -> None:
    for key_id in ("key_" + "0" * 32, "nonsense"):
        assert error_of(api.http().delete(f"/v1/keys/{key_id}"))[0] == 404


def test_a_read_is_on_record_with_who_what_and_which_request(api: Served) -> None:
    file_id = api.upload(classify_file(5)).json()["id"]
    http = api.http()
    read = http.get(f"/v1/files/{file_id}/content")
    events = http.get("/v1/audit/events", params={"object": file_id, "action": "rows.read"}).json()["data"]
    assert [(event["first_idx"], event["end_idx"], event["outcome"], event["component"]) for event in events] == [(0, 5, "allowed", "api")]
    assert (events[0]["object_id"], events[0]["request_id"]) == (file_id, read.headers["x-request-id"])
    assert events[0]["key_id"].startswith("key_")
    assert len(events[0]["digest"]) == 64


def test_a_list_is_found_by_the_id_of_anything_that_it_showed(api: Served) -> None:
    http = api.http()
    shown = api.upload(classify_file(2)).json()["id"]
    http.get("/v1/files")
    later = api.upload(classify_file(2)).json()["id"]
    [event] = http.get("/v1/audit/events", params={"object": shown, "action": "file.list"}).json()["data"]
    assert (event["object_ids"], event["object_id"]) == ([shown.removeprefix("file-")], None)
    assert http.get("/v1/audit/events", params={"object": later, "action": "file.list"}).json()["data"] == []


def test_a_refusal_is_on_record_with_its_reason(api: Served) -> None:
    http, file_id = api.http(), api.upload(classify_file(2)).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": "/v1/classifications"}).json()["id"]
    asked = {"results.delete.output": f"/v1/files/file-o{batch.removeprefix('batch_')}", "file.delete": f"/v1/files/{file_id}"}
    for (action, path), code, about in zip(asked.items(), ("not_found", "file_in_use"), (batch, file_id), strict=True):
        refused = http.delete(path)
        assert error_of(refused)[1] == code
        [event] = http.get("/v1/audit/events", params={"object": about, "action": action}).json()["data"]
        assert (event["outcome"], event["code"], event["object_id"]) == ("denied", code, about)
        assert event["request_id"] == refused.headers["x-request-id"]


def test_who_made_a_key_is_on_record(api: Served) -> None:
    http = api.http()
    made = http.post("/v1/keys", json={"name": "reader", "scopes": ["read"]})
    [event] = http.get("/v1/audit/events", params={"object": made.json()["id"], "action": "key.create"}).json()["data"]
    assert (event["request_id"], event["principal_id"]) == (made.headers["x-request-id"], api.actor.principal_id.hex)


def test_a_page_is_on_record_before_its_rows_leave(api: Served) -> None:
    file_id = api.upload(b"".join(b'{"text": "%d %b"}\n' % (number, b"x" * 5000) for number in range(5000)), purpose="rows").json()["id"]
    http = api.http()
    with http.stream("GET", f"/v1/files/{file_id}/content") as response:
        got = next(response.iter_lines())
        assert got
        events = api.http().get("/v1/audit/events", params={"object": file_id, "action": "rows.read"}).json()["data"]
        assert events
        assert max(event["end_idx"] for event in events) < 5000  # and not yet for what has not been read


def test_events_are_paged(api: Served) -> None:
    http = api.http()
    for _ in range(5):
        http.get("/v1/files")
    query: dict[str, str | int] = {"limit": 2, "action": "file.list"}
    first = http.get("/v1/audit/events", params=query).json()
    assert (len(first["data"]), first["has_more"], first["last_id"]) == (2, True, first["data"][-1]["id"])
    second = http.get("/v1/audit/events", params={**query, "after": first["last_id"]}).json()
    third = http.get("/v1/audit/events", params={**query, "after": second["last_id"]}).json()
    ids = [event["id"] for page in (first, second, third) for event in page["data"]]
    assert len(set(ids)) == 5
    assert third["has_more"] is False
    assert error_of(http.get("/v1/audit/events", params={"after": "nonsense"})) == (400, "invalid_field", "after")
    assert error_of(http.get("/v1/audit/events", params={"after": "audit_" + "0" * 32}))[0] == 404


def test_every_id_that_an_event_shows_is_taken_whole_with_dashes_and_by_its_beginning(api: Served, mill: Mill) -> None:
    http = api.http()
    file_id = api.upload(classify_file(2)).json()["id"]
    http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY}).raise_for_status()
    http.put("/v1/label_sets/desk", json={"labels": ["a", "b"]}).raise_for_status()
    http.post("/v1/keys", json={"name": "reader", "scopes": ["read"]}).raise_for_status()
    mill.run_all()
    http.delete(f"/v1/files/{file_id}")
    events = http.get("/v1/audit/events", params={"limit": 1000}).json()["data"]
    shown = {str(event[name]) for event in events for name in ("object_id", "batch_id") if event[name]}
    assert {kind for event in events if (kind := event["object_kind"])} >= {"file", "job", "label_set", "api_key"}
    for id in shown:
        kind, digits = id[:-32], id[-32:]
        for named in (id, digits, kind + str(UUID(digits)), kind + digits[:8], digits[:8], str(UUID(digits))[:12]):
            found = http.get("/v1/audit/events", params={"object": named, "limit": 1000}).raise_for_status().json()["data"]
            assert found, named
            for event in found:
                about = [event["object_id"], event["batch_id"], *(event["object_ids"] or [])]
                assert any(each and each.endswith(digits) for each in about), named


def test_an_object_that_is_none_or_several_is_told(api: Served, stores: Stores) -> None:
    http, ids = api.http(), [UUID("abcd1" + "0" * 27), UUID("abcd2" + "0" * 27)]
    store = stores(Role.API)
    with store.transaction(tenant=api.actor.tenant_id) as conn:
        for id in (*ids, ids[0]):
            record_act(conn, store, api.actor, "test.act", object_kind="head", object_id=id)
    for bad in ("abc", "key_", "no such", "x" * 40, "a" * 33, "abcg"):
        assert error_of(http.get("/v1/audit/events", params={"object": bad})) == (400, "invalid_field", "object")
    assert error_of(http.get("/v1/audit/events", params={"object": "ffffffff"}))[:2] == (404, "not_found")
    several = http.get("/v1/audit/events", params={"object": "abcd"})
    assert error_of(several) == (400, "ambiguous_id", "object")
    assert all(id.hex in several.json()["error"]["message"] for id in ids)
    assert len(http.get("/v1/audit/events", params={"object": "abcd1"}).json()["data"]) == 2
    assert http.get("/v1/audit/events", params={"object": "f" * 32}).json()["data"] == []  # whole, and nothing is about it


def test_a_beginning_that_can_be_read_in_two_ways_names_what_it_finds_once(api: Served, stores: Stores) -> None:
    """An `e` of a file may be its id's first digit: what begins with it and four more also begins with the four."""
    http, id, store = api.http(), UUID("e" * 8 + "0" * 24), stores(Role.API)
    with store.transaction(tenant=api.actor.tenant_id) as conn:
        record_act(conn, store, api.actor, "test.act", object_kind="file", object_id=id)
    for text in ("file-eeee", "file-eeeee", "file-eeeeee"):
        assert len(http.get("/v1/audit/events", params={"object": text}).raise_for_status().json()["data"]) == 1, text


def test_a_key_that_may_only_audit_finds_objects_by_their_beginnings(api: Served) -> None:
    file_id = api.upload(classify_file(1)).json()["id"]
    auditor = api.http(api.http().post("/v1/keys", json={"name": "a", "scopes": ["audit"]}).json()["key"])
    assert auditor.get("/v1/audit/events", params={"object": file_id[:13]}).json()["data"]
