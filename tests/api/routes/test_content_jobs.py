"""Jobs that check what they write, and mask what they read."""

import io
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from pyarrow import parquet

from db.catalogue.definitions import put_definition
from db.connect import Store
from db.jobs.versions import TEMPLATES
from db.operators.api_keys import create_api_key
from db.settings import Role
from tests.api.conftest import Served
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of
from workers.engines.contract.decoding import DecoderRow, Generation
from workers.engines.fake import FakeSlots, expected_text

CHAT = "/v1/chat/completions"


def job(api: Served, mill: Mill, rows: bytes, **fields: Any) -> str:
    """The id of one that has ended."""
    file_id = api.upload(rows, purpose="rows").json()["id"]
    defaults = {"model": "fake-decoder", "max_tokens": 4, **fields.pop("defaults", {})}
    made = api.http().post("/v1/batches", json={"input_file_id": file_id, "endpoint": CHAT, "defaults": defaults, **fields})
    batch_id = str(made.raise_for_status().json()["id"])
    mill.run_all()
    return batch_id


def lines(api: Served, batch_id: str, which: str = "file-o", **parameters: Any) -> list[dict[str, Any]]:
    got = api.http().get(f"/v1/files/{batch_id.replace('batch_', which)}/content", params=parameters).raise_for_status()
    return [json.loads(line) for line in got.text.splitlines()]


