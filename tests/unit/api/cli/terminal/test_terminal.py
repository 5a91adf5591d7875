"""What data may do to a terminal: nothing."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.terminal.exits import CommandError
from api.cli.terminal.terminal import UNSHOWABLE, age, say, shortened, shown, shown_lines, table
from api.cli.work.outputs import open_output, parse_target
from workers.tasks import TASKS


def test_escape_sequences_are_spelled_out() -> None:
    assert shown("\x1b]0;owned\x07\x1b[2Jhi") == "\\x1b]0;owned\\x07\\x1b[2Jhi"
    assert shown("a\r\nb\tc") == "a\\r\\nb\\tc"
    assert shown("\x9b31m") == "\\x9b31m"


def test_text_that_would_run_backwards_is_spelled_out() -> None:
    assert shown("invoice\u202egpj.exe") == "invoice\\u202egpj.exe"


def test_lone_surrogates_can_be_printed() -> None:
    shown("\ud800").encode()


def test_letters_of_all_scripts_stay() -> None:
    text = "Grüße, καλημέρα, 你好, 👩‍👩‍👧"
    assert shown(text) == text


def test_lines_stay_lines_where_they_may() -> None:
    assert shown_lines("one\r\n\ttwo\x1b[H") == "one\n\ttwo\\x1b[H"


def test_a_long_text_is_cut_to_one_line() -> None:
    assert shortened("a b\n c" * 10, 8) == "a b ca …"


@given(st.text())
def test_nothing_that_steers_a_terminal_comes_through(text: str) -> None:
    assert not UNSHOWABLE.search(shown(text))
    assert not UNSHOWABLE.search(shown_lines(text).replace("\n", "").replace("\t", ""))


def test_an_age_is_told_in_its_greatest_unit() -> None:
    ages = [age(0.0, seconds) for seconds in (0.4, 59, 60, 3_599, 3_600, 100_000, 172_800, -5)]
    assert ages == ["0 s", "59 s", "1 min", "59 min", "1 h", "27 h", "2 d", "0 s"]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_keeps_each_row_on_one_line_and_cuts_the_column_that_may_be_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    name = "a file whose name is very long indeed " * 4 + "and ends in.jsonl"
    table(("JOB", "STATE", "AGE", "FILE"), [("12345678", "in_progress", "12 min", name)] * 2, cut="FILE")
    lines = [line for line in re.sub("\x1b[^m]*m", "", capsys.readouterr().out).splitlines() if line.strip()]
    assert len(lines) == 4
    assert all(len(line) <= columns for line in lines)
    assert lines[2].split()[:4] == ["12345678", "in_progress", "12", "min"]
    assert lines[2].rstrip().endswith("…")


def test_columns_that_fold_take_several_lines_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    table(("AT", "OBJECT"), [("11-27 09:15:36", "POST /v1/batches/3f2a9c01/priority")], folds=("OBJECT",))
    lines = [line for line in re.sub("\x1b[^m]*m", "", capsys.readouterr().out).splitlines() if line.strip()]
    assert all(len(line) <= 40 for line in lines)
    assert lines[2].startswith("11-27 09:15:36 ")
    assert "".join(line[14:].strip() for line in lines[2:]).replace(" ", "") == "POST/v1/batches/3f2a9c01/priority"


def test_a_column_that_gives_way_to_the_others_keeps_its_name_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    table(("WORKER", "NOW", "MEMORY"), [("host:12345", "", "2,386 MiB")], cut="NOW")
    lines = re.sub("\x1b[^m]*m", "", capsys.readouterr().out).splitlines()
    assert len(lines) == 3  # the header, a line, the row, and nothing around them
    assert lines[0].startswith("WORKER")


SENTENCE = "textmill: Say where the results go: -o OUT.jsonl, -o OUT.csv or -o OUT.parquet. Then look at --text-column."


def test_on_a_terminal_a_sentence_breaks_between_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    say(SENTENCE, "  and one that is indented, which goes on below its own beginning")
    lines = capsys.readouterr().err.splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert " ".join(line for line in lines if not line.startswith("  ")) == SENTENCE
    assert sum(line.startswith("  ") for line in lines) == 2


def test_a_command_to_copy_and_what_is_read_by_a_program_stay_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    say(SENTENCE)
    assert capsys.readouterr().err == f"{SENTENCE}\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    command = f"  textmill results batch_{'0' * 32} -o OUT.jsonl"
    say(command)
    assert capsys.readouterr().err == f"{command}\n"


def test_results_that_go_to_a_stdout_that_is_closed_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(CommandError, match="Stdout is closed"), open_output(parse_target("-", TASKS["classify"]), TASKS["classify"]):
        pass
