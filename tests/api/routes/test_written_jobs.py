"""Jobs whose model is `rules:NAME` or `template:NAME`."""

import csv
import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from db.catalogue.definitions import delete_definition, put_definition
from db.connect import Store
from db.jobs.versions import RULES, TEMPLATES, Kind
from db.settings import Role
from tests.api.conftest import Served
from tests.api.mill import Mill
from tests.api.routes.test_content_jobs import lines
from tests.api.routes.test_files import error_of

CLASSIFY, CHAT = "/v1/classifications", "/v1/chat/completions"
CSV = b"id,text,price,stock\r\n1,my refund,12.50,3\r\n2,,200,\r\n3,hello,n/a,0\r\n"
SOURCE = """
rules:
  - {name: refunds, when: {contains: refund}, label: billing}
  - {when: [{column: price, at_least: 100}, {column: stock, empty: true}], label: sold out}
  - {name: unknown, when: {column: price, regex: '^n/a$'}, text: "no price, {stock} there"}
"""
TEMPLATE = "text: [{text: 'Only {stock} left of {}!', when: {column: stock, below: 3}}, '{Fine|Good|Great}: {}.']"

Stores = Callable[[Role], Store]
Put = Callable[[Kind, str, str], None]


@pytest.fixture
def put(stores: Stores, api: Served) -> Put:
    return lambda kind, name, source: put_definition(stores(Role.API), api.actor, kind, name, source) and None


def ask(api: Served, data: bytes, model: str, endpoint: str = CLASSIFY, *, name: str = "t.csv", path: str = "", **fields: Any) -> Any:
    file_id = api.upload(data, name, purpose="batch" if b"custom_id" in data else "rows").json()["id"]
    defaults = {"model": model, **fields.pop("defaults", {})}
    body = {"input_file_id": file_id, "endpoint": endpoint, "defaults": defaults, **fields}
    if path:
        del body["input_file_id"]
    return api.http().post(f"/v1/batches{path}", json=body)


def job(api: Served, mill: Mill, *args: Any, **fields: Any) -> str:
    batch_id = str(ask(api, *args, **fields).raise_for_status().json()["id"])
    mill.run_all()
    return batch_id


def table(api: Served, batch_id: str, **parameters: Any) -> list[list[str]]:
    got = api.http().get(f"/v1/batches/{batch_id}/table", params={"format": "csv", **parameters}).raise_for_status()
    return list(csv.reader(io.StringIO(got.text, newline="")))


def test_rules_label_rows_by_their_columns_and_say_which_one_did(api: Served, mill: Mill, put: Put) -> None:
    put(RULES, "desk", SOURCE)
    batch_id = job(api, mill, CSV, "rules:desk")
    shown = table(api, batch_id, columns=["id", "label", "score", "rule", "error"])
    assert shown[1:] == [
        ["1", "billing", "1.0", "refunds", ""],
        ["2", "sold out", "1.0", "#2", ""],
        ["3", "no price, 0 there", "1.0", "unknown", ""],
    ]
    body = lines(api, batch_id)[0]["response"]["body"]
    assert (body["model"], body["label"], body["scores"], body["rule"]) == ("rules:desk", "billing", {"billing": 1.0}, "refunds")
    batch = api.http().get(f"/v1/batches/{batch_id}").json()
    assert (batch["status"], batch["model"], batch["request_counts"]["completed"]) == ("completed", None, 3)


def test_rules_and_templates_write_texts_in_the_shape_of_an_endpoint(api: Served, mill: Mill, put: Put) -> None:
    put(RULES, "desk", SOURCE + "default: {text: 'none for {}'}")
    put(TEMPLATES, "shop", TEMPLATE)
    data = b"id,text,price,stock\r\n1,chair,1,2\r\n2,table,1,9\r\n"
    first = job(api, mill, data, "template:shop", CHAT, defaults={"seed": 7})
    again = job(api, mill, data, "template:shop@1", CHAT, defaults={"seed": 7})
    by_rules = job(api, mill, data, "rules:desk", "/v1/completions")
    shown = table(api, first, columns=["text_2", "rule", "finish_reason", "output_tokens"])
    assert shown[1] == ["Only 2 left of chair!", "#1", "stop", "0"]
    assert shown[2][0] in {"Fine: table.", "Good: table.", "Great: table."}
    assert shown[2][1] == "#2"
    assert shown == table(api, again, columns=["text_2", "rule", "finish_reason", "output_tokens"])
    assert lines(api, first)[0]["response"]["body"]["choices"][0]["message"]["content"] == "Only 2 left of chair!"
    assert [row[1:] for row in table(api, by_rules, columns=["id", "text_2", "rule"])[1:]] == [
        ["none for chair", "default"],
        ["none for table", "default"],
    ]


