"""`/v1/label_sets`: named labels."""

import numpy as np
import pytest

from tests.api.conftest import Served
from tests.api.lines import CLASSIFY
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of
from workers.engines.fake import expected_logprobs
from workers.tasks.classify.prompt import question


def test_a_label_set_is_made_replaced_listed_and_deleted(api: Served) -> None:
    http = api.http()
    made = http.put("/v1/label_sets/news desk", json={"labels": ["sport", "politics"], "templates": ["news about {}"]}).json()
    assert (made["object"], made["name"], made["labels"], made["templates"]) == (
        "label_set",
        "news desk",
        ["sport", "politics"],
        ["news about {}"],
    )
    shown = http.get("/v1/label_sets/news%20desk").json()
    assert {name: value for name, value in shown.items() if name != "versions"} == made
    http.put("/v1/label_sets/news desk", json={"labels": ["a", "b", "c"]}).raise_for_status()
    [listed] = http.get("/v1/label_sets").json()["data"]
    assert (listed["labels"], listed["templates"]) == (["a", "b", "c"], None)
    deleted = {"id": "news desk", "object": "label_set", "deleted": True, "versions": 2, "kept": 0}
    assert http.delete("/v1/label_sets/news desk").json() == deleted
    assert error_of(http.get("/v1/label_sets/news desk"))[0] == 404
    assert error_of(http.delete("/v1/label_sets/news desk"))[0] == 404


def test_a_batch_takes_its_labels_from_a_set(api: Served, mill: Mill) -> None:
    http = api.http()
    http.put("/v1/label_sets/desk", json={"labels": ["sport", "politics"]}).raise_for_status()
    file_id = api.upload(b'{"text":"a"}', purpose="rows").json()["id"]
    request = {"input_file_id": file_id, "endpoint": CLASSIFY, "defaults": {"label_set": "desk"}}
    batch = http.post("/v1/batches", json=request).raise_for_status().json()
    mill.run_all()
    answer = http.get(f"/v1/files/{batch['id'].replace('batch_', 'file-o')}/content").json()
    assert set(answer["response"]["body"]["scores"]) == {"sport", "politics"}


def test_descriptions_of_a_jobs_defaults_are_of_labels_of_its_set(api: Served) -> None:
    api.http().put("/v1/label_sets/desk", json={"labels": ["refund", "praise"]}).raise_for_status()
    for described, status in (("refund", 200), ("other", 400)):
        defaults = {"label_set": "desk", "descriptions": {described: "x"}}
        told = api.http().post("/v1/batches/check", json={"endpoint": "/v1/classifications", "defaults": defaults})
        assert told.status_code == status
    assert told.json()["error"]["param"] == "defaults.descriptions"


def test_a_decoder_reads_the_descriptions_of_a_set(api: Served, mill: Mill) -> None:
    http, described = api.http(), {"sport": "matches and their players"}
    labels = ["sport", "politics", "art"]
    made = http.put("/v1/label_sets/desk", json={"labels": labels, "descriptions": described}).raise_for_status().json()
    assert made["descriptions"] == described
    assert http.get("/v1/label_sets/desk").json()["versions"][0]["descriptions"] == described
    file_id = api.upload(b'{"text":"a goal"}', purpose="rows").json()["id"]
    defaults = {"label_set": "desk", "model": "fake-decoder", "length_normalised": False}
    batch = http.post("/v1/batches", json={"input_file_id": file_id, "endpoint": CLASSIFY, "defaults": defaults}).raise_for_status().json()
    mill.run_all()
    answer = http.get(f"/v1/files/{batch['id'].replace('batch_', 'file-o')}/content").json()["response"]["body"]
    powers = np.exp(expected_logprobs("".join(question(labels, described, "a goal")), 3))
    assert answer["scores"] == pytest.approx(dict(zip(labels, powers / powers.sum(), strict=True)), abs=1e-6)
    assert (answer["model"], answer["label_set"]) == ("fake-decoder", "desk@1")


def test_a_bad_label_set_names_its_field(api: Served) -> None:
    bad: list[tuple[dict[str, object], str, str | None]] = [
        ({"labels": ["one"]}, "too_few_labels", "labels"),
        ({"labels": ["a", "a"]}, "duplicate_label", "labels"),
        ({"labels": ["a", ""]}, "empty_label", "labels"),
        ({"labels": "a,b"}, "invalid_field", "labels"),
        ({"labels": ["a", "b"], "templates": ["no place"]}, "invalid_field", "templates"),
        ({"labels": ["a", "b"], "descriptions": {"c": "none of them"}}, "invalid_field", "descriptions"),
        ({"labels": ["a", "b"], "descriptions": {"a": "x" * 1001}}, "invalid_field", "descriptions"),
        ({"labels": ["a", "b"], "more": 1}, "unknown_field", None),
        ({}, "missing_field", "labels"),
    ]
    for body, code, param in bad:
        assert error_of(api.http().put("/v1/label_sets/x", json=body)) == (400, code, param)


def test_a_bad_name_is_refused(api: Served) -> None:
    for name in ("%0a", "%20x", "x" * 257, "%00"):
        assert error_of(api.http().put(f"/v1/label_sets/{name}", json={"labels": ["a", "b"]}))[:2] == (400, "invalid_name")
