"""What a command says at its end about the rows that it wrote."""

from collections.abc import Iterator

import pytest

from api.cli.work.tally import MOST_READ, Tally, reasons_of
from api.tables.outcome import Outcome
from api.wire import Batch, RowCounts

GOOD = Outcome(1, 1, "a", {"label": "x"})
CUT = Outcome(2, 2, "b", {"label": "x", "truncated": True})
BAD = Outcome(3, 3, "c", code="empty_input")
SHORT = Outcome(4, 4, "d", {"text": "x", "finish_reason": "length"})


def tally(*outcomes: Outcome) -> Tally:
    made = Tally()
    for outcome in outcomes:
        made.add(outcome)
    return made


def told(counted: Tally, status: str = "completed", to: str | None = "out.csv", **changes: object) -> str:
    files = {"output_file_id": "file-o1", "error_file_id": "file-e1", **changes}
    batch = Batch("batch_1", "/v1/classifications", status, "file-1", 0, counts=RowCounts(9, 6, 3), **files)  # type: ignore[arg-type]
    return "\n".join(counted.told(batch, to, errors_only=False))


def test_the_rows_that_were_written_are_counted() -> None:
    assert told(tally(GOOD, GOOD)) == "2 rows written to out.csv (job batch_1)."
    assert told(tally(GOOD)) == "1 row written to out.csv (job batch_1)."
    assert told(tally(GOOD, BAD)).startswith("2 rows, 1 of them failed, written to out.csv (job batch_1).\n")
    assert told(tally(GOOD), to=None) == ""


def test_why_rows_failed_is_said_in_words_the_commonest_reason_first() -> None:
    empty = [Outcome(row, row, None, code="empty_input", message="The text is empty.") for row in (3, 5)]
    other = Outcome(4, 4, None, code="too_long", message="The text is too long.")
    for to in ("out.csv", None):
        said = told(tally(GOOD, empty[0], other, empty[1]), to=to)
        assert said.endswith("  2 rows, the first in line 3: The text is empty.\n  1 row: The text is too long.")
    assert "is empty" not in told(tally(*empty), "failed")


def test_of_many_reasons_the_commonest_are_told() -> None:
    said = told(tally(*(Outcome(row, row, None, code=f"code_{row}") for row in range(1, 8))))
    assert said.endswith("  1 row: code_3\n  … and 4 other reasons: textmill results batch_1 --errors -o -")


def test_texts_that_the_model_knows_nothing_of_are_told_of() -> None:
    said = told(tally(GOOD, Outcome(2, 2, "b", {"label": "x", "all_unknown": True})))
    assert "1 of 2 texts hold nothing that the model knows" in said


def test_texts_that_were_cut_are_told_of_with_the_way_out() -> None:
    for to in ("out.csv", None):
        said = told(tally(GOOD, CUT, CUT, BAD), to=to)
        assert "2 of 3 texts are longer than the model reads and were cut" in said
        assert "--on-long chunk" in said


def test_answers_that_stop_in_the_middle_are_told_of() -> None:
    assert "1 of 2 answers stop in the middle" in told(tally(GOOD, SHORT))


def test_of_a_job_that_runs_it_is_said_which_rows_these_are() -> None:
    assert "9 of 9 are done" in told(tally(GOOD), "in_progress")
    assert "before the first that is not done yet" in told(tally(GOOD), "in_progress", to=None)


def test_what_was_deleted_is_told_of() -> None:
    assert "The 6 answers of this job were deleted." in told(tally(BAD), output_file_id=None)
    assert "The 3 failures of this job were deleted." in told(tally(GOOD), error_file_id=None)


@pytest.mark.parametrize(("expected", "missing"), [(None, 0), (2, 0), (5, 3), (1, 0)])
def test_rows_that_did_not_come_are_counted(expected: int | None, missing: int) -> None:
    assert tally(GOOD, BAD).missing_of(expected) == missing


class Failures:
    """Stands in for the client: a file of so many failures, of two kinds in turns."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def lines(self, file_id: str, *, after: str | None = None, inputs: bool = False, unmask: bool = False) -> Iterator[bytes]:
        for row in range(1, self._rows + 1):
            code = b"empty_input" if row % 3 == 0 else b"too_deep"
            body = b'{"error":{"code":"%b","message":"What is wrong."}}' % code
            yield b'{"custom_id":null,"line":%d,"row":%d,"response":{"status_code":400,"body":%b},"error":null}' % (row, row, body)


def job_with(failed: int, status: str = "completed") -> Batch:
    counts = RowCounts(failed + 5, 5, failed)
    return Batch("batch_ab", "/v1/classifications", status, "file-1", 0, error_file_id="file-eab" if failed else None, counts=counts)


def test_a_job_that_did_not_fail_whole_tells_why_rows_failed_code_by_code() -> None:
    assert reasons_of(Failures(4), job_with(4)) == [  # type: ignore[arg-type]
        "too_deep: 3 rows, the first in line 1: What is wrong.",
        "empty_input: 1 row: What is wrong.",
    ]
    assert reasons_of(Failures(0), job_with(0)) == []  # type: ignore[arg-type]
    assert reasons_of(Failures(4), job_with(4, "failed")) == [], "its own errors tell"  # type: ignore[arg-type]


def test_of_very_many_failures_the_first_ones_are_looked_at() -> None:
    *told, more = reasons_of(Failures(MOST_READ + 500), job_with(MOST_READ + 500))  # type: ignore[arg-type]
    assert [each.partition(":")[0] for each in told] == ["too_deep", "empty_input"]
    assert more.startswith("… of the first 1,000 failures")
