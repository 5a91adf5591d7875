"""Results on their way into files."""

import csv
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from api.cli.terminal.exits import CommandError
from api.cli.work.outputs import Shown, check_columns, open_output, parse_target
from api.tables.formulas import guarded, is_formula
from api.tables.outcome import Outcome
from workers.tasks import TASKS

GOOD = Outcome(1, 1, "a", {"label": "tech", "score": 0.75, "scores": {"tech": 0.75, "sports": 0.25}})
BAD = Outcome(2, 3, None, code="empty_input:input", message="The text is empty.")


def write(path: Path, *outcomes: Outcome, task: str = "classify", scores: bool = True) -> None:
    with open_output(parse_target(str(path), TASKS[task]), TASKS[task], shown_as=Shown(scores=scores)) as writer:
        for outcome in outcomes:
            writer.write(outcome)


def test_json_lines_hold_answers_and_failures_in_their_order(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", GOOD, BAD)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines == [
        {"row": 1, "line": 1, "id": "a", "label": "tech", "score": 0.75, "scores": {"tech": 0.75, "sports": 0.25}},
        {"row": 2, "line": 3, "id": None, "error": "empty_input:input", "message": "The text is empty."},
    ]


def test_scores_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", GOOD, scores=False)
    assert "scores" not in json.loads((tmp_path / "out.jsonl").read_text())


@pytest.mark.parametrize(("name", "scores"), [("out.csv", True), ("out.parquet", False)])
def test_a_column_that_such_an_output_has_not_is_refused_before_there_is_a_job(tmp_path: Path, name: str, scores: bool) -> None:
    target = parse_target(str(tmp_path / name), TASKS["classify"])
    with pytest.raises(CommandError, match="--columns: the table has no column scores"):
        check_columns(target, TASKS["classify"], None, Shown(columns=("id", "scores"), scores=scores))


def test_csv_keeps_quotes_and_line_ends_inside_a_cell(tmp_path: Path) -> None:
    text = 'she said "yes",\nthen left\r\n'
    write(tmp_path / "out.csv", Outcome(1, 1, "x", {"text": text, "finish_reason": "stop"}), task="generate")
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["text"], row["finish_reason"]) == ("x", text, "stop")


def cells(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row[2:5] for row in csv.reader(file)][1:]


def test_a_text_in_a_csv_is_never_a_formula(tmp_path: Path) -> None:
    write(
        tmp_path / "out.csv",
        Outcome(1, 1, "a", {"label": "=cmd|'/c calc'!A1", "score": 0.5}),
        Outcome(2, 2, "b", {"label": "@x", "score": 0.5}),
        Outcome(3, 3, "c", {"label": "-", "score": 0.5}),
        Outcome(4, 4, "d", {"label": "-1+cmd|x", "score": 0.5}),
    )
    assert cells(tmp_path / "out.csv") == [
        ["a", "'=cmd|'/c calc'!A1", "0.5"],
        ["b", "'@x", "0.5"],
        ["c", "'-", "0.5"],
        ["d", "'-1+cmd|x", "0.5"],
    ]


def test_a_device_that_is_full_is_told_as_the_results_that_could_not_be_written() -> None:
    with pytest.raises(CommandError, match="The results could not be written: No space left on device"):
        write(Path("/dev/full"), GOOD)


@pytest.mark.parametrize("row_id", ["a\nb", "=1+1", 'x"y,z', "-5", "+49 30 1", "@handle", "-1.5e3", "\tx", "'=x", " 7"])
def test_an_id_comes_back_in_a_csv_as_it_was(row_id: str, tmp_path: Path) -> None:
    write(tmp_path / "out.csv", Outcome(1, 1, row_id, {"label": "=x", "score": 0.5}))
    assert cells(tmp_path / "out.csv") == [[row_id, "'=x", "0.5"]]


@pytest.mark.parametrize("number", ["-1", "+1", "-0.5", "+.5", "-1.", "-2e10", "-2.5E-3"])
def test_a_label_that_is_a_plain_number_is_no_formula(number: str, tmp_path: Path) -> None:
    write(tmp_path / "out.csv", Outcome(1, 1, "a", {"label": number, "score": 0.5}))
    assert cells(tmp_path / "out.csv") == [["a", number, "0.5"]]


