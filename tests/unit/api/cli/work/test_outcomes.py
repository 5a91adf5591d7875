"""Lines of output and error files, as rows."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.cli.terminal.exits import CommandError
from api.cli.work.outcomes import expected_rows, parse_outcome, read_outcomes, task_name, task_of
from api.tables.outcome import Outcome
from api.wire import Batch, Extras, RowCounts
from workers.tasks import TASKS

ANSWER = (
    b'{"id":"batch_req_1","custom_id":"a","line":3,"row":2,"error":null,"response":{"status_code":200,"request_id":"r",'
    b'"body":{"id":"cls_1","object":"classification","label":"tech","scores":{"tech":0.9,"sports":0.1},"truncated":%s}}}'
)


def test_a_classification_has_its_label_score_and_scores() -> None:
    scores = {"tech": 0.9, "sports": 0.1}
    line = ANSWER % b"false"
    found = Outcome(2, 3, "a", {"label": "tech", "score": 0.9, "scores": scores}, size=len(line))
    assert parse_outcome(line, TASKS["classify"]) == found


def test_a_text_that_was_cut_says_so() -> None:
    assert parse_outcome(ANSWER % b"true", TASKS["classify"]).values["truncated"] is True


def test_a_row_that_failed_has_its_code() -> None:
    line = (
        b'{"custom_id":null,"line":4,"row":4,"error":null,"response":{"status_code":400,"request_id":"r",'
        b'"body":{"error":{"message":"The text is empty.","type":"invalid_request_error","param":null,"code":"empty_input"}}}}'
    )
    assert parse_outcome(line, TASKS["classify"]) == Outcome(4, 4, None, code="empty_input", message="The text is empty.", size=len(line))


def test_a_row_that_never_ran_has_its_code() -> None:
    line = b'{"custom_id":"b","line":5,"row":5,"response":null,"error":{"code":"batch_expired","message":"Too late."}}'
    assert parse_outcome(line, TASKS["generate"]) == Outcome(5, 5, "b", code="batch_expired", message="Too late.", size=len(line))


@pytest.mark.parametrize(
    "choice", [b'{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}', b'{"text":"hi","finish_reason":"stop"}']
)
def test_both_kinds_of_completion_are_texts(choice: bytes) -> None:
    line = (
        b'{"custom_id":"c","line":1,"error":null,"response":{"status_code":200,"request_id":"r","body":{"choices":[%s],'
        b'"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}}}'
    )
    values = parse_outcome(line % choice, TASKS["generate"]).values
    assert values == {"text": "hi", "finish_reason": "stop", "input_tokens": 7, "output_tokens": 2}


class TwoFiles:
    """Stands in for the client: one file of answers, one of failures, each in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def lines(self, file_id: str, *, after: str | None = None, inputs: bool = False, unmask: bool = False) -> Iterator[bytes]:
        self.asked.append(file_id)
        good = file_id.startswith("file-o")
        first = 1 if after is None else int(after.removeprefix("batch_req_ab"), 16) + 2
        for row in range(first, 100):
            if (row % 3 != 0) == good:
                body = b'{"status_code":200,"body":{"label":"x","scores":{"x":1.0}}}' if good else b"null"
                error = b"null" if good else b'{"code":"e"}'
                yield b'{"custom_id":null,"line":%d,"row":%d,"response":%s,"error":%s}' % (row + 1, row, body, error)


def batch(status: str, **changes: Any) -> Batch:
    values: dict[str, Any] = {"output_file_id": "file-oab", "error_file_id": "file-eab", "counts": RowCounts(99, 66, 33), **changes}
    return Batch("batch_ab", "/v1/classifications", status, "file-1", 0, **values)


def test_answers_and_failures_come_back_in_the_order_of_the_input() -> None:
    outcomes = list(read_outcomes(TwoFiles(), batch("completed")))  # type: ignore[arg-type]
    assert [outcome.row for outcome in outcomes] == list(range(1, 100))
    assert [outcome.row for outcome in outcomes if outcome.code] == list(range(3, 100, 3))
    failures = read_outcomes(TwoFiles(), batch("completed"), errors_only=True)  # type: ignore[arg-type]
    assert [outcome.row for outcome in failures] == list(range(3, 100, 3))


def test_of_a_job_that_runs_both_files_are_read_as_far_as_it_told() -> None:
    """The file that is read second may be further by then."""
    running = batch("in_progress", output_file_id=None, error_file_id=None, textmill=Extras(readable_rows=50))
    client = TwoFiles()
    assert [outcome.row for outcome in read_outcomes(client, running)] == list(range(1, 51))  # type: ignore[arg-type]
    assert sorted(client.asked) == ["file-eab", "file-oab"]
    further = batch("in_progress", textmill=Extras(readable_rows=60))
    assert [outcome.row for outcome in read_outcomes(client, further, after_row=50)] == list(range(51, 61))  # type: ignore[arg-type]
    client.asked.clear()
    assert list(read_outcomes(client, further, after_row=60)) == []  # type: ignore[arg-type]
    nothing_yet = batch("in_progress", textmill=Extras(readable_rows=0))
    assert list(read_outcomes(client, nothing_yet)) == []  # type: ignore[arg-type]
    assert not client.asked


@pytest.mark.parametrize(
    ("job", "rows", "failures"),
    [
        (batch("completed"), 99, 33),
        (batch("completed", error_file_id=None, counts=RowCounts(66, 66, 0)), 66, 0),
        (batch("completed", output_file_id=None), 33, 33),  # its answers were deleted
        (batch("failed", output_file_id=None, counts=RowCounts(33, 0, 33)), 33, 33),
        (batch("cancelled", counts=RowCounts(120, 66, 33)), 120, 54),
        (batch("expired", counts=RowCounts(120, 66, 33)), 120, 54),
        (batch("in_progress", textmill=Extras(readable_rows=50)), 50, None),
    ],
)
def test_how_many_rows_there_must_be_follows_from_the_job_s_counts(job: Batch, rows: int, failures: int | None) -> None:
    assert expected_rows(job) == rows
    assert expected_rows(job, errors_only=True) == failures


def test_a_job_of_a_task_that_only_the_server_knows_can_be_listed_but_not_read() -> None:
    assert (task_name("/v1/classifications"), task_name("/v1/summaries")) == ("classify", "/v1/summaries")
    with pytest.raises(CommandError, match="use the version of the server"):
        task_of("/v1/summaries")
