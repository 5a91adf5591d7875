"""One altered value, wherever it lies: its own row says so, its neighbours come, and that it did not open is on record.

The attacker writes the database and holds no key. Each of these was an error 500 of the whole list, or of the whole output.
"""

import json
from collections.abc import Callable

import pytest

from api.local.doctor.work import values
from db.connect import Store
from db.operators import health
from db.settings import Role
from tests.api.conftest import Served
from tests.api.lines import CLASSIFY, classify_file
from tests.api.mill import Mill
from tests.attacks.scene import CODE, METADATA, Scene, hex_of, told
from tests.db.conftest import AsSuperuser
from workers.dispatch import metrics
from workers.dispatch.reconciler import Reconciler
from workers.settings import DispatcherSettings

Stores = Callable[[Role], Store]


def test_a_file_name_and_metadata_that_do_not_open_hide_nothing_beside_them(scene: Scene) -> None:
    (file, other), (batch, neighbour) = scene.files, scene.batches
    scene.damage("files", "name_sealed", f"file_id = '{hex_of(file)}'")
    scene.damage("job_specs", "metadata_sealed", f"job_id = '{hex_of(batch)}'")
    for path in ("/v1/files", f"/v1/files?prefix={hex_of(file)}", "/v1/files?purpose=batch"):
        names = {one["id"]: one["filename"] for one in scene.listed(path)}
        assert names[file] == CODE, path
        assert names.get(other) in {None, "b.jsonl"}
    shown = scene.http.get(f"/v1/files/{file}").json()
    assert (shown["filename"], shown["textmill"]["error"]["code"], shown["textmill"]["rows"]) == (CODE, CODE, 3)
    jobs = {one["id"]: one for one in scene.listed("/v1/batches")}
    assert (jobs[batch]["metadata"], told(jobs[batch]), jobs[batch]["status"]) == (None, True, "completed")
    assert (jobs[neighbour]["metadata"], told(jobs[neighbour])) == (METADATA, False)
    scene.forget()
    looked = [scene.http.get(f"/v1/batches/{batch}").json()["textmill"]["error"]["code"] for _ in range(3)]
    assert looked == [CODE] * 3
    assert [one["custom_id"] for one in scene.lines(f"file-o{hex_of(batch)}")] == ["row-0", "row-1", "row-2"]
    on_record = [one[:2] for one in scene.on_record()]
    assert set(on_record) == {("file", file), ("job", batch)}
    assert on_record.count(("job", batch)) == 2, "of the list and of the first look; who watches it makes no event a second"


def test_an_answer_or_an_id_that_does_not_open_costs_an_output_that_row_alone(scene: Scene) -> None:
    file, batch = scene.files[0], scene.batches[0]
    scene.damage("results", "payload_sealed", f"job_id = '{hex_of(batch)}' AND idx = 1")
    scene.damage("rows", "custom_id_sealed", f"file_id = '{hex_of(file)}' AND idx = 2")
    whole, answer, id_ = scene.lines(f"file-o{hex_of(batch)}")
    assert (whole["custom_id"], whole["error"], told(whole)) == ("row-0", None, False)
    assert (answer["custom_id"], answer["response"]["status_code"], answer["response"]["body"]["error"]["code"]) == ("row-1", 500, CODE)  # type: ignore[index]
    assert (id_["custom_id"], id_["error"]["code"], id_["row"]) == (None, CODE, 3)  # type: ignore[index]
    assert id_["response"]["body"]["object"] == "classification", "its answer is there, and whose it is says the row's number"  # type: ignore[index]
    assert set(scene.on_record()) == {("job", batch, 1, 2, 1), ("file", file, 2, 3, 1)}


def test_a_body_that_does_not_open_costs_an_input_file_that_row_alone(scene: Scene) -> None:
    file = scene.files[0]
    scene.damage("rows", "body_sealed", f"file_id = '{hex_of(file)}' AND idx = 0")
    scene.damage("rows", "custom_id_sealed", f"file_id = '{hex_of(file)}' AND idx = 2")
    body, whole, id_ = scene.lines(file)
    assert (body["line"], body["error"]["code"], body["body"]) == (1, CODE, None)  # type: ignore[index]
    assert (whole["custom_id"], told(whole)) == ("row-1", False)
    assert (id_["error"]["code"], id_["body"]["input"]) == (CODE, "text number 2")  # type: ignore[index]
    assert scene.on_record() == [("file", file, 0, 3, 2)]