def test_a_text_that_passes_is_an_answer_and_one_that_does_not_a_failure_that_names_the_check(api: Served, mill: Mill) -> None:
    word = expected_text("good", 1)
    checks = [{"check": "length", "max": 4}, {"check": "required", "words": [word]}]
    batch_id = job(api, mill, b'{"text":"good"}\n{"text":"bad"}', checks=checks, tries=2, defaults={"temperature": 0.5, "seed": 3})
    [answer] = lines(api, batch_id)
    assert (answer["row"], answer["response"]["body"]["tries"]) == (1, 1)
    [failure] = lines(api, batch_id, "file-e")
    error = failure["response"]["body"]["error"]
    assert (failure["row"], failure["response"]["status_code"], error["code"], error["param"]) == (2, 422, "check_failed", "required")
    assert error["message"].startswith("No answer of 2 tries passed the check `required` (`checks[1]`)")
    assert word not in error["message"]
    usage = api.http().get(f"/v1/batches/{batch_id}").json()["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (len("good") + 2 * len("bad"), 3 * 4)


@pytest.mark.parametrize("path", ["", "/check"])
def test_checks_that_no_text_can_pass_are_refused_before_there_is_a_job(api: Served, path: str) -> None:
    request: dict[str, Any] = {"endpoint": CHAT, "checks": [{"check": "length", "min": 9, "max": 8}]}
    if not path:
        request["input_file_id"] = api.upload(b'{"text":"a"}', purpose="rows").json()["id"]
    assert error_of(api.http().post(f"/v1/batches{path}", json=request))[:2] == (400, "invalid_check")
    request["checks"], request["tries"] = [{"check": "length", "max": 8}], 11
    assert error_of(api.http().post(f"/v1/batches{path}", json=request))[:2] == (400, "invalid_field")


VALUES = ["anna@example.com", "+49 30 1234567", "DE89 3704 0044 0532 0130 00"]
TOLD = json.dumps({"text": f"{VALUES[0]} called {VALUES[1]}", "iban": VALUES[2]}).encode() + b"\n" + b'{"text": "nothing to hide"}\n'


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the engine is asked. It says it back."""
    asked: list[str] = []

    def answer(_slots: FakeSlots, text: str, _row: DecoderRow) -> Generation:
        asked.append(text)
        return Generation(f"so {text}", [1, 2], "stop")

    monkeypatch.setattr(FakeSlots, "_answer", answer)
    return asked


def test_no_model_and_no_reader_sees_a_value_of_a_job_that_masks(api: Served, mill: Mill, engine: list[str]) -> None:
    batch_id = job(api, mill, TOLD, redact={})
    [answer, _] = lines(api, batch_id)
    said = answer["response"]["body"]["choices"][0]["message"]["content"]
    table = api.http().get(f"/v1/batches/{batch_id}/table", params={"input": False}).text
    assert len(engine) == 2
    for seen in (*engine, said, table):
        assert not [value for value in VALUES if value in seen]
    assert said.count("[EMAIL:") == said.count("[PHONE:") == 1


def test_values_are_put_back_for_a_key_that_may(api: Served, mill: Mill, engine: list[str]) -> None:
    batch_id = job(api, mill, TOLD, redact={})
    [answer, plain] = lines(api, batch_id, unmask=True)
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == f"so {VALUES[0]} called {VALUES[1]}"
    assert "input" not in answer
    assert plain == lines(api, batch_id)[1]
    table = api.http().get(f"/v1/batches/{batch_id}/table", params={"format": "csv", "unmask": True, "columns": ["text_2"]}).text
    assert table.splitlines()[1] == f"so {VALUES[0]} called {VALUES[1]}"


def test_without_the_scope_nothing_is_put_back_and_the_try_is_on_record(
    api: Served, mill: Mill, engine: list[str], stores: Callable[[Role], Store]
) -> None:
    batch_id = job(api, mill, TOLD, redact={})
    _, key = create_api_key(stores(Role.API), api.actor.tenant_id, uuid4(), "reader", {"read"})
    for path in (f"/v1/files/{batch_id.replace('batch_', 'file-o')}/content", f"/v1/batches/{batch_id}/table"):
        assert error_of(api.http(key).get(path, params={"unmask": True}))[:2] == (403, "missing_scope")
        assert api.http(key).get(path).status_code == 200
    events = api.http().get("/v1/audit/events", params={"action": "scope.missing"}).json()["data"]
    assert len(events) == 2


def test_a_reading_with_values_is_on_record_as_such(api: Served, mill: Mill, engine: list[str]) -> None:
    batch_id = job(api, mill, TOLD, redact={"kinds": ["email"]})
    lines(api, batch_id)
    before = api.http().get("/v1/audit/events", params={"action": "results.unmask"}).json()["data"]
    lines(api, batch_id, unmask=True)
    after = api.http().get("/v1/audit/events", params={"action": "results.unmask"}).json()["data"]
    assert (len(before), len(after)) == (0, 1)


def test_of_a_job_that_masks_nothing_nothing_is_put_back(api: Served, mill: Mill) -> None:
    batch_id = job(api, mill, TOLD)
    response = api.http().get(f"/v1/batches/{batch_id}/table", params={"unmask": True})
    assert error_of(response)[:2] == (400, "not_masked")


@pytest.mark.parametrize("redact", [{"kinds": ["canary"]}, {"kinds": []}, {"canary": 1}, "all", True])
def test_kinds_that_are_none_are_refused(api: Served, redact: Any) -> None:
    response = api.http().post("/v1/batches/check", json={"endpoint": CHAT, "redact": redact})
    assert error_of(response)[0] == 400
    assert "canary" not in response.text


def test_in_a_chain_a_value_has_one_mask_and_comes_back_from_the_last_step(api: Served, mill: Mill, engine: list[str]) -> None:
    file_id = api.upload(TOLD, purpose="rows").json()["id"]
    steps = [{"name": name, "endpoint": CHAT, "defaults": {"model": "fake-decoder"}} for name in ("first", "second")]
    made = api.http().post("/v1/batches", json={"input_file_id": file_id, "steps": steps, "redact": {}}).raise_for_status().json()
    mill.run_all()
    assert not [value for asked in engine for value in VALUES if value in asked]
    assert len({asked.partition("[EMAIL:")[2][:12] for asked in engine if "[EMAIL:" in asked}) == 1
    [answer, _] = lines(api, made["id"], unmask=True)
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == f"so so {VALUES[0]} called {VALUES[1]}"


def parquet_of(rows: list[dict[str, str | None]]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_cells_that_a_job_writes_with_are_masked_and_come_back(api: Served, mill: Mill, stores: Callable[[Role], Store], form: str) -> None:
    row: dict[str, str | None] = {"text": "hello", "model": VALUES[0], "type": VALUES[2], "nothing": None}
    data = {"csv": f"text,model,type,nothing\nhello,{VALUES[0]},{VALUES[2]},\n".encode(), "jsonl": json.dumps(row).encode()}
    source = "text: 'Dear {model}, pay to {type}: {}'"
    put_definition(stores(Role.API), api.actor, TEMPLATES, "letter", source)
    file_id = api.upload(data.get(form) or parquet_of([row]), f"t.{form}", purpose="rows").json()["id"]
    request = {"input_file_id": file_id, "endpoint": CHAT, "defaults": {"model": "template:letter"}, "redact": {}}
    batch_id = api.http().post("/v1/batches", json=request).raise_for_status().json()["id"]
    mill.run_all()
    said = [
        line["response"]["body"]["choices"][0]["message"]["content"]
        for unmask in (False, True)
        for line in lines(api, batch_id, unmask=unmask)
    ]
    assert not [value for value in VALUES if value in said[0]]
    assert said[1] == f"Dear {VALUES[0]}, pay to {VALUES[2]}: hello"
