"""`/v1/models` and `/v1/heads`: what a request may name as its model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from db.connect import Store
from db.operators import fleet
from db.schema import jobs
from db.settings import Role
from tests.api.conftest import Served
from tests.api.lines import CLASSIFY
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of

Stores = Callable[[Role], Store]
EXAMPLES = b"text,label\n" + b"".join(b"text %d,%s\n" % (number, [b"a", b"b"][number % 2]) for number in range(8))


def test_the_registry_is_listed(api: Served) -> None:
    listed = api.http().get("/v1/models").json()
    assert listed["object"] == "list"
    models = {model["id"]: model for model in listed["data"]}
    assert models["minilm-l6-v2"]["textmill"]["tasks"] == ["classify", "embed"]
    assert all(isinstance(model["created"], int) and model["owned_by"] for model in models.values())
    assert api.http().get("/v1/models/minilm-l6-v2").json() == models["minilm-l6-v2"]


def test_clients_are_told_how_many_workers_have_a_model_and_not_which(api: Served, stores: Stores) -> None:
    worker = stores(Role.WORKER)
    for name, loaded in (("host:1", ["minilm-l6-v2"]), ("host:2", ["minilm-l6-v2", "gemma3-270m"]), ("host:3", None)):
        fleet.register(worker, name, device=name, threads=1, version="1")
        fleet.beat(worker, name, fleet.Beat("running", 0.0, 0, 0, 0, fleet.Readiness(["minilm-l6-v2"], loaded)))
    listed = api.http().get("/v1/models")
    counted = {model["id"]: model["textmill"]["loaded_by"] for model in listed.json()["data"]}
    assert (counted["minilm-l6-v2"], counted["gemma3-270m"]) == (2, 1)
    assert api.http().get("/v1/models/gemma3-270m").json()["textmill"]["loaded_by"] == 1
    assert "host" not in listed.text


def test_a_model_that_is_not_there_is_not_found(api: Served) -> None:
    for name in ("no-such-model", "head:none", "head:", "%2e%2e", "a'b"):
        assert error_of(api.http().get(f"/v1/models/{name}"))[:2] == (404, "model_not_found")


def test_an_odd_folder_of_the_operators_is_listed_as_damaged_and_harms_no_other(
    api: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was, one word for a number there made the list a 500 for everybody."""
    for name, config in {"odd": '{"model_type": "bert", "hidden_size": "wide"}', "good": '{"model_type": "bert"}'}.items():
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").write_text(config)
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", str(tmp_path / "models"))
    models = {model["id"]: model["textmill"] for model in api.http().get("/v1/models").raise_for_status().json()["data"]}
    assert models["local:odd"]["tasks"] == []
    assert models["local:odd"]["damaged"] == "config.json: hidden_size is no number that a model could have."
    assert models["local:good"]["tasks"] == ["classify", "embed"]
    assert not any("damaged" in model for name, model in models.items() if name != "local:odd")
    assert api.http().get("/v1/models/local:odd").json()["textmill"] == models["local:odd"]
    file_id = api.upload(EXAMPLES, "examples.csv", purpose="train").json()["id"]
    refused = api.http().post("/v1/heads", json={"name": "h", "training_file": file_id, "model": "local:odd"})
    assert error_of(refused) == (400, "model_broken", "model")
    assert "hidden_size" in refused.json()["error"]["message"]


def test_a_head_is_trained_by_a_batch(api: Served, stores: Stores) -> None:
    file_id = api.upload(EXAMPLES, "examples.csv", purpose="train").json()["id"]
    response = api.http().post("/v1/heads", json={"name": "my head", "training_file": file_id})
    batch = response.json()
    assert (batch["object"], batch["endpoint"], batch["status"]) == ("batch", "/v1/heads", "validating")
    assert (batch["input_file_id"], batch["textmill"]["task"]) == (file_id, "train")
    with stores(Role.API).transaction(tenant=api.actor.tenant_id) as connection:
        job = connection.execute(select(jobs)).one()
    assert job.head_id is not None
    assert job.model == "minilm-l6-v2"
    assert not any("my head" in str(value) for value in job)


