"""What a command writes of a job's rows, and what it says where some did not come."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.cli.terminal.exits import ExitCode
from api.cli.work.outputs import parse_target
from api.cli.work.running import deliver
from api.wire import Batch, RowCounts
from workers.tasks import TASKS

LABEL = TASKS["classify"]


class Answers:
    """Stands in for the client: a file of so many answers."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def lines(self, file_id: str) -> Iterator[bytes]:
        for row in range(1, self._rows + 1):
            body = b'{"label":"x","scores":{"x":1.0}}'
            yield b'{"custom_id":null,"line":%d,"row":%d,"response":{"status_code":200,"body":%s},"error":null}' % (row, row, body)


def finished(completed: int) -> Batch:
    counts = RowCounts(completed, completed, 0)
    return Batch("batch_ab", "/v1/classifications", "completed", "file-1", 0, output_file_id="file-oab", counts=counts)


def test_a_job_whose_rows_all_came_ends_well(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    code = deliver(Answers(5), finished(5), parse_target(str(out), LABEL), LABEL, as_json=False)  # type: ignore[arg-type]
    assert code == ExitCode.OK
    assert len(out.read_text().splitlines()) == 5
    assert "missing" not in capfd.readouterr().err


def test_rows_that_are_missing_in_what_was_read_are_told_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = parse_target(str(tmp_path / "out.jsonl"), LABEL)
    code = deliver(Answers(5), finished(7), target, LABEL, as_json=True, quiet=True)  # type: ignore[arg-type]
    out, err = capfd.readouterr()
    assert code == ExitCode.ROWS_FAILED
    assert (json.loads(out)["rows"], json.loads(out)["missing"]) == (5, 2)
    assert "2 rows of job batch_ab are missing in what was read" in err


def test_a_job_that_failed_before_a_row_ran_leaves_no_output(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    batch = Batch("batch_ab", "/v1/classifications", "failed", "file-1", 0, counts=RowCounts(7, 0, 0))
    code = deliver(Answers(5), batch, parse_target(str(out), LABEL), LABEL, as_json=False, quiet=True)  # type: ignore[arg-type]
    assert code == ExitCode.JOB_ENDED_BADLY
    assert not out.exists()
