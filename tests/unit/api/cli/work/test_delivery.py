"""What a command writes of a job's rows, and what it says where some did not come."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.cli.terminal.exits import ExitCode
from api.cli.work.delivery import Delivery, deliver
from api.cli.work.outputs import parse_target
from api.wire import Batch, Extras, RowCounts
from workers.tasks import TASKS

LABEL = TASKS["classify"]


class Answers:
    """Stands in for the client: a file of so many answers. ``read``: how many of them were."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.read = 0

    def columns(self, file_id: str) -> None:
        return None

    def lines(self, file_id: str, *, after: str | None = None, inputs: bool = False, unmask: bool = False) -> Iterator[bytes]:
        if file_id != "file-oab":
            return
        first = 1 if after is None else int(after.removeprefix("batch_req_ab"), 16) + 2
        for row in range(first, self._rows + 1):
            self.read += 1
            body = b'{"label":"x","scores":{"x":1.0}}'
            yield b'{"custom_id":null,"line":%d,"row":%d,"response":{"status_code":200,"body":%s},"error":null}' % (row, row, body)


class CutOff(Answers):
    """Somebody interrupts behind so many rows, while they are read."""

    def lines(self, file_id: str, *, after: str | None = None, inputs: bool = False, unmask: bool = False) -> Iterator[bytes]:
        yield from super().lines(file_id, after=after, inputs=inputs)
        raise KeyboardInterrupt


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


def running(rows: int) -> Batch:
    return Batch("batch_ab", "/v1/classifications", "in_progress", "file-1", 0, textmill=Extras(readable_rows=rows))


def growing(client: Answers, out: Path | str) -> Delivery:
    return Delivery(client, parse_target(str(out), LABEL), LABEL, grows=True)  # type: ignore[arg-type]


def interrupt(rows: Delivery, batch: Batch) -> None:
    """After the rows that the batch has."""

    def take() -> None:
        with rows:
            rows.take(batch)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take()


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_rows_are_in_the_file_as_they_come_and_each_is_read_once(tmp_path: Path, name: str) -> None:
    client, out, head = Answers(9), tmp_path / name, name.endswith("csv")
    with growing(client, out) as rows:
        rows.take(running(0))
        assert not out.exists()  # nothing to show yet
        for readable in (2, 2, 7):
            rows.take(running(readable))
            assert len(out.read_bytes().splitlines()) == readable + head
            assert out.read_bytes().endswith(b"\n")
        rows.take(finished(9))
    assert len(out.read_bytes().splitlines()) == 9 + head
    assert rows.report(finished(9), as_json=False, quiet=True) == ExitCode.OK
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_that_stops_growing_keeps_whole_rows_and_is_said_not_to_be_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    rows = growing(Answers(9), out)
    interrupt(rows, running(4))
    rows.say_left()
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == [1, 2, 3, 4]
    assert f"{out} is not whole: it holds the first 4 rows." in capfd.readouterr().err


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
@pytest.mark.parametrize("came", [1, 4_095, 4_096, 4_097, 9_000])
def test_what_a_file_is_said_to_hold_is_what_it_holds_where_the_reading_was_cut_off(
    tmp_path: Path, name: str, came: int, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    rows = growing(CutOff(came), out)
    with pytest.raises(KeyboardInterrupt), rows:
        rows.take(finished(10_000))
    rows.say_left()
    holds = len(out.read_bytes().splitlines()) - (name.endswith("csv") and out.stat().st_size > 0)
    assert came - 4_096 < holds <= came
    assert f"{out} is not whole: it holds the first {holds:,} rows." in capfd.readouterr().err


def test_a_file_that_has_all_rows_is_not_said_to_lack_some(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = growing(Answers(9), tmp_path / "out.jsonl")
    interrupt(rows, finished(9))
    rows.say_left()
    assert "not whole" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["old.jsonl", "new.parquet"])
def test_what_cannot_grow_or_was_there_before_is_put_in_place_at_the_end(tmp_path: Path, name: str) -> None:
    (tmp_path / "old.jsonl").write_text("old")
    rows = growing(Answers(9), tmp_path / name)
    assert not rows.come_one_by_one
    with rows:
        rows.take(finished(9))
        assert (tmp_path / "old.jsonl").read_text() == "old"
        assert not (tmp_path / "new.parquet").exists()
    assert (tmp_path / name).stat().st_size > 9


def test_where_rows_come_one_by_one_a_pipe_has_them_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "stdout").open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        with growing(Answers(9), "-") as rows:
            rows.take(running(3))
            assert len((tmp_path / "stdout").read_text().splitlines()) == 3
