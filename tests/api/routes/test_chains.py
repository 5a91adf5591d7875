"""Chains over HTTP: made in one request, told of as one batch, and refused by the step at fault."""

import csv
import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.api.conftest import Served
from tests.api.lines import CHAT, CLASSIFY, EMBED, classify_line
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of
from workers.engines.fake import expected_label

TEXTS = [f"the {at}th text of many" for at in range(12)]
ROWS = b"".join(json.dumps({"id": f"row-{at}", "text": text}).encode() + b"\n" for at, text in enumerate(TEXTS))
LABELS = ["a", "b"]
TOPIC = {"name": "topic", "endpoint": CLASSIFY, "defaults": {"model": "fake-encoder", "labels": LABELS, "templates": ["{}"]}}
WRITE = {"name": "write", "endpoint": CHAT, "defaults": {"model": "fake-decoder"}, "when": {"label": "a"}}
MOOD = {**TOPIC, "name": "mood"}
CHOSEN = [at for at, text in enumerate(TEXTS) if expected_label(text, LABELS, ["{}"]) == "a"]


def uploaded(api: Served, data: bytes = ROWS) -> str:
    return str(api.upload(data, purpose="rows").raise_for_status().json()["id"])


def create(api: Served, *steps: dict[str, Any], file: str | None = None, **fields: Any) -> dict[str, Any]:
    body = {"input_file_id": file or uploaded(api), "steps": list(steps), **fields}
    made: dict[str, Any] = api.http().post("/v1/batches", json=body).raise_for_status().json()
    return made