def test_the_guard_of_a_csv_can_be_switched_off(tmp_path: Path) -> None:
    target = parse_target(str(tmp_path / "out.csv"), TASKS["generate"])
    with open_output(target, TASKS["generate"], shown_as=Shown(guard=False)) as writer:
        writer.write(Outcome(1, 1, "a", {"text": "=A1", "finish_reason": "stop"}))
    assert cells(tmp_path / "out.csv") == [["a", "=A1", "stop"]]


SIGNS = "=+-@"
OTHER_SIGNS = (
    "\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207c\u207a\u207b\u208c\u208a\u208b\u2212\u2010\u2011\u2012\u02d7\u2796\ua78a"
)
UNSEEN = [
    "",
    " ",
    "\u00a0",
    "\u3000",
    "\u2007",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "\x0b",
    "\x0c",
    "\x00",
    "\x1f",
    "\ufeff",
    "\u200b",
    "\u200e",
    "\u2060",
    "\u00ad",
    "\u115f",
    "\ufe0f",
    "\u2028",
]


@pytest.mark.parametrize("sign", SIGNS + OTHER_SIGNS, ids=ascii)
def test_no_sign_that_a_spreadsheet_knows_hides_from_the_guard(sign: str) -> None:
    """A sheet of another locale, or one that trims, takes these for = + - @."""
    for before in UNSEEN:
        assert guarded(f"{before}{sign}HYPERLINK(A1)") == f"'{before}{sign}HYPERLINK(A1)", ascii(before)