def test_a_head_that_cannot_be_trained_names_the_field(api: Served) -> None:
    file_id = api.upload(EXAMPLES, "examples.csv", purpose="train").json()["id"]
    impossible: list[tuple[dict[str, object], str, str]] = [
        ({"name": ""}, "invalid_name", "name"),
        ({"name": "a/b"}, "invalid_name", "name"),
        ({"name": "head:a"}, "invalid_name", "name"),
        ({"name": "a\nb"}, "invalid_name", "name"),
        ({"name": "x" * 257}, "invalid_name", "name"),
        ({"model": "no-such-model"}, "unknown_model", "model"),
        ({"model": "gemma3-270m"}, "model_task_mismatch", "model"),
        ({"model": "head:other"}, "unknown_model", "model"),
    ]
    for changes, code, param in impossible:
        response = api.http().post("/v1/heads", json={"name": "h", "training_file": file_id, **changes})
        assert error_of(response) == (400, code, param)
        assert error_of(api.http().post("/v1/heads/check", json={"name": "h", **changes})) == (400, code, param)


def test_a_trained_head_is_a_model_that_labels(api: Served, mill: Mill) -> None:
    http = api.http()
    file_id = api.upload(EXAMPLES, "examples.csv", purpose="train").json()["id"]
    training = http.post("/v1/heads", json={"name": "my head", "training_file": file_id}).json()
    mill.run_all()
    assert http.get(f"/v1/batches/{training['id']}").json()["status"] == "completed"
    [head] = http.get("/v1/heads").json()["data"]
    assert (head["id"], head["name"], head["base"], head["labels"]) == ("head:my head", "my head", "fake-encoder", ["a", "b"])
    assert head["metrics"]
    assert http.get("/v1/models/head:my%20head").json()["owned_by"] == "tenant"
    assert "head:my head" in [model["id"] for model in http.get("/v1/models").json()["data"]]

    texts = api.upload(b"text\nfirst\nsecond\n", "texts.csv", purpose="rows").json()["id"]
    request = {"input_file_id": texts, "endpoint": CLASSIFY, "defaults": {"model": "head:my head"}}
    batch = http.post("/v1/batches", json=request).raise_for_status().json()
    assert "my head" not in json.dumps(batch)
    harmless = http.post("/v1/batches", json={**request, "endpoint": "/v1/moderations"})
    assert error_of(harmless) == (400, "no_moderation_model", "defaults.model"), "none of its labels is a category"
    mill.run_all()
    batch = http.get(f"/v1/batches/{batch['id']}").json()
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    answers = [json.loads(line) for line in http.get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()]
    assert [answer["response"]["body"]["label"] in {"a", "b"} for answer in answers] == [True, True]

    deleted = {"id": "head:my head", "object": "head", "deleted": True, "versions": 1, "kept": 0}
    assert http.delete("/v1/heads/my head").json() == deleted
    assert http.get("/v1/heads").json()["data"] == []
    assert error_of(http.post("/v1/batches", json=request)) == (400, "unknown_model", "defaults.model")


def test_heads_are_listed_and_a_missing_one_is_not_found(api: Served) -> None:
    http = api.http()
    assert http.get("/v1/heads").json() == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert error_of(http.delete("/v1/heads/none"))[0] == 404


def test_no_head_is_called_as_a_key_is(api: Served) -> None:
    file_id = api.upload(EXAMPLES, "examples.csv", purpose="train").json()["id"]
    for name in (api.key, f"of {api.key}", "%25252525252541"):
        response = api.http().post("/v1/heads", json={"name": name, "training_file": file_id, "model": "fake-encoder"})
        assert error_of(response) == (400, "invalid_name", "name")