def test_a_failure_whose_id_does_not_open_stays_a_failure_beside_others(api: Served, mill: Mill, as_superuser: AsSuperuser) -> None:
    http = api.http()
    file = api.upload(classify_file(2).replace(b'"text number 0"', b'""').replace(b'"text number 1"', b'""')).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file, "endpoint": CLASSIFY, "defaults": {"model": "fake-encoder"}}).json()["id"]
    mill.run_all()
    scene = Scene(api, mill, http, [file], [batch], as_superuser)
    scene.damage("rows", "custom_id_sealed", f"file_id = '{hex_of(file)}' AND idx = 0")
    damaged, whole = scene.lines(f"file-e{hex_of(batch)}")
    assert (damaged["custom_id"], told(damaged)) == (None, True)
    assert (whole["custom_id"], whole["response"]["body"]["error"]["code"]) == ("row-1", "empty_input")  # type: ignore[index]


def test_a_value_that_was_taken_is_damage_and_not_a_fault_of_the_row_or_the_model(scene: Scene) -> None:
    (file, _), (batch, _) = scene.files, scene.batches
    rows, results = f"file_id = '{hex_of(file)}' AND idx", f"job_id = '{hex_of(batch)}' AND idx"
    scene.as_superuser(f"UPDATE results SET payload_sealed = NULL WHERE {results} = 0")
    scene.as_superuser(f"UPDATE rows SET custom_id_sealed = NULL WHERE {rows} = 1")
    scene.as_superuser(f"UPDATE rows SET custom_id_sealed = NULL, custom_id_hmac = NULL WHERE {rows} = 2")
    answer, id_, whole_id = scene.lines(f"file-o{hex_of(batch)}")
    assert (answer["custom_id"], answer["response"]["body"]["error"]["code"]) == ("row-0", CODE)  # type: ignore[index]
    assert [(one["custom_id"], one["error"]["code"]) for one in (id_, whole_id)] == [(None, CODE)] * 2  # type: ignore[index]
    assert set(scene.on_record()) == {("job", batch, 0, 1, 1), ("file", file, 1, 3, 2)}
    assert [told(one) for one in scene.lines(file)] == [False, True, True]


def test_an_answer_that_is_said_to_have_failed_is_damage(scene: Scene) -> None:
    (batch, _), results = scene.batches, f"job_id = '{hex_of(scene.batches[0])}' AND idx"
    scene.as_superuser(f"UPDATE results SET outcome = 2, code = 'empty_input' WHERE {results} = 0")
    scene.as_superuser(f"UPDATE results SET outcome = 2, payload_sealed = NULL WHERE {results} = 1")
    scene.as_superuser(f"UPDATE results SET outcome = 2, code = 'engine', payload_sealed = NULL WHERE {results} = 2")
    scene.as_superuser(f"UPDATE jobs SET failed_count = 3 WHERE job_id = '{hex_of(batch)}'")
    failed = scene.lines(f"file-e{hex_of(batch)}")
    assert [one["response"]["body"]["error"]["code"] for one in failed] == [CODE] * 3  # type: ignore[index]
    assert scene.on_record() == [("job", batch, 0, 3, 3)]


def test_a_row_that_was_taken_hides_no_answer_behind_it(scene: Scene) -> None:
    """Also where a whole page of rows is gone: a reading would end there, as if it were complete."""
    (file, _), (batch, _) = scene.files, scene.batches
    scene.as_superuser(f"DELETE FROM rows WHERE file_id = '{hex_of(file)}' AND idx < 2")
    lines = scene.lines(f"file-o{hex_of(batch)}")
    assert [(one["custom_id"], one["line"], one["row"], told(one)) for one in lines] == [
        (None, None, 1, True),
        (None, None, 2, True),
        ("row-2", 3, 3, False),
    ]
    assert scene.on_record() == [("file", file, 0, 2, 2)]


def test_label_sets_heads_and_keys_are_listed_beside_one_that_does_not_open(scene: Scene) -> None:
    http = scene.http
    for name in ("desk", "shop"):
        http.put(f"/v1/label_sets/{name}", json={"labels": ["a", "b"]}).raise_for_status()
        examples = "".join(json.dumps({"text": f"example {at}", "label": "ab"[at % 2]}) + "\n" for at in range(8))
        trained = scene.api.upload(examples.encode(), purpose="train").json()["id"]
        http.post("/v1/heads", json={"name": name, "training_file": trained, "model": "fake-encoder"}).raise_for_status()
        scene.mill.run_all()
        http.post("/v1/keys", json={"name": name, "scopes": ["read"]}).raise_for_status()
    for table, column in (("label_sets", "body_sealed"), ("models", "card_sealed"), ("api_keys", "name_sealed")):
        scene.damage(table, column, f"created_at = (SELECT max(created_at) FROM {table})")
    for path in ("/v1/label_sets", "/v1/heads", "/v1/keys"):
        damaged, whole, *_ = scene.listed(path)
        assert (damaged["name"], damaged["error"]["code"]) == (None, CODE), path  # type: ignore[index]
        assert (whole["name"], whole["error"]) == ("desk", None), path
    heads = [one for one in scene.listed("/v1/models") if one["owned_by"] == "tenant"]
    assert [told(one) for one in heads] == [True, False]
    for path in ("/v1/label_sets/shop", "/v1/heads/shop"):
        found = http.get(path).json()
        assert (found["name"], found["error"]["code"], [told(one) for one in found["versions"]]) == ("shop", CODE, [True]), path
    assert {kind for kind, *_ in scene.on_record()} == {"label_set", "head", "api_key"}
    # Whoever names one of them is told, and not answered by something else; the name can be given anew.
    body = {"input_file_id": scene.files[0], "endpoint": CLASSIFY}
    for defaults in ({"label_set": "shop"}, {"model": "head:shop"}):
        refused = http.post("/v1/batches", json={**body, "defaults": defaults})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, CODE)
    assert http.put("/v1/label_sets/shop", json={"labels": ["a", "b"]}).json()["version"] == 2