def look(api: Served, batch: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = api.http().get(f"/v1/batches/{batch['id']}").raise_for_status().json()
    return told


def answers(api: Served, batch_id: str) -> dict[str, Any]:
    lines = api.http().get(f"/v1/files/file-o{batch_id.removeprefix('batch_')}/content").raise_for_status().text.splitlines()
    return {line["custom_id"]: line["response"]["body"] for line in map(json.loads, lines)}


def test_a_chain_is_one_batch_that_tells_of_its_steps(api: Served, mill: Mill) -> None:
    batch = create(api, TOPIC, WRITE, MOOD, metadata={"k": "v"})
    assert [(step["name"], step["status"]) for step in batch["textmill"]["steps"]] == [
        ("topic", "validating"),
        ("write", "validating"),
        ("mood", "validating"),
    ]
    mill.run_all()
    told = look(api, batch)
    skipped = len(TEXTS) - len(CHOSEN)
    assert 0 < skipped < len(TEXTS)
    assert (told["status"], told["endpoint"], told["metadata"]) == ("completed", CLASSIFY, {"k": "v"})
    assert told["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
    steps = told["textmill"]["steps"]
    assert [(step["name"], step["status"], step["skipped"], step["model"]) for step in steps] == [
        ("topic", "completed", 0, "fake-encoder"),
        ("write", "completed", skipped, "fake-decoder"),
        ("mood", "completed", skipped, "fake-encoder"),
    ]
    assert steps[-1]["id"] == told["id"]
    written, moods = answers(api, steps[1]["id"]), answers(api, told["id"])
    assert [at for at in range(12) if written[f"row-{at}"] != {"skipped": True}] == CHOSEN
    for at in CHOSEN:
        said = written[f"row-{at}"]["choices"][0]["message"]["content"]
        assert moods[f"row-{at}"]["label"] == expected_label(said, LABELS, ["{}"])
    assert [each["id"] for each in api.http().get("/v1/batches").json()["data"]] == [told["id"]]


def test_a_chain_is_in_progress_from_its_first_step_to_the_end_of_its_last(api: Served, mill: Mill) -> None:
    batch = create(api, TOPIC, MOOD)
    mill.settle()
    assert look(api, batch)["status"] == "in_progress"
    assert mill.run_one_shard()
    mill.settle()
    told = look(api, batch)
    assert (told["status"], [step["status"] for step in told["textmill"]["steps"]]) == ("in_progress", ["completed", "in_progress"])
    mill.run_all()
    assert look(api, batch)["status"] == "completed"


def test_the_output_of_a_job_is_the_input_of_another(api: Served, mill: Mill) -> None:
    file = uploaded(api)
    first = api.http().post("/v1/batches", json={"input_file_id": file, "endpoint": CHAT, "defaults": {"model": "fake-decoder"}})
    first_id = first.raise_for_status().json()["id"]
    output = f"file-o{first_id.removeprefix('batch_')}"
    body = {"input_file_id": output, "endpoint": CLASSIFY, "defaults": TOPIC["defaults"]}
    second = api.http().post("/v1/batches", json=body).raise_for_status().json()
    mill.run_all()
    assert look(api, second)["status"] == "completed"
    written, read = answers(api, first_id), answers(api, second["id"])
    assert {id: told["label"] for id, told in read.items()} == {
        id: expected_label(told["choices"][0]["message"]["content"], LABELS, ["{}"]) for id, told in written.items()
    }
    for name in (output.replace("file-o", "file-e"), f"file-o{'0' * 32}"):
        assert error_of(api.http().post("/v1/batches", json={**body, "input_file_id": name}))[:2] == (404, "not_found")


def test_a_condition_may_ask_about_the_output_that_is_read(api: Served, mill: Mill) -> None:
    body = {"input_file_id": uploaded(api), "endpoint": CLASSIFY, "defaults": TOPIC["defaults"]}
    first = api.http().post("/v1/batches", json=body).raise_for_status().json()
    again = {**body, "input_file_id": f"file-o{first['id'].removeprefix('batch_')}", "when": {"label": "a", "step": "input"}}
    second = api.http().post("/v1/batches", json=again).raise_for_status().json()
    mill.run_all()
    assert [at for at in range(12) if answers(api, second["id"])[f"row-{at}"] != {"skipped": True}] == CHOSEN


VECTOR = {"name": "vector", "endpoint": EMBED, "defaults": {"model": "fake-encoder"}}
IMPOSSIBLE: list[tuple[list[dict[str, Any]], str, str]] = [
    ([TOPIC], "invalid_steps", "steps"),
    ([{**TOPIC, "name": f"n{at}"} for at in range(9)], "invalid_steps", "steps"),
    ([TOPIC, TOPIC], "invalid_steps", "steps[1].name"),
    ([TOPIC, {**MOOD, "name": "two words"}], "invalid_steps", "steps[1].name"),
    ([TOPIC, {**MOOD, "name": "input"}], "invalid_steps", "steps[1].name"),
    ([TOPIC, {**MOOD, "endpoint": "/v1/heads"}], "invalid_endpoint", "steps[1].endpoint"),
    ([TOPIC, {**MOOD, "endpoint": None}], "missing_field", "steps[1].endpoint"),
    ([TOPIC, {**MOOD, "defaults": {"labels": ["one"]}}], "too_few_labels", "steps[1].defaults.labels"),
    ([{**TOPIC, "defaults": {"model": "nothing"}}, MOOD], "unknown_model", "steps[0].defaults.model"),
    ([TOPIC, {**MOOD, "when": {"step": "later", "label": "a"}}], "invalid_field", "steps[1].when"),
    ([TOPIC, {**MOOD, "when": {"step": "mood", "label": "a"}}], "invalid_field", "steps[1].when"),
    ([TOPIC, {**MOOD, "when": {"flagged": True}}], "invalid_field", "steps[1].when"),
    ([TOPIC, {**MOOD, "when": {}}], "invalid_field", "steps[1].when"),
    ([VECTOR, {**MOOD, "when": {"label": "a"}}], "invalid_field", "steps[1].when"),
]


def test_what_no_chain_can_do_is_refused_with_its_step_with_the_job_and_before(api: Served, mill: Mill) -> None:
    file = uploaded(api)
    for steps, code, param in IMPOSSIBLE:
        made = api.http().post("/v1/batches", json={"input_file_id": file, "steps": steps})
        assert error_of(made) == (400, code, param), steps
        assert error_of(api.http().post("/v1/batches/check", json={"steps": steps})) == (400, code, param), steps
    first = {**TOPIC, "when": {"label": "a"}}
    assert error_of(api.http().post("/v1/batches", json={"input_file_id": file, "steps": [first, MOOD]})) == (
        400,
        "invalid_field",
        "steps[0].when",
    )
    assert api.http().get("/v1/batches").json()["data"] == []


@pytest.mark.parametrize(("field", "value"), [("defaults", {"labels": LABELS}), ("endpoint", CHAT), ("when", {"label": "a"})])
def test_what_is_said_of_each_step_is_not_said_of_the_whole(api: Served, mill: Mill, field: str, value: object) -> None:
    body = {"input_file_id": uploaded(api), "steps": [TOPIC, MOOD], field: value}
    assert error_of(api.http().post("/v1/batches", json=body))[0::2] == (400, field)


def test_a_condition_without_anything_to_ask_about_is_refused(api: Served, mill: Mill) -> None:
    body = {"input_file_id": uploaded(api), "endpoint": CLASSIFY, "defaults": TOPIC["defaults"], "when": {"label": "a"}}
    assert error_of(api.http().post("/v1/batches", json=body)) == (400, "invalid_field", "when")


def test_a_chain_that_is_asked_for_twice_by_one_key_is_made_once(api: Served, mill: Mill) -> None:
    body = {"input_file_id": uploaded(api), "steps": [TOPIC, WRITE]}
    headers = {"idempotency-key": "once"}
    first, second = (api.http().post("/v1/batches", json=body, headers=headers).raise_for_status().json()["id"] for _ in range(2))
    assert first == second
    assert len(api.http().get("/v1/batches").json()["data"]) == 1


def test_the_table_of_a_chain_has_the_columns_of_all_steps(api: Served, mill: Mill) -> None:
    data = b"".join(b"%d,%b\r\n" % (at, text.encode()) for at, text in enumerate([*TEXTS[:6], ""]))
    file = api.upload(b"id,text\r\n" + data, "t.csv", purpose="rows").raise_for_status().json()["id"]
    batch = create(api, TOPIC, WRITE, MOOD, file=file)
    mill.run_all()
    told = api.http().get(f"/v1/batches/{batch['id']}/table", params={"format": "csv"}).raise_for_status().text
    header, *rows = csv.reader(io.StringIO(told, newline=""))
    own = ["topic_label", "topic_score", "topic_truncated", "topic_chunks", "text_2", "finish_reason", "input_tokens", "output_tokens"]
    assert header == ["id", "text", *own, "mood_label", "mood_score", "mood_truncated", "mood_chunks", "error", "message"]
    for at, row in enumerate(rows[:6]):
        cells = dict(zip(header, row, strict=True))
        assert (cells["topic_label"], cells["topic_truncated"]) == ("a" if at in CHOSEN else "b", "false")
        if at in CHOSEN:
            assert cells["mood_label"] == expected_label(cells["text_2"], LABELS, ["{}"])
        else:
            assert [cells[name] for name in ("text_2", "mood_label", "mood_chunks", "mood_truncated", "error")] == [""] * 5
    failed = dict(zip(header, rows[6], strict=True))
    assert (failed["error"], failed["topic_label"], failed["topic_chunks"]) == ("empty_input", "", "")
    lines = api.http().get(f"/v1/batches/{batch['id']}/table", params={"columns": ["id", "mood_label"]}).raise_for_status().text
    assert [set(json.loads(line)) - {"mood_label"} for line in lines.splitlines()] == [{"id"}] * 7
    parquet = api.http().get(f"/v1/batches/{batch['id']}/table", params={"format": "parquet"}).raise_for_status().content
    table = pq.read_table(io.BytesIO(parquet))
    assert table.num_rows == 7
    assert {"topic_scores", "mood_scores"} <= set(table.column_names)


def test_the_story_of_a_row_tells_what_each_step_made_of_it(api: Served, mill: Mill) -> None:
    batch = create(api, TOPIC, WRITE, MOOD, file=uploaded(api, ROWS + b'{"id": "bad", "text": ""}\n'))
    mill.run_all()
    at = CHOSEN[0]
    told = api.http().get(f"/v1/batches/{batch['id']}/rows/{at + 1}").raise_for_status().json()
    assert (told["row"], told["line"], told["custom_id"]) == (at + 1, at + 1, f"row-{at}")
    assert [(step["name"], step["status"], step["claims"]) for step in told["steps"]] == [
        ("topic", "completed", 1),
        ("write", "completed", 1),
        ("mood", "completed", 1),
    ]
    topic, write, mood = told["steps"]
    assert topic["answer"]["label"] == "a"
    assert mood["answer"]["label"] == expected_label(write["answer"]["text"], LABELS, ["{}"])
    assert (topic["model"], topic["worker"]) == ("fake-encoder@1", "tests:1")
    skipped = next(each for each in range(12) if each not in CHOSEN)
    named = api.http().post(f"/v1/batches/{batch['id']}/rows", json={"custom_id": f"row-{skipped}"}).raise_for_status().json()
    assert (named["row"], [step["status"] for step in named["steps"]]) == (skipped + 1, ["completed", "skipped", "skipped"])
    failed = api.http().get(f"/v1/batches/{batch['id']}/rows/13").raise_for_status().json()
    assert [step["code"] for step in failed["steps"]] == ["empty_input", "step_failed", "step_failed"]
    for number in ("0", "14", "x", "9" * 40):
        assert error_of(api.http().get(f"/v1/batches/{batch['id']}/rows/{number}"))[:2] == (404, "not_found")
    assert error_of(api.http().post(f"/v1/batches/{batch['id']}/rows", json={"custom_id": "nobody"}))[:2] == (404, "not_found")


LINES = b"".join(classify_line(f"row-{at}", text, labels=LABELS, templates=["{}"], model="fake-encoder") for at, text in enumerate(TEXTS))


def test_lines_for_the_first_steps_endpoint_are_read_by_the_others_for_their_text(api: Served, mill: Mill) -> None:
    file = api.upload(LINES).raise_for_status().json()["id"]
    batch = create(api, {**TOPIC, "defaults": {}}, VECTOR, {**WRITE, "when": {"step": "topic", "label": "a"}}, MOOD, file=file)
    mill.run_all()
    told = look(api, batch)
    assert told["request_counts"] == {"total": 12, "completed": 12, "failed": 0}, told
    topic, _, written, moods = (answers(api, step["id"]) for step in told["textmill"]["steps"])
    assert [at for at in range(12) if topic[f"row-{at}"]["label"] == "a"] == CHOSEN
    for at in CHOSEN:
        said = written[f"row-{at}"]["choices"][0]["message"]["content"]
        assert moods[f"row-{at}"]["label"] == expected_label(said, LABELS, ["{}"])


def test_an_output_of_lines_for_one_endpoint_is_the_input_of_a_job_at_another(api: Served, mill: Mill) -> None:
    file = api.upload(LINES).raise_for_status().json()["id"]
    first = api.http().post("/v1/batches", json={"input_file_id": file, "endpoint": CLASSIFY}).raise_for_status().json()
    body = {"input_file_id": f"file-o{first['id'].removeprefix('batch_')}", "endpoint": CHAT, "when": {"label": "a"}, "defaults": {}}
    second = api.http().post("/v1/batches", json=body).raise_for_status().json()
    mill.run_all()
    assert look(api, second)["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
    assert [at for at in range(12) if answers(api, second["id"])[f"row-{at}"] != {"skipped": True}] == CHOSEN
