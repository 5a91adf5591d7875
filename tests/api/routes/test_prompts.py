"""`/v1/prompts`, and batches whose rows are what a prompt makes of their columns."""

import io
import json
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.api.conftest import Served
from tests.api.lines import CLASSIFY
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of
from workers.engines.fake import expected_text

CHAT, COMPLETE, EMBED = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
SHOES: Final = "name;Größe in cm;self;text\nRed shoe;40;mine;a\n;41;yours;b\n".encode()


def put(api: Served, source: str, name: str = "shop") -> dict[str, Any]:
    made: dict[str, Any] = api.http().put(f"/v1/prompts/{name}", json={"source": source}).raise_for_status().json()
    return made


def made(api: Served, content: bytes = SHOES, name: str = "shoes.csv", endpoint: str = COMPLETE, **fields: Any) -> Any:
    file_id = api.upload(content, name, purpose="rows").json()["id"]
    defaults = {"model": "fake-decoder", "max_tokens": 4} if endpoint in (CHAT, COMPLETE) else fields.pop("defaults", {})
    request = {"input_file_id": file_id, "endpoint": endpoint, "defaults": defaults, "prompt": "shop", **fields}
    return api.http().post("/v1/batches", json=request)


def texts(api: Served, mill: Mill, batch: Any) -> list[str]:
    """What was written, by row; of one that failed the code."""
    batch_id = batch.raise_for_status().json()["id"]
    mill.run_all()
    found: dict[int, str] = {}
    for which in ("file-o", "file-e"):
        content = api.http().get(f"/v1/files/{batch_id.replace('batch_', which)}/content")
        for line in content.text.splitlines() if content.status_code == 200 else ():
            told = json.loads(line)
            body = told["response"]["body"]
            choice = body["choices"][0] if "choices" in body else {}
            found[told["row"]] = choice.get("text") or choice.get("message", {}).get("content") or body["error"]["code"]
    return [found[row] for row in sorted(found)]


def test_a_prompt_is_stored_replaced_listed_shown_and_deleted(api: Served) -> None:
    http = api.http()
    first = put(api, "Write about {{ name }}.\n")
    assert (first["object"], first["name"], first["version"], first["source"]) == ("prompt", "shop", 1, "Write about {{ name }}.\n")
    assert put(api, "Write about {{ name }}.\n")["version"] == 1
    assert put(api, "system: Be brief.\nuser: '{{ name }}'")["version"] == 2
    [listed] = http.get("/v1/prompts").json()["data"]
    assert (listed["version"], listed["error"]) == (2, None)
    shown = http.get("/v1/prompts/shop@1").json()
    assert (shown["source"], [one["id"] for one in shown["versions"]]) == (first["source"], ["shop@2", "shop@1"])
    assert http.delete("/v1/prompts/shop").json() == {"id": "shop", "object": "prompt", "deleted": True, "versions": 2, "kept": 0}
    assert error_of(http.get("/v1/prompts/shop"))[0] == 404


@pytest.mark.parametrize(
    "source", ["", "{{ name", "{{ name.upper() }}", "{% for i in range(9) %}{% endfor %}", "user: [a]", "a\0", "\ud800"]
)
def test_what_is_no_prompt_is_refused_with_its_place(api: Served, source: str) -> None:
    told = api.http().put("/v1/prompts/shop", content=json.dumps({"source": source}), headers={"content-type": "application/json"})
    assert told.status_code == 400
    assert told.json()["error"]["code"] in ("invalid_definition", "invalid_json")


def test_each_row_is_asked_what_the_prompt_makes_of_its_columns(api: Served, mill: Mill) -> None:
    put(api, "{{ name or 'A shoe' }}, {{ row['Größe in cm'] }}/{{ Größe_in_cm }}, {{ self }}: {{ text }}")
    asked = ["Red shoe, 40/40, mine: a", "A shoe, 41/41, yours: b"]
    assert texts(api, mill, made(api)) == [expected_text(one, 4) for one in asked]


def test_columns_of_parquet_are_numbers_lists_and_dates(api: Served, mill: Mill) -> None:
    moments = {"day": pa.array([19_000], pa.date32()), "none": pa.array([None], pa.int64())}
    table = pa.table({"text": ["a"], "n": [2.0], "tags": [["x", "y"]], **moments})
    file = io.BytesIO()
    pq.write_table(table, file)
    put(api, "{{ n * 3 }} {{ tags|join('+') }} {{ day }} [{{ row.none }}]")
    assert texts(api, mill, made(api, file.getvalue(), "t.parquet")) == [expected_text("6 x+y 2022-01-08 []", 4)]


def test_lines_of_json_have_the_fields_that_they_have(api: Served, mill: Mill) -> None:
    rows = b'{"text":"a","name":"x","n":1}\n{"text":"b","n":[2,"c"],"more":null}\n{"text":"c","n":"d"}'
    put(api, "{{ text }} {{ name }} {{ n }}{{ more }}")
    assert texts(api, mill, made(api, rows, "t.jsonl")) == [expected_text(one, 4) for one in ("a x 1", 'b  [2, "c"]', "c  d")]