@pytest.mark.parametrize("gone", [False, True])
def test_a_key_that_was_altered_or_taken_costs_what_it_opens_and_no_more(scene: Scene, gone: bool) -> None:
    (file, other), (batch, _) = scene.files, scene.batches
    for owner in (file, batch):
        if gone:
            scene.as_superuser(f"DELETE FROM data_keys WHERE owner_id = '{hex_of(owner)}'")
        else:
            scene.damage("data_keys", "wrapped", f"owner_id = '{hex_of(owner)}'")
    scene.forget()
    assert {one["id"]: one["filename"] for one in scene.listed("/v1/files?purpose=batch")} == {file: CODE, other: "b.jsonl"}
    assert [told(one) for one in scene.listed("/v1/batches")] == [False, True]
    assert [told(one) for one in scene.lines(file)] == [True] * 3
    assert [told(one) for one in scene.lines(f"file-o{hex_of(batch)}")] == [True] * 3
    assert [told(one) for one in scene.lines(other)] == [False] * 3


def test_what_does_not_open_for_a_worker_fails_by_its_code_and_costs_the_shard_nothing(scene: Scene) -> None:
    http, file = scene.http, scene.files[0]
    for name in ("desk", "shop"):
        http.put(f"/v1/label_sets/{name}", json={"labels": ["a", "b"]}).raise_for_status()
    requests = [{"label_set": "desk"}, {"label_set": "shop"}, {"labels": ["a", "b"]}]
    content = "".join(
        json.dumps({"custom_id": f"row-{at}", "method": "POST", "url": CLASSIFY, "body": {"input": f"text {at}", **body}}) + "\n"
        for at, body in enumerate([*requests, {"labels": ["a", "b"]}, {"labels": ["a", "b"]}])
    )
    file = scene.api.upload(content.encode()).json()["id"]
    batch = http.post("/v1/batches", json={"input_file_id": file, "endpoint": CLASSIFY, "defaults": {"model": "fake-encoder"}}).json()["id"]
    scene.damage("rows", "body_sealed", f"file_id = '{hex_of(file)}' AND idx = 3")
    scene.as_superuser(f"UPDATE rows SET body_sealed = NULL WHERE file_id = '{hex_of(file)}' AND idx = 4")
    scene.damage("label_sets", "body_sealed", "created_at = (SELECT max(created_at) FROM label_sets)")
    scene.mill.run_all()
    assert scene.as_superuser(f"SELECT error_attempts, crash_attempts FROM shards WHERE job_id = '{hex_of(batch)}'") == [(0, 0)]
    assert [one["custom_id"] for one in scene.lines(f"file-o{hex_of(batch)}")] == ["row-0", "row-2"]
    failed = scene.lines(f"file-e{hex_of(batch)}")
    assert [(one["custom_id"], one["response"]["body"]["error"]["code"]) for one in failed] == [
        ("row-1", CODE),
        ("row-3", CODE),
        ("row-4", CODE),
    ]  # type: ignore[index]
    assert {(kind, first, end) for kind, _, first, end, _ in scene.on_record()} == {("label_set", None, None), ("file", 3, 5)}


def test_doctor_and_a_metric_tell_of_what_did_not_open(scene: Scene, stores: Stores) -> None:
    dispatcher = stores(Role.DISPATCHER)
    assert health.damaged_objects(dispatcher) == []
    assert values([]).ok
    batch = scene.batches[0]
    scene.damage("results", "payload_sealed", f"job_id = '{hex_of(batch)}' AND idx = 1")
    scene.lines(f"file-o{hex_of(batch)}")
    damaged = health.damaged_objects(dispatcher)
    finding = values(damaged)
    assert not finding.ok
    assert batch in finding.found
    Reconciler(dispatcher, DispatcherSettings()).measure()
    assert metrics.damaged_objects._value.get() == 1