@pytest.mark.parametrize(
    "text",
    ["a=b", "tech", "", " ", "\u200b", "3-1", "#1", "(=1)", "\u2014 he said", "\u2013", "'=1", '"=1"', "\U0001f600 +1", "e\u0301"],
    ids=ascii,
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert guarded(text) == text


@given(st.text())
def test_a_guarded_cell_ends_with_what_it_was(value: str) -> None:
    cell = str(guarded(value))
    assert not is_formula(cell)
    assert cell.removeprefix("'") == value.removeprefix("'")


def test_parquet_has_typed_columns(tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", GOOD, BAD)
    table = parquet.read_table(tmp_path / "out.parquet")
    nothing = dict.fromkeys(("label", "score", "scores", "truncated", "chunks", "error", "message"))
    assert table.schema.names == ["row", "line", "id", *nothing]
    scores = [("tech", 0.75), ("sports", 0.25)]
    assert table.to_pylist() == [
        nothing | {"row": 1, "line": 1, "id": "a", "label": "tech", "score": 0.75, "scores": scores, "truncated": False, "chunks": 1},
        nothing | {"row": 2, "line": 3, "id": None, "error": "empty_input:input", "message": "The text is empty."},
    ]


EXTENT = [
    Outcome(1, 1, "cut", {"label": "x", "score": 1.0, "truncated": True}),
    Outcome(2, 4, "whole", {"label": "x", "score": 1.0, "chunks": 3}),
    Outcome(3, 5, "short", {"label": "x", "score": 1.0}),
    Outcome(4, 6, "bad", code="empty_input:input", message="The text is empty."),
]


def test_a_table_says_what_was_cut_what_was_read_in_windows_and_why_a_row_failed(tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet"):
        write(tmp_path / f"out{suffix}", *EXTENT)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "line", "id", "label", "score", "truncated", "chunks", "error", "message"]
    assert [(row["row"], row["line"], row["truncated"], row["chunks"]) for row in rows] == [
        ("1", "1", "true", "1"),
        ("2", "4", "false", "3"),
        ("3", "5", "false", "1"),
        ("4", "6", "", ""),
    ]
    assert (rows[3]["error"], rows[3]["message"]) == ("empty_input:input", "The text is empty.")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column("truncated").to_pylist() == [True, False, False, None]
    assert table.column("chunks").to_pylist() == [1, 3, 1, None]
    assert table.column("message").to_pylist() == [None, None, None, "The text is empty."]


def test_a_generation_s_tokens_are_in_tables_too(tmp_path: Path) -> None:
    values = {"text": "t", "finish_reason": "length", "input_tokens": 7, "output_tokens": 2}
    for suffix in (".csv", ".parquet"):
        write(tmp_path / f"out{suffix}", Outcome(1, 1, None, dict(values)), task="generate")
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert {name: row[name] for name in values} == {name: str(value) for name, value in values.items()}
    (read,) = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert {name: read[name] for name in values} == values


def test_vectors_go_into_parquet_as_numbers(tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", Outcome(1, 1, "v", {"embedding": [0.5, -0.5]}), task="embed")
    assert parquet.read_table(tmp_path / "out.parquet").column("embedding").to_pylist() == [[0.5, -0.5]]


def test_parquet_of_more_rows_than_a_group_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", *(Outcome(line, line, None, {"label": "a", "score": 1.0}) for line in range(10_000)))
    assert parquet.read_table(tmp_path / "out.parquet").column("line").to_pylist() == list(range(10_000))


def test_what_breaks_off_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("old")

    def break_off() -> None:
        with open_output(parse_target(str(out), TASKS["classify"]), TASKS["classify"]) as writer:
            writer.write(GOOD)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_disk_that_is_full_leaves_whole_rows_in_a_file_that_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, write = tmp_path / "out.jsonl", os.write

    def full(file: int, data: bytes) -> int:
        """Takes the half of what does not fit."""
        if out.read_bytes():
            if len(data) == 1:
                raise OSError(28, "No space left on device")
            return write(file, data[: len(data) // 2])
        return write(file, data)

    monkeypatch.setattr(os, "write", full)
    target = parse_target(str(out), TASKS["classify"])

    def fill() -> None:
        with open_output(target, TASKS["classify"], grows=True) as writer:
            for outcome in (GOOD, BAD):
                writer.write(outcome)
                writer.flush()

    with pytest.raises(CommandError, match="No space left"):
        fill()
    monkeypatch.undo()
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == [1]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_many_rows_reach_a_file_that_grows_before_they_are_all_there_and_never_in_halves(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    with open_output(parse_target(str(out), TASKS["classify"]), TASKS["classify"], grows=True) as writer:
        for row in range(5_000):
            writer.write(Outcome(row, row, "é" * 9, {"label": "a", "score": 1.0}))
            if row % 999 == 0:
                assert out.read_bytes()[-1:] in (b"", b"\n")
        assert out.read_bytes()
    assert len(out.read_bytes().splitlines()) == 5_000 + name.endswith("csv")


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.touch(mode=0o600)
    write(out, GOOD)
    assert out.stat().st_mode & 0o777 == 0o600


def test_a_link_still_points_to_the_results(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    write(tmp_path / "link.jsonl", GOOD)
    assert (tmp_path / "link.jsonl").is_symlink()
    assert json.loads((tmp_path / "real.jsonl").read_text())["id"] == "a"


def test_a_device_is_written_and_not_replaced() -> None:
    write(Path("/dev/null"), GOOD)
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("name", "task", "part"),
    [
        ("out.xlsx", "classify", "ends in"),
        ("out.csv", "embed", "no vectors"),
        ("missing/out.csv", "classify", "does not exist"),
        ("folder.csv", "classify", "folder"),
    ],
)
def test_a_target_that_cannot_work_is_refused_at_once(tmp_path: Path, name: str, task: str, part: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(CommandError, match=part):
        parse_target(str(tmp_path / name), TASKS[task])


def test_the_input_is_never_the_output_under_any_name(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("{}")
    (tmp_path / "soft.jsonl").symlink_to(source)
    os.link(source, tmp_path / "hard.jsonl")
    for name in ("in.jsonl", "soft.jsonl", "hard.jsonl"):
        with pytest.raises(CommandError, match="never overwrite"):
            parse_target(str(tmp_path / name), TASKS["classify"], source.stat())