def test_a_row_that_cannot_be_filled_in_fails_by_its_code_and_its_neighbours_do_not(api: Served, mill: Mill) -> None:
    put(api, "{{ 8 // (Größe_in_cm|int - 41) }}")
    assert texts(api, mill, made(api)) == [expected_text("-8", 4), "prompt_failed"]
    put(api, "{% for a in text %}{% for b in text %}{% for c in text %}{% endfor %}{% endfor %}{% endfor %}{{ name }}")
    assert texts(api, mill, made(api, b"name,text\na," + b"x" * 500 + b"\nb,c\n")) == ["prompt_too_large", expected_text("b", 4)]


def test_messages_are_a_chat_and_other_endpoints_take_one_text(api: Served, mill: Mill) -> None:
    put(api, "system: Be brief.\nuser: 'Sell {{ name }}'")
    assert len(texts(api, mill, made(api, endpoint=CHAT))) == 2
    for endpoint in (COMPLETE, CLASSIFY, EMBED):
        told = made(api, endpoint=endpoint, defaults={"labels": ["a", "b"]} if endpoint == CLASSIFY else {})
        assert error_of(told) == (400, "invalid_prompt", "prompt")
    put(api, "Is this {{ name }}?")
    labelled = made(api, endpoint=CLASSIFY, defaults={"labels": ["a", "b"], "model": "fake-encoder"}).raise_for_status().json()
    mill.run_all()
    assert api.http().get(f"/v1/batches/{labelled['id']}").json()["request_counts"]["completed"] == 2


@pytest.mark.usefixtures("mill")
def test_a_column_that_is_not_there_is_refused_with_the_job(api: Served) -> None:
    put(api, "{{ nmae }} {{ row['Größe'] }} {{ name }}")
    told = made(api)
    assert error_of(told) == (400, "missing_column", "prompt")
    message = told.json()["error"]["message"]
    assert message.startswith("The prompt names “nmae”, “Größe”, and the file has “name”, “Größe in cm”, “self”, “text”")
    batch = api.upload(json.dumps({"custom_id": "a", "method": "POST", "url": COMPLETE, "body": {"prompt": "a"}}).encode()).json()["id"]
    request = {"input_file_id": batch, "endpoint": COMPLETE, "prompt": "shop"}
    assert error_of(api.http().post("/v1/batches", json=request)) == (400, "missing_column", "input_file_id")


@pytest.mark.parametrize("path", ["", "/check"])
def test_a_prompt_that_is_not_there_is_refused_before_the_file_is_sent(api: Served, path: str) -> None:
    request: dict[str, Any] = {"endpoint": COMPLETE, "prompt": "none"}
    if not path:
        request["input_file_id"] = api.upload(SHOES, "s.csv", purpose="rows").json()["id"]
    assert error_of(api.http().post(f"/v1/batches{path}", json=request)) == (400, "unknown_prompt", "prompt")


def test_a_job_goes_on_with_the_version_that_it_began_with(api: Served, mill: Mill) -> None:
    put(api, "old {{ name }}")
    first, pinned = made(api), made(api, prompt="shop@1")
    put(api, "new {{ name }}")
    second = made(api)
    assert api.http().delete("/v1/prompts/shop").json()["kept"] == 2
    told = [texts(api, mill, batch)[0] for batch in (first, pinned, second)]
    assert told == [expected_text(f"{which} Red shoe", 4) for which in ("old", "old", "new")]


def test_five_thousand_columns_and_a_cell_of_many_megabytes(api: Served, mill: Mill) -> None:
    names = ["text", *(f"column {at}" for at in range(1, 5_000))]
    put(api, "{{ column_4999 }}{{ text }}")
    wide = ",".join(names) + "\n" + ",".join(str(at) for at in range(5_000)) + "\n"
    assert texts(api, mill, made(api, wide.encode(), "wide.csv")) == [expected_text("49990", 4)]
    put(api, "{{ name }}{{ long|length }}")
    long = b'{"text":"a","name":"n","long":"' + b"x" * 7_900_000 + b'"}'
    assert texts(api, mill, made(api, long, "long.jsonl")) == [expected_text("n7900000", 4)]


def test_a_step_of_a_chain_is_asked_about_what_the_steps_before_said(api: Served, mill: Mill) -> None:
    put(api, "A {{ steps.sort.label }} {{ name }}")
    file_id = api.upload(b"name,text\nshoe,good\n", "s.csv", purpose="rows").json()["id"]
    steps = [
        {"name": "sort", "endpoint": CLASSIFY, "defaults": {"labels": ["fine", "poor"], "model": "fake-encoder"}},
        {"name": "write", "endpoint": COMPLETE, "defaults": {"model": "fake-decoder", "max_tokens": 4}, "prompt": "shop"},
    ]
    batch = api.http().post("/v1/batches", json={"input_file_id": file_id, "steps": steps})
    [written] = texts(api, mill, batch)
    assert written in [expected_text(f"A {label} shoe", 4) for label in ("fine", "poor")]
    put(api, "{{ steps.sort.label }}")
    assert error_of(made(api)) == (400, "missing_column", "prompt"), "a batch of one step has none before it"