def test_a_worker_without_torch_runs_them(api: Served, mill: Mill, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put(RULES, "desk", SOURCE)
    put(TEMPLATES, "shop", TEMPLATE)
    for heavy in ("torch", "transformers", "tokenizers"):
        monkeypatch.setitem(sys.modules, heavy, None)
    for model, endpoint in (("rules:desk", CLASSIFY), ("template:shop", "/v1/responses")):
        batch_id = job(api, mill, b"id,text,price,stock\n1,my refund,1,9\n", model, endpoint)
        assert api.http().get(f"/v1/batches/{batch_id}").json()["request_counts"]["completed"] == 1


def test_seeds_of_a_row_answers_and_tries_give_variety(api: Served, mill: Mill, put: Put) -> None:
    put(TEMPLATES, "shop", "text: '{a|b|c|d|e|f|g|h} {}'")
    batch_id = job(api, mill, b"id,text\n1,chair\n", "template:shop", CHAT, defaults={"n": 8})
    assert len({one["message"]["content"] for one in lines(api, batch_id)[0]["response"]["body"]["choices"]}) > 2
    checked = job(api, mill, b"id,text\n1,chair\n", "template:shop", CHAT, checks=[{"check": "regex", "pattern": "^h "}], tries=10)
    [row] = lines(api, checked) or lines(api, checked, "file-e")
    assert row["response"]["body"].get("tries", 10) > 1


def test_rows_may_name_rules_that_look_at_their_text_and_fail_where_these_look_at_columns(api: Served, mill: Mill, put: Put) -> None:
    put(RULES, "plain", "rules: [{when: {contains: a}, label: x}]")
    put(RULES, "desk", SOURCE)
    bodies = [{"model": "rules:plain", "input": "a"}, {"model": "rules:plain@1", "input": "b"}, {"model": "rules:desk", "input": "a"}]
    bodies += [
        {"model": "rules:plain@2", "input": "a"},
        {"model": "template:plain", "input": "a"},
        {"model": "rules:plain", "input": "a", "templates": ["{}"]},
    ]
    rows = [{"custom_id": str(at), "method": "POST", "url": CLASSIFY, "body": body} for at, body in enumerate(bodies)]
    data = "\n".join(map(json.dumps, rows)).encode()
    batch_id = job(api, mill, data, "fake-encoder", name="rows.jsonl", defaults={"labels": ["a", "b"]})
    assert [line["custom_id"] for line in lines(api, batch_id)] == ["0"]
    codes = [line["response"]["body"]["error"]["code"] for line in lines(api, batch_id, "file-e")]
    assert codes == ["no_rule", "columns_unread", "unknown_model", "model_task_mismatch", "invalid_field"]


@pytest.mark.parametrize("path", ["", "/check"])
@pytest.mark.parametrize(
    ("model", "endpoint", "defaults", "code"),
    [
        ("rules:none", CLASSIFY, {}, "unknown_model"),
        ("rules:desk@2", CLASSIFY, {}, "unknown_model"),
        ("template:shop", CLASSIFY, {}, "model_task_mismatch"),
        ("rules:desk", "/v1/embeddings", {}, "model_task_mismatch"),
        ("rules:desk", CLASSIFY, {"rotations": 2}, "invalid_field"),
        ("template:shop", CHAT, {"logprobs": True}, "unsupported_field"),
        ("template:shop", CHAT, {"guided_regex": "a"}, "unsupported_field"),
    ],
)
def test_what_no_row_could_be_answered_by_is_refused_with_the_job(
    api: Served, put: Put, model: str, endpoint: str, defaults: dict[str, object], code: str, path: str
) -> None:
    put(RULES, "desk", SOURCE)
    put(TEMPLATES, "shop", TEMPLATE)
    assert error_of(ask(api, CSV, model, endpoint, path=path, defaults=defaults))[1] == code


def test_a_column_that_the_file_lacks_is_told_before_there_is_a_job(api: Served, put: Put) -> None:
    put(RULES, "desk", SOURCE)
    refused = ask(api, b"id,text,Price\n1,a,2\n", "rules:desk")
    assert error_of(refused)[:2] == (400, "missing_column")
    assert "“price”, “stock”" in refused.text
    assert "“Price”" in refused.text


def test_a_job_goes_on_with_the_version_that_it_began_with(api: Served, mill: Mill, put: Put, stores: Stores) -> None:
    put(RULES, "plain", "rules: [{when: {contains: ''}, label: old}]")
    batch_id = str(ask(api, CSV, "rules:plain").json()["id"])
    put(RULES, "plain", "rules: [{when: {contains: ''}, label: new}]")
    delete_definition(stores(Role.API), api.actor, RULES, "plain")
    mill.run_all()
    assert {row[0] for row in table(api, batch_id, columns=["label"])[1:]} == {"old"}


def test_rules_choose_the_rows_that_a_template_writes_for(api: Served, mill: Mill, put: Put) -> None:
    put(RULES, "desk", SOURCE)
    put(TEMPLATES, "shop", "text: 'Sorry: {id}'")
    file_id = api.upload(CSV, "t.csv", purpose="rows").json()["id"]
    steps = [
        {"name": "sort", "endpoint": CLASSIFY, "defaults": {"model": "rules:desk"}},
        {"name": "write", "endpoint": CHAT, "defaults": {"model": "template:shop"}, "when": {"label": "billing"}},
    ]
    batch = api.http().post("/v1/batches", json={"input_file_id": file_id, "steps": steps}).raise_for_status().json()
    mill.run_all()
    assert [row[1:] for row in table(api, batch["id"], columns=["id", "text_2"])[1:]] == [["Sorry: 1"], [""], [""]]
