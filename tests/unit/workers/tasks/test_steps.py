"""Which rows a step is for, and what it reads of the steps before it."""

from typing import Any

import msgspec
import pytest

from db.queue.row import WorkRow
from workers.tasks.steps import Bounds, Step, When
from workers.tasks.task import SKIPPED

TOPIC = {"name": "topic", "task": "classify"}
WRITE = {"name": "write", "task": "generate"}
BODY = b'{"input":"the text of the file"}'


def label(name: str, score: float = 0.75) -> bytes:
    return msgspec.json.encode({"label": name, "scores": {name: score, "other": 1 - score}})


def text(said: str) -> bytes:
    return msgspec.json.encode({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]})


def taken(spec: dict[str, Any], *answers: bytes) -> WorkRow:
    row = WorkRow(0, endpoint="/v1/classifications", body=BODY, answers=answers)
    Step(spec).take(row)
    return row


def test_a_step_behind_a_classification_reads_the_text_of_the_file() -> None:
    row = taken({"sources": [TOPIC]}, label("a"))
    assert (row.body, row.endpoint, row.payload) == (BODY, "/v1/classifications", None)


def test_a_step_behind_one_that_writes_reads_what_was_written_last() -> None:
    row = taken({"sources": [WRITE, {**WRITE, "name": "again"}, TOPIC]}, text("first"), text("second “quoted”"), label("a"))
    assert msgspec.json.decode(row.body or b"") == {"input": "second “quoted”"}
    assert row.endpoint is None


def test_a_step_with_a_prompt_keeps_its_row_for_it() -> None:
    row = taken({"sources": [WRITE], "prompt": {"name": "p"}}, text("written"))
    assert (row.body, row.payload) == (BODY, None)


def test_a_row_that_a_step_is_not_for_is_skipped_and_is_no_failure() -> None:
    when = [{"step": "topic", "label": ["a", "b"]}]
    assert taken({"sources": [TOPIC], "when": when}, label("b")).payload is None
    skipped = taken({"sources": [TOPIC], "when": when}, label("c"))
    assert (skipped.payload, skipped.code) == (SKIPPED, None)


def test_what_was_skipped_where_the_text_comes_from_is_skipped_behind_it() -> None:
    assert taken({"sources": [TOPIC, WRITE]}, label("a"), SKIPPED).payload == SKIPPED
    assert taken({"sources": [TOPIC, WRITE], "prompt": {"name": "p"}}, label("a"), SKIPPED).payload is None


def test_a_condition_on_a_step_that_was_skipped_does_not_hold() -> None:
    when = [{"step": "mood", "score": {"below": 0.5}}]
    spec = {"sources": [TOPIC, {"name": "mood", "task": "classify"}], "when": when}
    assert taken(spec, label("a"), SKIPPED).payload == SKIPPED


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        (When(label="a"), True),
        (When(label=["b"]), False),
        (When(score=Bounds(at_least=0.75)), True),
        (When(score=Bounds(at_least=0.76)), False),
        (When(score=Bounds(below=0.75)), False),
        (When(label="a", score=Bounds(at_least=0.5, below=0.8)), True),
        (When(flagged=True), False),
    ],
)
def test_all_of_a_condition_must_hold(when: When, holds: bool) -> None:
    assert when.holds({"label": "a", "score": 0.75}) is holds


def test_a_condition_asks_for_what_its_step_answers() -> None:
    assert When(label="a").fault({"label": "text", "score": "number"}) is None
    assert When(flagged=True).fault({"label": "text"}) == "flagged"
    assert When(label="a", score=Bounds(below=1)).fault({"text": "text"}) == "label"
    assert When().fault({"label": "text"}) == "when"
