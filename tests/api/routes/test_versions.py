"""Heads and label sets over HTTP: what a batch began with, row by row, while their names go on."""

import json
from urllib.parse import quote

import httpx
import pytest

from tests.api.conftest import Served
from tests.api.lines import CLASSIFY
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of

OLD, NEW = ["north", "south"], ["east", "west"]
ROWS = 40


def store(http: httpx.Client, labels: list[str]) -> None:
    http.put("/v1/label_sets/desk", json={"labels": labels}).raise_for_status()


def train(api: Served, mill: Mill, labels: list[str], name: str = "desk") -> None:
    lines = (json.dumps({"text": f"example {at}", "label": labels[at % 2]}) + "\n" for at in range(8))
    file_id = api.upload("".join(lines).encode(), purpose="train").json()["id"]
    api.http().post("/v1/heads", json={"name": name, "training_file": file_id, "model": "fake-encoder"}).raise_for_status()
    mill.run_all()


def line(at: int, body: dict[str, object]) -> bytes:
    request = {"custom_id": f"row-{at}", "method": "POST", "url": CLASSIFY, "body": {"input": f"text {at}", **body}}
    return json.dumps(request).encode() + b"\n"


@pytest.mark.parametrize("escaped", [False, True])
def test_a_batch_whose_rows_name_sets_and_heads_is_answered_by_those_it_began_with(api: Served, mill: Mill, escaped: bool) -> None:
    """Paused halfway, all four names made anew, one of them deleted, resumed."""
    http = api.http()
    store(http, OLD)
    train(api, mill, OLD)
    bodies: list[dict[str, object]] = [{"label_set": "desk"}, {"model": "head:desk"}, {"label_set": "desk@1"}, {"model": "head:desk@1"}]
    content = b"".join(line(at, bodies[at % 4]) for at in range(ROWS))
    if escaped:  # the same JSON, written in another way
        content = content.replace(b"label_set", b"label\\u005fset").replace(b"head:", b"\\u0068ead:")
    file_id = api.upload(content).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY}).raise_for_status().json()["id"]
    mill.cut(shard_chars=1)
    assert mill.run_one_shard()
    http.post(f"/v1/batches/{batch}/pause").raise_for_status()
    store(http, NEW)
    train(api, mill, NEW)
    assert http.delete("/v1/label_sets/desk").json() == {"id": "desk", "object": "label_set", "deleted": True, "versions": 2, "kept": 1}
    http.post(f"/v1/batches/{batch}/resume").raise_for_status()
    mill.run_all()
    told = http.get(f"/v1/batches/{batch}").json()
    assert (told["status"], told["request_counts"]) == ("completed", {"total": ROWS, "completed": ROWS, "failed": 0})
    lines = http.get(f"/v1/files/{told['output_file_id']}/content").text.splitlines()
    assert [set(json.loads(one)["response"]["body"]["scores"]) for one in lines] == [set(OLD)] * ROWS


def test_a_head_and_a_set_are_shown_with_their_versions(api: Served, mill: Mill) -> None:
    http = api.http()
    for labels in (OLD, NEW):
        store(http, labels)
        train(api, mill, labels)
    head, label_set = http.get("/v1/heads/desk").json(), http.get("/v1/label_sets/desk").json()
    assert (head["id"], head["version"], head["labels"]) == ("head:desk", 2, sorted(NEW))
    assert [one["id"] for one in head["versions"]] == ["head:desk@2", "head:desk@1"]
    assert (label_set["id"], label_set["version"], label_set["labels"]) == ("desk", 2, NEW)
    assert [(one["id"], one["labels"]) for one in label_set["versions"]] == [("desk@2", NEW), ("desk@1", OLD)]
    assert http.get("/v1/heads/desk@1").json()["labels"] == sorted(OLD)
    assert http.get("/v1/models/head:desk@1").json()["textmill"]["version"] == 1
    assert http.get("/v1/label_sets/desk@1").json()["labels"] == OLD
    assert [one["version"] for one in http.get("/v1/heads").json()["data"]] == [2]
    assert http.delete("/v1/heads/desk@2").json() == {"id": "head:desk@2", "object": "head", "deleted": True, "versions": 1, "kept": 0}
    assert http.get("/v1/heads/desk").json()["version"] == 1
    for missing in ("/v1/heads/desk@2", "/v1/heads/other", "/v1/label_sets/desk@3"):
        assert error_of(http.get(missing))[0] == 404


def test_a_name_that_reads_like_a_version_is_refused(api: Served) -> None:
    assert error_of(api.http().put("/v1/label_sets/desk@2", json={"labels": OLD}))[:2] == (400, "invalid_name")
    file_id = api.upload(b'{"text":"a","label":"b"}', purpose="train").json()["id"]
    request = {"name": "desk@2", "training_file": file_id, "model": "fake-encoder"}
    assert error_of(api.http().post("/v1/heads", json=request))[:2] == (400, "invalid_name")


@pytest.mark.parametrize("name", ["atm_withdrawals_and_card_issues", "sport&token=x"])
def test_a_name_that_begins_as_a_key_does_is_made_shown_used_and_deleted(api: Served, mill: Mill, name: str) -> None:
    """As it was, such a head was trained, and every address of it was refused for ever."""
    http, quoted = api.http(), quote(name)
    http.put(f"/v1/label_sets/{quoted}", json={"labels": OLD}).raise_for_status()
    train(api, mill, OLD, name)
    assert http.get(f"/v1/heads/{quoted}").json()["name"] == name
    assert http.get(f"/v1/models/head:{quoted}").json()["id"] == f"head:{name}"
    assert http.get(f"/v1/label_sets/{quoted}@1").json()["labels"] == OLD
    assert http.delete(f"/v1/heads/{quoted}").json()["deleted"]
    assert http.delete(f"/v1/label_sets/{quoted}").json()["deleted"]


def test_what_more_names_than_are_noted_mean_is_pinned_all_the_same(api: Served, mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.streams.stored_names.MAX_NAMES", 1)
    http = api.http()
    store(http, OLD)
    train(api, mill, OLD)
    bodies: list[dict[str, object]] = [{"label_set": "desk"}, {"model": "head:desk"}, {"label_set": "desk@1"}, {"label_set": "none"}]
    file_id = api.upload(b"".join(line(at, body) for at, body in enumerate(bodies))).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY}).raise_for_status().json()["id"]
    store(http, NEW)
    train(api, mill, NEW)
    mill.run_all()
    told = http.get(f"/v1/batches/{batch}").json()
    assert told["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
    lines = http.get(f"/v1/files/{told['output_file_id']}/content").text.splitlines()
    assert [set(json.loads(one)["response"]["body"]["scores"]) for one in lines] == [set(OLD)] * 3
