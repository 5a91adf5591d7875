"""Lines of output and error files, as rows."""

from collections.abc import Iterator

import pytest

from api.cli.terminal.exits import CommandError
from api.cli.work.outcomes import Outcome, parse_outcome, read_outcomes, task_name, task_of
from api.wire import Batch
from workers.tasks import TASKS

ANSWER = (
    b'{"id":"batch_req_1","custom_id":"a","line":3,"error":null,"response":{"status_code":200,"request_id":"r",'
    b'"body":{"id":"cls_1","object":"classification","label":"tech","scores":{"tech":0.9,"sports":0.1},"truncated":%s}}}'
)


def test_a_classification_has_its_label_score_and_scores() -> None:
    scores = {"tech": 0.9, "sports": 0.1}
    assert parse_outcome(ANSWER % b"false", TASKS["classify"]) == Outcome(3, "a", {"label": "tech", "score": 0.9, "scores": scores})


def test_a_text_that_was_cut_says_so() -> None:
    assert parse_outcome(ANSWER % b"true", TASKS["classify"]).values["truncated"] is True


def test_a_row_that_failed_has_its_code() -> None:
    line = (
        b'{"custom_id":null,"line":4,"error":null,"response":{"status_code":400,"request_id":"r",'
        b'"body":{"error":{"message":"The text is empty.","type":"invalid_request_error","param":null,"code":"empty_input"}}}}'
    )
    assert parse_outcome(line, TASKS["classify"]) == Outcome(4, None, code="empty_input", message="The text is empty.")


def test_a_row_that_never_ran_has_its_code() -> None:
    line = b'{"custom_id":"b","line":5,"response":null,"error":{"code":"batch_expired","message":"Too late."}}'
    assert parse_outcome(line, TASKS["generate"]) == Outcome(5, "b", code="batch_expired", message="Too late.")


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

    def lines(self, file_id: str) -> Iterator[bytes]:
        good = file_id.startswith("file-o")
        for line in range(1, 100):
            if (line % 3 != 0) == good:
                body = b'{"status_code":200,"body":{"label":"x","scores":{"x":1.0}}}' if good else b"null"
                yield b'{"custom_id":null,"line":%d,"response":%s,"error":%s}' % (line, body, b"null" if good else b'{"code":"e"}')


def test_answers_and_failures_come_back_in_the_order_of_the_input() -> None:
    batch = Batch("batch_ab", "/v1/classifications", "in_progress", "file-1", 0)
    outcomes = list(read_outcomes(TwoFiles(), batch))  # type: ignore[arg-type]
    assert [outcome.line for outcome in outcomes] == list(range(1, 100))
    assert [outcome.line for outcome in outcomes if outcome.code] == list(range(3, 100, 3))
    assert [outcome.line for outcome in read_outcomes(TwoFiles(), batch, errors_only=True)] == list(range(3, 100, 3))  # type: ignore[arg-type]


def test_a_job_of_a_task_that_only_the_server_knows_can_be_listed_but_not_read() -> None:
    assert (task_name("/v1/classifications"), task_name("/v1/summaries")) == ("classify", "/v1/summaries")
    with pytest.raises(CommandError, match="use the version of the server"):
        task_of("/v1/summaries")
