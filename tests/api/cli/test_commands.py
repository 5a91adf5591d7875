"""The command line against a whole stack, started once: real Postgres and Valkey, dispatcher, worker, API. Only the model is not real."""

import csv
import gzip
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyarrow import parquet

from api import cli
from api.cli.work import following
from api.local.processes.ports import free_port
from db.process_names import host_of, without_start
from tests.waiting import wait_until
from workers.engines.fake import MARKS, expected_label, expected_text
from workers.stages import STAGES

LABELS = ["good", "bad", "ugly"]
ROW_MS = 2  # long enough that a job of some thousand rows can be interrupted
MANY = 6_000  # more than are done before the next command
TEXTS = [f"Text number {number}, of no importance." for number in range(40)]


@dataclass
class Done:
    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    @property
    def items(self) -> list[dict[str, object]]:
        value = json.loads(self.out)
        assert isinstance(value, list)
        return value

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of a stack that runs."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TEXTMILL_")},
        "TEXTMILL_HOME": str(tmp_path_factory.mktemp("home")),
        "TEXTMILL_FAKE_ENGINE": "1",
        "TEXTMILL_FAKE_DELAY_MS": str(ROW_MS),
    }
    command = [sys.executable, "-m", "api.cli"]
    started = subprocess.run(
        [*command, "up", "--detach", "--port", str(free_port()), "--flower-port", str(free_port())],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert started.returncode == 0, started.stdout + started.stderr
    yield environment
    subprocess.run([*command, "down"], env=environment, check=True, capture_output=True, timeout=60)


@pytest.fixture
def textmill(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    for name, value in environment.items():
        if name.startswith("TEXTMILL_"):
            monkeypatch.setenv(name, value)

    def call(*arguments: str, stdin: bytes | None = None) -> Done:
        if stdin is not None:
            read, write = os.pipe()
            with os.fdopen(write, "wb") as pipe:  # fits the pipe's buffer
                pipe.write(stdin)
            monkeypatch.setattr(sys, "stdin", os.fdopen(read))
        capfd.readouterr()
        exit_code = cli.run(arguments)
        out, err = capfd.readouterr()
        return Done(exit_code, out, err)

    return call


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": f"r{number}", "text": text}) + "\n" for number, text in enumerate(TEXTS)))
    return path


def test_every_row_of_a_file_gets_its_label_in_order(textmill: Callable[..., Done], rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = textmill("label", str(rows), "--labels", ",".join(LABELS), "-o", str(out))
    assert done.exit_code == 0, done.err
    read = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in read] == [f"r{number}" for number in range(len(TEXTS))]
    assert [row["label"] for row in read] == [expected_label(text, LABELS) for text in TEXTS]
    assert all(set(row["scores"]) == set(LABELS) and row["score"] == max(row["scores"].values()) for row in read)
    assert "40 rows written" in done.err
    assert done.out == ""


def test_the_tab_key_offers_what_is_on_the_server(
    textmill: Callable[..., Done], rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    examples = tmp_path / "examples.jsonl"
    examples.write_text("".join(json.dumps({"text": f"text {number}", "label": f"l{number % 2}"}) + "\n" for number in range(20)))
    assert textmill("train", "head", "tab one", str(examples), "-q").exit_code == 0
    assert textmill("label-sets", "put", "tab-set", "--labels", "a,b").exit_code == 0
    job = textmill("label", str(rows), "--labels", "a,b", "--detach", "-q").out.strip()

    def tab(*words: str) -> list[str]:
        for name, value in {
            "_TEXTMILL_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(["textmill", *words]),
            "COMP_CWORD": str(len(words)),
        }.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        with pytest.raises(SystemExit):
            cli.run([])
        return capfd.readouterr().out.split("\n")[:-1]

    assert r"tab\ one" in tab("label", "x.csv", "--head", "ta")
    assert r"tab\ one" in tab("label", "x.csv", "--model", "head", ":")
    assert r"head:tab\ one" in tab("label", "x.csv", "--model", "he")
    assert r"tab\ one" in tab("heads", "delete", "tab")
    assert tab("label", "x.csv", "--label-set", "tab-") == ["tab-set"]
    assert {"last", job[6:14]} <= set(tab("jobs", "show", ""))
    assert tab("jobs", "show", job[:20]) == [job]
    assert any(each.startswith("file-") for each in tab("files", "delete", "fi"))


def test_a_csv_with_quotes_and_line_ends_goes_in_and_out(textmill: Callable[..., Done], tmp_path: Path) -> None:
    texts = ['He said "no",\nand left.', "=1+1", "plain"]
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["key", "body"], *zip(["=a", "b", "c"], texts, strict=True)])
    done = textmill("label", str(source), "--labels", "x,y", "--text-column", "body", "--id-column", "key", "-o", str(out))
    assert done.exit_code == 0, done.err
    read = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [(row["key"], row["body"]) for row in read] == list(zip(["=a", "b", "c"], texts, strict=True))
    assert [row["label"] for row in read] == [expected_label(text, ["x", "y"]) for text in texts]


@pytest.mark.parametrize(
    ("name", "data", "options", "said"),
    [
        ("a.jsonl", b'{"id":1,"text":"a"}\n', ["--id-column", "nope"], "it has “id”, “text”. Name the right one with --id-column."),
        ("a.jsonl", b'{"id":1,"body":"a"}\n' * 12, [], "it has “id”, “body”. Name the right one with --text-column."),
        ("a.csv", b"id;body\n1;a\n", [], "with --text-column, or what separates the cells with --delimiter (“;” was taken)."),
        ("a.csv", b"id,text,text\n1,a,b\n", [], "The column “text” is there twice"),
        ("a.jsonl", b'[{"text":"a"}]', [], "`jq -c '.[]' FILE > FILE.jsonl`"),
        ("a.jsonl", b"id,text\n1,a\n", [], "Set --format to what it is, `csv` or `txt`."),
    ],
)
def test_a_file_that_does_not_fit_is_refused_once_in_the_command_s_words(
    textmill: Callable[..., Done], tmp_path: Path, name: str, data: bytes, options: list[str], said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    done = textmill("label", str(tmp_path / name), *options, "--labels", "x,y", "-o", str(tmp_path / "out.csv"), "-q")
    assert (done.exit_code, said in done.err, done.err.count("\n")) == (2, True, 1)
    assert not (tmp_path / "out.csv").exists()


def test_what_is_wrong_without_the_rows_is_told_before_any_is_sent(textmill: Callable[..., Done], rows: Path, tmp_path: Path) -> None:
    out, labels = ("-o", str(tmp_path / "out.jsonl"), "-q"), ("--labels", "a,b")
    wrong = [
        (("label", str(rows), *labels, "--model", "nope", *out), "No such model"),
        (("label", str(rows), *labels, "--window", "soon", *out), "completion window"),
        (("label", str(rows), *labels, "--metadata", f"{'k' * 65}=v", *out), "metadata key"),
        (("label", str(rows), "--head", "nope", *out), "no such head"),
        (("label", str(rows), "--label-set", "nope", *out), "no label set of this name"),
        (("embed", str(rows), "--model", "gemma3-270m", *out), "cannot do this task"),
        (("generate", str(rows), "--model", "minilm-l6-v2", *out), "cannot do this task"),
        (("generate", "--prompt", "hello", "--model", "nope"), "No such model"),
        (("run", "moderate", str(rows), "--model", "minilm-l6-v2", *out), "moderates nothing"),
        (("run", "generate", str(rows), "--set", "max_tokens=x", *out), "--set max_tokens"),
        (("train", "head", "a/b", str(rows), "-q"), "no slash"),
        (("train", "head", "h", str(rows), "--model", "nope", "-q"), "No such model"),
    ]
    before = textmill("files", "list", "--json").out
    for command, said in wrong:
        done = textmill(*command)
        assert (done.exit_code, said in done.err) == (2, True), (command, done.err)
    assert textmill("files", "list", "--json").out == before


@pytest.mark.parametrize("delimiter", ["\\t", "tab", "\t"])
def test_ids_come_back_in_a_csv_as_they_went_in(textmill: Callable[..., Done], tmp_path: Path, delimiter: str) -> None:
    ids = ["a\nb", "=1+1", 'x"y,z', "-5", "@me", "line-2", "-5", ""]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([("id", "text"), *((each, "a goal") for each in ids)])
    done = textmill("label", str(tmp_path / "in.csv"), "--delimiter", delimiter, "--labels", "=x,-1", "-o", str(tmp_path / "out.csv"))
    assert done.exit_code == 0
    assert "1 row with an id that an earlier row has" in done.err
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ids
    assert {row["label"] for row in rows} <= {"'=x", "-1"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.txt", b"A late goal.\r\n\r\nThe bank.\r\n"),
        ("in.txt.gz", gzip.compress(b"A late goal.\n") + gzip.compress(b"\nThe bank.")),
        ("in.tsv.zst", pa.compress(b"id\ttext\n1\tA late goal.\n\n2\tThe bank.\n", "zstd", asbytes=True)),
        ("in.jsonl.gz", gzip.compress(b'{"text":"A late goal."}\n{"text":"The bank."}')),
        ("named-wrongly.csv", gzip.compress(b"text;id\nA late goal.;1\nThe bank.;2\n")),
    ],
)
def test_plain_lines_and_compressed_files_are_read(textmill: Callable[..., Done], tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    done = textmill("label", str(tmp_path / name), "--labels", "x,y", "-o", "-", "-q")
    assert done.exit_code == 0, done.err
    assert [row["label"] for row in done.lines] == [expected_label(text, ["x", "y"]) for text in ("A late goal.", "The bank.")]


def test_the_lines_of_a_compressed_batch_file_are_known(textmill: Callable[..., Done], tmp_path: Path) -> None:
    line = b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"input":"A late goal."}}\n'
    for name, data in (("in.jsonl.gz", gzip.compress(line)), ("in.txt", line)):
        (tmp_path / name).write_bytes(data)
        done = textmill("embed", str(tmp_path / name), "-o", "-", "-q")
        assert [(row["id"], "embedding" in row) for row in done.lines] == [("a", True)], done.err


def test_json_lines_are_texts_where_that_is_asked_for(textmill: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b'{"text":"goal"}\n')
    done = textmill("label", str(tmp_path / "in.txt"), "--format", "txt", "--labels", "x,y", "-o", "-", "-q")
    assert [row["label"] for row in done.lines] == [expected_label('{"text":"goal"}', ["x", "y"])]


@pytest.mark.parametrize(
    ("name", "data", "options", "said"),
    [
        ("texts.zip", b"PK\x03\x04rest", [], "only gzip and zstd are read"),
        ("texts.tar.gz", b"\x1f\x8brest", [], "only gzip and zstd are read"),
        ("texts.csv", b"PAR1rest", [], "set --format to `parquet`"),
        ("sheet.xlsx", b"PK\x03\x04rest", [], "save the sheet as “CSV UTF-8”"),
        ("sheet.xls.gz", b"any", [], "save the sheet as “CSV UTF-8”"),
        ("sheet.csv", b"PK\x03\x04rest", [], "save it as “CSV UTF-8”"),
        ("in.docx", b"PK\x03\x04rest", [], "give --format jsonl, csv, parquet or txt"),
        ("in.txt", b'{"text":"goal"}\n', [], "set --format to `jsonl`, or to `txt`"),
        ("in.txt", b"goal\n", ["--text-column", "body"], "Leave --text-column out, or say with --format what the file is."),
        ("in.jsonl.gz", gzip.compress(b'{"text":"a"}')[:-9], [], "The gzip file is cut or damaged"),
        ("in.parquet.gz", gzip.compress(b"PAR1"), [], "without gzip or zstd around it"),
        ("in.txt.gz", gzip.compress(b"\n" * (64 << 20)), [], "Send it uncompressed, or in parts."),
    ],
)
def test_what_is_not_read_is_told_in_one_line_with_what_to_do(
    textmill: Callable[..., Done], tmp_path: Path, name: str, data: bytes, options: list[str], said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    done = textmill("label", str(tmp_path / name), *options, "--labels", "x,y", "-o", str(tmp_path / "out.csv"), "-q")
    assert (done.exit_code, said in done.err, done.err.count("\n")) == (2, True, 1), done.err


def test_parquet_goes_in_and_out(textmill: Callable[..., Done], tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": TEXTS[:5], "id": [1, 2, 3, 4, 5]}), tmp_path / "in.parquet")
    done = textmill("label", str(tmp_path / "in.parquet"), "--labels", "x,y", "-o", str(tmp_path / "out.parquet"), "--no-scores")
    assert done.exit_code == 0, done.err
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.select(["text", "id"]).equals(parquet.read_table(tmp_path / "in.parquet"))
    assert table.column_names == ["text", "id", "label", "score", "truncated", "chunks", "error", "message"]
    assert table.column("label").to_pylist() == [expected_label(text, ["x", "y"]) for text in TEXTS[:5]]


def test_a_column_that_is_not_there_is_told_with_those_that_are(textmill: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,one\n")
    done = textmill("label", str(tmp_path / "in.csv"), "--labels", "x,y", "-o", "-", "--columns", "id,lable")
    assert done.exit_code == 2
    assert "--columns: the table has no column lable. It has id, text, row, line, id_2, label, score" in done.err


def test_rows_stream_from_stdin_to_stdout(textmill: Callable[..., Done]) -> None:
    stdin = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS)
    done = textmill("label", "-", "--labels", "x,y", "-o", "-", "-q", stdin=stdin)
    assert done.exit_code == 0, done.err
    assert [row["label"] for row in done.lines] == [expected_label(text, ["x", "y"]) for text in TEXTS]
    assert done.err == ""


def test_rows_that_fail_stand_where_they_belong(textmill: Callable[..., Done]) -> None:
    stdin = b'{"text":"one"}\nnot json\n{"text":""}\n' + json.dumps({"text": MARKS["nan"]}).encode() + b'\n{"text":"five"}\n'
    done = textmill("label", "-", "--labels", "x,y", "-o", "-", "--no-input", stdin=stdin)
    assert done.exit_code == 1
    assert [row["line"] for row in done.lines] == [1, 2, 3, 4, 5]
    assert [str(row.get("error")).partition(":")[0] for row in done.lines] == [
        "None",
        "invalid_json",
        "empty_input",
        "non_finite_output",
        "None",
    ]


def test_a_job_that_fails_says_why_and_writes_nothing(textmill: Callable[..., Done], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = textmill("label", "-", "--labels", "x,y", "-o", str(out), stdin=b"{nonsense\n{more of it\n")
    assert done.exit_code == 5
    assert "lines 1, 2: The line is not valid JSON." in done.err
    assert not out.exists()


def test_the_summary_is_json_where_asked(textmill: Callable[..., Done], rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    summary = textmill("label", str(rows), "--labels", "x,y", "-o", str(out), "--json").json
    assert str(summary.pop("job")).startswith("batch_")
    told = {
        "status": "completed",
        "rows": 40,
        "completed": 40,
        "failed": 0,
        "truncated": 0,
        "missing": 0,
        "warnings": [],
        "output": str(out),
    }
    assert summary == told


def test_the_summary_says_how_many_texts_were_cut(textmill: Callable[..., Done], tmp_path: Path) -> None:
    source, out = tmp_path / "long.jsonl", tmp_path / "out.csv"
    source.write_text(f'{{"text":"{"long " * 1_000}"}}\n{{"text":"short"}}\n')
    done = textmill("label", str(source), "--labels", "x,y", "-o", str(out))
    assert done.exit_code == 0, done.err
    assert "1 of 2 texts are longer than the model reads and were cut" in done.err
    csv.field_size_limit(1 << 20)  # of the process, and another test may have set it
    assert [row["truncated"] for row in csv.DictReader(io.StringIO(out.read_text()))] == ["true", "false"]
    job = textmill("label", str(source), "--labels", "x,y", "-o", str(out), "--json")
    assert job.json["truncated"] == 1
    assert "warning\t1 of 2 texts are longer than the model reads" in textmill("jobs", "show", str(job.json["job"])).out


def test_a_job_in_which_every_row_failed_has_failed_and_says_why(textmill: Callable[..., Done], tmp_path: Path) -> None:
    source, out = tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text":""}\n{"text":""}\n' + json.dumps({"text": MARKS["nan"]}) + "\n")
    done = textmill("label", str(source), "--labels", "x,y", "-o", str(out), "--columns", "row, error")
    assert done.exit_code == 5, done.err
    assert "none of its 3 rows has an answer" in done.err
    assert "2 rows, the first in line 1: The text is empty." in done.err
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == [1, 2, 3]
    (job, *_) = textmill("jobs", "list", "--json").items
    assert "2 rows, the first in line 1: The text is empty." in textmill("jobs", "show", str(job["id"])).out
    assert textmill("jobs", "retry", str(job["id"])).exit_code == 0
    assert textmill("jobs", "watch", str(job["id"]), "-q").exit_code == 5


def test_results_can_be_written_at_any_moment_around_the_end_of_a_job(textmill: Callable[..., Done], tmp_path: Path) -> None:
    """A job without a failure has no error file, and whoever saw it run a moment before asks for one all the same."""
    source, out = tmp_path / "some.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"text":"{number}"}}\n' for number in range(700)))
    seen = set()
    for _ in range(3):
        job = textmill("label", str(source), "--labels", "x,y", "--detach", "-q").out.strip()
        status = ""
        while status != "completed":
            read = textmill("results", job, "-o", str(out), "--json")
            assert read.exit_code == 0, read.err
            assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == [
                str(at) for at in range(int(str(read.json["rows"])))
            ]
            assert read.json["missing"] == 0
            status = str(read.json["status"])
            seen.add(status)
        assert read.json["rows"] == 700
    assert "in_progress" in seen


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--labels", "a,b", "-o", "{rows}"], "never overwrite"),
        (["--labels", "a,b"], "where the results go"),
        (["-o", "-"], "labels one way"),
        (["--labels", "a,b", "--head", "h", "-o", "-"], "exclude each other"),
        (["--labels", "a", "-o", "-"], "two labels"),
        (["--labels", "a,a", "-o", "-"], "twice"),
        (["--labels", "a,b", "-o", "out.doc"], "ends in"),
        (["--labels", "a,b", "-o", "-", "--template", "no place"], "holds {}"),
        (["--labels", "a,b", "-o", "-", "--window", "soon"], "window"),
        (["--labels", "a,b", "-o", "-", "--model", "no-such"], "Known models"),
        (["--labels", "a,b", "-o", "-", "--json"], "one of them"),
        (["--labels", "a,b", "-o", "-", "--metadata", "novalue"], "key=value"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_exit_code_2(
    textmill: Callable[..., Done], rows: Path, arguments: list[str], part: str
) -> None:
    done = textmill("label", str(rows), *(one.format(rows=rows) if "{rows}" in one else one for one in arguments))
    assert done.exit_code == 2, done.err
    fault = json.loads(done.err.splitlines()[-1])["error"]["message"] if "--json" in arguments else done.err.splitlines()[-1]
    assert part in fault
    assert done.out == ""


def test_a_wrong_key_is_refused_with_exit_code_4(textmill: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_API_KEY", "tm_" + "x" * 43)
    done = textmill("jobs", "list", "--json")
    assert done.exit_code == 4
    assert json.loads(done.err)["error"]["code"] == "invalid_api_key"


def test_a_job_is_asked_for_by_the_first_digits_of_its_id_and_as_the_last(textmill: Callable[..., Done], rows: Path) -> None:
    job = textmill("label", str(rows), "--labels", "x,y", "--detach", "-q").out.strip()
    assert textmill("jobs", "watch", "last", "-q").exit_code == 0
    short = job.removeprefix("batch_")[:12]
    for named in ("last", short, job):
        assert textmill("jobs", "show", named, "--json").json["id"] == job
        assert len(textmill("results", named, "-o", "-", "-q").lines) == len(TEXTS)
        assert textmill("profile", named).exit_code == 0
        assert textmill("audit", "list", "--object", named, "--limit", "1").out.count("\n") == 2
    assert textmill("jobs", "show", "0000").exit_code == 1
    assert textmill("jobs", "list", "--limit", "1").out.splitlines()[1].split("\t")[::7] == [job, "rows.jsonl"]
    newest = textmill("files", "list", "--json").items
    (uploaded, *_) = [file["id"] for file in newest if file["purpose"] == "rows"]
    assert textmill("jobs", "delete", short, "--yes").exit_code == 0
    assert str(uploaded) in textmill("files", "delete", "last", "--yes").err


def test_flower_shows_task_job_rows_and_rate_of_each_shard_also_after_a_restart(
    textmill: Callable[..., Done], environment: dict[str, str], rows: Path
) -> None:
    home = Path(environment["TEXTMILL_HOME"])
    job = textmill("label", str(rows), "--labels", "x,y", "--detach", "-q").out.strip()
    assert textmill("jobs", "watch", job, "-q").exit_code == 0
    auth = ("textmill", (home / "secrets" / "flower").read_text().strip())
    about = f"job {job.removeprefix('batch_')[:8]}, rows 1 to 40"

    def state() -> dict[str, Any]:
        return dict(json.loads((home / "run" / "state.json").read_text()))

    def shown() -> dict[str, Any] | None:
        try:
            tasks = httpx.get(f"{state()['flower']}/api/tasks", auth=auth, trust_env=False).json()
        except httpx.HTTPError:
            return None
        return next((task for task in tasks.values() if task["kwargs"] == about and task["state"] == "SUCCESS"), None)

    before = wait_until(shown, "Flower shows the shard")
    assert before is not None
    assert (before["name"], re.fullmatch(r"40 rows, [\d,]+ rows/s", before["result"]) is not None) == ("classify", True)
    pid = state()["children"]["flower"]
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: state()["children"].get("flower", pid) != pid, "Flower runs again")
    after = wait_until(shown, "Flower shows the shard again")
    assert after is not None
    assert after["uuid"] == before["uuid"]


def test_no_server_is_exit_code_3(textmill: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_API_URL", f"http://127.0.0.1:{free_port()}")
    done = textmill("jobs", "list")
    assert done.exit_code == 3
    assert "is TEXTMILL_API_URL right?" in done.err


def test_the_local_key_is_not_sent_to_another_machine(textmill: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_API_URL", "https://mill.example.org")
    done = textmill("jobs", "list")
    assert done.exit_code == 4
    assert "TEXTMILL_API_KEY" in done.err


def test_generate_reads_chats_with_their_own_settings_and_batch_lines(textmill: Callable[..., Done], tmp_path: Path) -> None:
    chats, lines = tmp_path / "chat.jsonl", tmp_path / "lines.jsonl"
    talk = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "Capital of France?"}]
    plain = [
        {"id": "c1", "messages": talk},
        {"id": "c2", "prompt": "List: one, two,", "max_tokens": 1, "temperature": 0},
        {"id": "c3", "prompt": "a", "temperature": 9},
    ]
    chats.write_text("".join(f"{json.dumps(row)}\n" for row in plain))
    done = textmill("generate", str(chats), "-o", "-", "-q", "--max-tokens", "3")
    assert [row["id"] for row in done.lines] == ["c1", "c2", "c3"]
    assert [row.get("output_tokens") for row in done.lines] == [3, 1, None]
    assert "`temperature` must be a number of at most 2" in str(done.lines[2])
    body = {"messages": talk, "max_tokens": 2}
    lines.write_text(json.dumps({"custom_id": "b1", "method": "POST", "url": "/v1/chat/completions", "body": body}))
    done = textmill("generate", str(lines), "-o", "-", "-q")
    assert [(row["id"], row["output_tokens"]) for row in done.lines] == [("b1", 2)]
    wrong = textmill("embed", str(lines), "-o", "-")
    assert (wrong.exit_code, "textmill generate FILE" in wrong.err) == (2, True)


def test_generate_masks_checks_and_tries_again_and_results_come_with_values(textmill: Callable[..., Done], tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": "a", "text": "write to anna@example.com"}\n{"id": "b", "text": "fine"}\n')
    asked = ("--max-tokens", "3", "--redact", "all", "--temperature", "0.5", "--tries", "2")
    done = textmill("generate", str(source), "-o", "-", "-q", *asked, "--check", f"required={expected_text('fine', 1)}")
    assert done.exit_code == 1
    masked, fine = done.lines
    assert (masked["error"], fine["text_2"], fine["tries"]) == ("check_failed", expected_text("fine", 3), 1)
    assert "No answer of 2 tries passed the check `required`" in str(masked["message"])
    job = str(textmill("jobs", "list", "--json").items[0]["id"])
    assert [row.get("text") for row in textmill("results", job, "-o", "-", "--no-input", "--unmask").lines][1] == fine["text_2"]
    refused = textmill("generate", str(source), "-o", "-", "--check", "words<=3", "--check", "words>=4")
    assert (refused.exit_code, "checks[1]" in refused.err) == (2, True)


def test_a_column_in_braces_is_told_of(textmill: Callable[..., Done], tmp_path: Path) -> None:
    source = tmp_path / "prompts.csv"
    source.write_text('sku,name,material,prompt\n1,Lamp,steel,"Announce a {material} {name}."\n')
    done = textmill("generate", str(source), "-o", str(tmp_path / "out.jsonl"), "--max-tokens", "2")
    assert "{name}, {material} in a prompt stays as it is" in done.err


def test_a_job_can_be_left_and_come_back_to(textmill: Callable[..., Done], rows: Path) -> None:
    started = textmill("label", str(rows), "--labels", "x,y", "--detach", "--priority", "3", "--metadata", "team=news")
    assert started.exit_code == 0, started.err
    job = started.out.strip()
    watched = textmill("jobs", "watch", job, "--json")
    assert watched.exit_code == 0
    assert watched.json["status"] == "completed"
    assert watched.json["metadata"] == {"team": "news"}
    shown = textmill("jobs", "show", job)
    assert "metadata team\tnews" in shown.out
    results = textmill("results", job, "-o", "-")
    assert [row["id"] for row in results.lines] == [f"r{number}" for number in range(len(TEXTS))]
    assert textmill("results", job, "--errors", "-o", "-").out == ""
    assert job in [one["id"] for one in textmill("jobs", "list", "--json").items]


@pytest.mark.parametrize("command", [["label", "--labels", "x,y"], ["embed"]])
def test_a_long_text_can_be_read_in_windows(textmill: Callable[..., Done], command: list[str], tmp_path: Path) -> None:
    source, out = tmp_path / "long.jsonl", tmp_path / "out.jsonl"
    source.write_text(f'{{"text":"{"long " * 1_000}"}}\n{{"text":"short"}}\n')
    name, *options = command
    windows = ("--on-long", "chunk", "--pool", "max", "--stride", "8")
    done = textmill(name, str(source), *options, *windows, "-o", str(out), "-q")
    assert done.exit_code == 0, done.err
    long, short = (json.loads(line) for line in out.read_text().splitlines())
    assert (long["chunks"], "truncated" in long) == (2, False)
    assert "chunks" not in short
    alone = textmill(name, str(source), *options, "--pool", "max", "-o", str(out))
    assert alone.exit_code == 2
    assert "--on-long chunk" in alone.err


def test_a_small_job_can_be_waited_for(textmill: Callable[..., Done], rows: Path) -> None:
    done = textmill("label", str(rows), "--labels", "x,y", "--interactive", "-o", "-", "-q")
    assert done.exit_code == 0, done.err
    assert len(done.lines) == len(TEXTS)
    (job, *_) = textmill("jobs", "list", "--json").items
    assert job["textmill"]["interactive"] is True
    both = textmill("label", str(rows), "--labels", "x,y", "--interactive", "--priority", "3", "-o", "-")
    assert both.exit_code == 2
    assert "--interactive is above every --priority" in both.err


def test_a_large_job_cannot_be_interactive(textmill: Callable[..., Done]) -> None:
    stdin = b"".join(b'{"text":"%d"}\n' % number for number in range(257))
    done = textmill("label", "-", "--labels", "x,y", "--interactive", "--detach", "-q", stdin=stdin)
    assert done.exit_code != 0
    assert "at most 256 rows" in done.err


def test_a_job_can_be_cancelled_and_keeps_what_is_done(textmill: Callable[..., Done], tmp_path: Path) -> None:
    source = tmp_path / "many.jsonl"
    source.write_text("".join(f'{{"text":"{number}"}}\n' for number in range(MANY)))
    job = textmill("label", str(source), "--labels", "x,y", "--detach", "-q").out.strip()
    assert textmill("jobs", "cancel", job, "--json").exit_code == 0
    watched = textmill("jobs", "watch", job)
    assert watched.exit_code == 5
    assert "cancelled" in watched.err
    read = textmill("results", job, "-o", "-", "--no-input")
    assert read.exit_code == 5
    assert [row["line"] for row in read.lines] == list(range(1, MANY + 1))
    assert "batch_cancelled" in {row.get("error") for row in read.lines}
    again = textmill("jobs", "cancel", job)
    assert again.exit_code == 0


def test_a_job_is_paused_put_forward_resumed_retried_and_deleted(textmill: Callable[..., Done], tmp_path: Path) -> None:
    source = tmp_path / "many.jsonl"
    source.write_text("".join(f'{{"text":"{number}"}}\n' for number in range(MANY)) + '{"text":""}\n')
    job = textmill("label", str(source), "--labels", "x,y", "--detach", "-q").out.strip()
    paused = textmill("jobs", "pause", job)
    assert paused.exit_code == 0, paused.err
    assert f"Job {job} is paused: " in paused.err
    assert " failed, " in paused.err
    assert "state\tpaused" in textmill("jobs", "show", job).out
    assert textmill("jobs", "priority", job, "7", "--json").json["textmill"]["priority"] == 7  # type: ignore[index]
    early = textmill("jobs", "retry", job)
    assert early.exit_code != 0
    assert "only one that has ended" in early.err
    assert "is in_progress: " in textmill("jobs", "resume", job).err
    assert textmill("jobs", "watch", job, "-q").exit_code == 1
    again = textmill("jobs", "retry", job)
    assert f"Job {job} is in_progress: {MANY:,} done, 0 failed, 1 open." in again.err
    assert textmill("jobs", "watch", job, "-q").exit_code == 1
    asked = textmill("jobs", "delete", job, stdin=b"n\n")
    assert asked.exit_code == 2
    assert "Nothing was deleted." in asked.err
    asked = textmill("jobs", "delete", job, stdin=b"")
    assert (asked.exit_code, "--yes does it without asking" in asked.err) == (2, True), asked.err
    assert textmill("jobs", "delete", job, "--yes").exit_code == 0
    assert textmill("jobs", "show", job).exit_code != 0


def test_an_interrupt_leaves_the_job_running_and_says_how_to_come_back(
    environment: dict[str, str], textmill: Callable[..., Done], tmp_path: Path
) -> None:
    source, out = tmp_path / "many.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"text":"{number}"}}\n' for number in range(3000)))
    labelling = begin(environment, "label", str(source), "--labels", "x,y", "-o", str(out))
    job = wait_until(lambda: next((one for one in textmill("jobs", "list", "--json").items if one["status"] == "in_progress"), None))
    labelling.send_signal(signal.SIGINT)
    _, said = labelling.communicate(timeout=30)
    assert labelling.returncode == 130
    assert f"textmill jobs watch {job['id']}" in said
    assert f"textmill results {job['id']} -o {out}" in said
    assert "Traceback" not in said
    assert not out.exists()
    early = textmill("results", str(job["id"]), "-o", "-")
    assert early.exit_code in (0, 1)
    assert "ended as" not in early.err
    assert textmill("jobs", "watch", str(job["id"])).exit_code == 0
    assert textmill("results", str(job["id"]), "-o", str(out), "--json").json["rows"] == 3000
    assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == [str(number) for number in range(3000)]


def test_answers_are_in_the_file_while_the_job_runs_and_a_file_that_is_not_whole_is_said_not_to_be(
    environment: dict[str, str], textmill: Callable[..., Done], tmp_path: Path
) -> None:
    source, out, rows_asked = tmp_path / "many.jsonl", tmp_path / "out.jsonl", 30_000
    source.write_text("".join(f'{{"prompt":"{number}"}}\n' for number in range(rows_asked)))
    generating = begin(environment, "generate", str(source), "-o", str(out), "--max-tokens", "2")
    wait_until(lambda: out.exists() and out.stat().st_size > 0)
    generating.send_signal(signal.SIGINT)
    _, said = generating.communicate(timeout=30)
    assert generating.returncode == 130
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [str(number) for number in range(len(rows))]
    assert [row["text"] for row in rows] == [expected_text(str(number), 2) for number in range(len(rows))]
    assert f"{out} is not whole: it holds the first {len(rows):,} rows." in said
    assert 0 < len(rows) < rows_asked
    told = re.search(rf"textmill results (batch_\w+) -o {out}", said)
    assert told
    textmill("jobs", "cancel", told[1])  # what was not done in time is told as that
    textmill("jobs", "watch", told[1], "-q")
    assert textmill("results", told[1], "-o", str(out), "--json").json["rows"] == rows_asked
    assert len(out.read_text().splitlines()) == rows_asked


@pytest.mark.parametrize(("answer", "state"), [(b"n\n", "cancelled"), (b"\n", "completed")])
def test_an_interrupt_at_a_terminal_asks_what_becomes_of_the_job(
    environment: dict[str, str], textmill: Callable[..., Done], tmp_path: Path, answer: bytes, state: str
) -> None:
    source = tmp_path / "many.jsonl"
    source.write_text("".join(f'{{"text":"{number}"}}\n' for number in range(4000)))
    terminal = Terminal(["label", str(source), "--labels", "x,y", "-o", str(tmp_path / "out.jsonl")], environment)
    terminal.read_until(b"of 4,000")  # the live bar; the job has begun
    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until(b"Leave the job running? [Y/n]")
    terminal.write(answer)
    assert terminal.end() == 130
    told = re.search(r"textmill results (batch_\w+)", terminal.seen.decode())
    assert told
    job = told[1]
    assert textmill("jobs", "watch", job, "--json").json["status"] == state


def test_a_terminal_gets_no_control_characters_from_data(environment: dict[str, str], textmill: Callable[..., Done]) -> None:
    stdin = json.dumps({"id": "\x9b31m\u202eid", "text": "some text"}).encode() + b"\n"
    job = textmill("label", "-", "--labels", "x\x9b2J,y", "--detach", "-q", "--metadata", "k=\x1b[2J", stdin=stdin).out.strip()
    assert textmill("jobs", "watch", job, "-q").exit_code == 0
    for command in (["results", job, "-o", "-", "-q"], ["jobs", "show", job], ["jobs", "show", job, "--json"]):
        terminal = Terminal(command, environment)
        assert terminal.end() == 0
        seen = terminal.seen.decode()
        assert "\x9b" not in seen
        assert "\u202e" not in seen
        assert "\x1b[2J" not in seen
        assert "x9b" in seen or "x1b" in seen or "u001b" in seen


def test_a_prompt_to_which_nothing_was_written_has_failed_and_says_why(textmill: Callable[..., Done]) -> None:
    done = textmill("generate", "--prompt", f"Say nothing. {MARKS['empty']}")
    assert (done.exit_code, done.out) == (5, "")
    assert "1 row: The model wrote nothing" in done.err
    (job, *_) = textmill("jobs", "list", "--json").items
    assert job["status"] == "failed"
    assert "The model wrote nothing" in textmill("jobs", "show", str(job["id"])).out


def test_one_prompt_is_answered_on_stdout(textmill: Callable[..., Done]) -> None:
    done = textmill("generate", "--prompt", "Say something.", "--max-tokens", "5")
    assert done.exit_code == 0, done.err
    assert done.out == expected_text("Say something.", 5) + "\n"
    answer = textmill("generate", "--prompt", "Say something.", "--max-tokens", "5", "--json").json
    assert answer["text"] == expected_text("Say something.", 5)
    assert answer["finish_reason"] == "length"


def test_a_file_of_prompts_is_answered_row_by_row(textmill: Callable[..., Done], tmp_path: Path) -> None:
    source, out = tmp_path / "prompts.csv", tmp_path / "out.csv"
    source.write_text("prompt\nfirst\nsecond\n")
    done = textmill("generate", str(source), "--prompt-column", "prompt", "--system", "Be brief.", "--max-tokens", "4", "-o", str(out))
    assert done.exit_code == 0, done.err
    assert [row["text"] for row in csv.DictReader(io.StringIO(out.read_text()))] == [expected_text("first", 4), expected_text("second", 4)]
    for command in (("jobs", "show", "last"), ("profile", "last")):
        told = dict(line.split("\t")[:2] for line in textmill(*command).out.splitlines() if "\t" in line)
        assert told["answers"].startswith("4.0 tokens each, ")
        assert told["prefix hits"].startswith("0.0%")
        assert told["first token"].endswith(" in 95 of 100")
        assert "next token" in told


def test_vectors_are_of_unit_length(textmill: Callable[..., Done], rows: Path, tmp_path: Path) -> None:
    assert textmill("embed", str(rows), "-o", str(tmp_path / "out.parquet")).exit_code == 0
    vectors = parquet.read_table(tmp_path / "out.parquet").column("embedding").to_pylist()
    assert len(vectors) == len(TEXTS)
    assert all(sum(x * x for x in vector) == pytest.approx(1.0, abs=1e-3) for vector in vectors)


def test_a_head_is_trained_told_about_used_and_deleted(textmill: Callable[..., Done], rows: Path, tmp_path: Path) -> None:
    examples = tmp_path / "examples.csv"
    with examples.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "kind"], *([text, LABELS[place % 2]] for place, text in enumerate(TEXTS))])
    trained = textmill("train", "head", "head:my head", str(examples), "--label-column", "kind")
    assert trained.exit_code == 0, trained.err
    assert "40 examples" in trained.err
    assert "accuracy" in trained.err
    assert "my head" in [head["name"] for head in textmill("heads", "list", "--json").items]
    labelled = textmill("label", str(rows), "--head", "my head", "-o", "-")
    assert labelled.exit_code == 0, labelled.err
    assert {row["label"] for row in labelled.lines} == {"good", "bad"}
    assert textmill("heads", "delete", "my head", "--yes").exit_code == 0
    assert textmill("label", str(rows), "--head", "my head", "-o", "-").exit_code == 2


def test_a_label_with_one_example_is_left_out_and_named_with_its_count(textmill: Callable[..., Done], tmp_path: Path) -> None:
    """An empty label fails its own row, and labels that differ by blanks are one."""
    examples = tmp_path / "rare.csv"
    labelled = [*((text, ("sport", "business", "sport ")[place % 3]) for place, text in enumerate(TEXTS)), ("alone", "opera"), ("none", "")]
    with examples.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *labelled])
    trained = textmill("train", "head", "rare", str(examples))
    assert trained.exit_code == 1, trained.err
    assert "2 labels, 40 examples" in trained.err
    assert "opera (1)" in trained.err
    (head,) = (head for head in textmill("heads", "list", "--json").items if head["name"] == "rare")
    assert (head["labels"], head["left_out"]) == (["business", "sport"], {"opera": 1})
    assert textmill("heads", "delete", "rare", "--yes").exit_code == 0


@pytest.mark.parametrize(
    ("table", "exit_code", "said"),
    [
        ("text,label\na,x\nb,y\nc,z\n", 5, "3 rows, the first in line 2: There are too few examples to train on"),
        ("text,label\na,x\nb,x\nc,y\n", 5, "3 rows, the first in line 2: There are too few examples to train on"),
        ("text,label\na,x\nb,x\n", 5, "2 rows, the first in line 2: At least two labels are needed."),
        ("text,label\na,\nb, \n", 5, "1 row: A label is empty."),
        ("text,kind\na,x\nb,y\n", 2, "--label-column"),
    ],
    ids=["all rare", "one left", "one label", "empty labels", "no such column"],
)
def test_examples_that_make_no_head_say_why(textmill: Callable[..., Done], tmp_path: Path, table: str, exit_code: int, said: str) -> None:
    examples = tmp_path / "examples.csv"
    examples.write_text(table)
    trained = textmill("train", "head", "none", str(examples))
    assert (trained.exit_code, said in trained.err) == (exit_code, True), trained.err


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_training_that_fails_does_not_pass_off_the_head_from_before(
    textmill: Callable[..., Done], tmp_path: Path, flags: tuple[str, ...]
) -> None:
    good, bad, unlabelled = tmp_path / "good.jsonl", tmp_path / "bad.jsonl", tmp_path / "unlabelled.jsonl"
    good.write_text("".join(json.dumps({"text": text, "label": LABELS[place % 2]}) + "\n" for place, text in enumerate(TEXTS)))
    bad.write_text('{"text": "one label makes no head", "label": "good"}\n')
    unlabelled.write_text('{"text": "no label at all", "label": null}\n')
    assert textmill("train", "head", "kept", str(good)).exit_code == 0
    again = textmill("train", "head", "kept", str(bad), *flags)
    assert again.exit_code == 5, again.err
    assert "1 row: At least two labels are needed." in again.err
    assert "40 examples" not in again.err
    failed = textmill("train", "head", "kept", str(unlabelled), *flags)
    assert failed.exit_code == 5, failed.err
    assert not flags or failed.json["head"] is None
    assert textmill("heads", "delete", "kept", "--yes").exit_code == 0


def test_a_training_tells_of_the_version_that_it_made_and_not_of_the_newest(
    textmill: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one ends before this one is told about."""

    def examples(labels: str) -> str:
        path = tmp_path / f"{labels}.jsonl"
        path.write_text("".join(json.dumps({"text": f"Text {at}.", "label": labels[at % len(labels)]}) + "\n" for at in range(18)))
        return str(path)

    def overtaken(*follow: Any) -> Any:
        ended = followed(*follow)
        monkeypatch.setattr(following, "follow", followed)
        assert textmill("train", "head", "race", examples("pq")).exit_code == 0
        return ended

    followed = following.follow
    for flags in ((), ("--json",)):
        monkeypatch.setattr(following, "follow", overtaken)
        trained = textmill("train", "head", "race", examples("xyz"), *flags)
        assert trained.exit_code == 0, trained.err
        if flags:
            assert trained.json["head"]["version"] == 3  # type: ignore[index]
        else:
            assert "Head race: 3 labels, 18 examples" in trained.err
            assert "version 2" not in trained.err
            assert "--head race@1 " in trained.err
    assert textmill("heads", "delete", "race", "--yes").exit_code == 0


def test_a_head_trained_anew_while_a_job_is_paused_answers_none_of_its_rows(textmill: Callable[..., Done], tmp_path: Path) -> None:
    def train(labels: tuple[str, str]) -> str:
        examples = tmp_path / "examples.jsonl"
        examples.write_text("".join(json.dumps({"text": f"Text {at}.", "label": labels[at % 2]}) + "\n" for at in range(20)))
        trained = textmill("train", "head", "anew", str(examples))
        assert trained.exit_code == 0, trained.err
        return trained.err

    assert "version" not in train(("old", "older"))
    many = tmp_path / "many.jsonl"
    many.write_text("".join(json.dumps({"id": f"r{at}", "text": f"Text {at}."}) + "\n" for at in range(MANY)))
    job = textmill("label", str(many), "--head", "anew", "--detach", "-q").out.strip()
    wait_until(lambda: int(str(textmill("jobs", "show", job, "--json").json["request_counts"]["completed"])) > 0, "a row is done", 60)  # type: ignore[index]
    assert textmill("jobs", "pause", job).exit_code == 0
    assert "It is version 2. Jobs that began with another one go on with that.\n" in train(("new", "newer"))
    assert [one["version"] for one in textmill("heads", "list", "--json").items if one["name"] == "anew"] == [2]
    assert "head:anew@2\t2\t" in textmill("heads", "show", "anew").out
    deleted = textmill("heads", "delete", "anew", "--yes")
    assert deleted.exit_code == 0
    assert "Jobs that began with it go on with it; it is erased once they have ended." in deleted.err
    assert textmill("jobs", "resume", job).exit_code == 0
    assert textmill("jobs", "watch", job, "-q").exit_code == 0
    lines = textmill("results", job, "-o", "-").lines
    assert [set(line["scores"]) for line in lines] == [{"old", "older"}] * MANY  # type: ignore[call-overload]


def test_a_label_set_is_stored_used_and_deleted(textmill: Callable[..., Done], rows: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\ufeffgood\nbad\n\nugly\n")
    assert textmill("label-sets", "put", "mood", "--labels", "fine,poor").exit_code == 0
    again = textmill("label-sets", "put", "mood", "--labels-file", str(tmp_path / "labels.txt"))
    assert "It is version 2. Jobs that began with another one go on with that." in again.err
    assert "mood@2\t3\tgood, bad, ugly\t" in textmill("label-sets", "show", "mood").out
    assert [one["labels"] for one in textmill("label-sets", "list", "--json").items if one["name"] == "mood"] == [LABELS]
    labelled = textmill("label", str(rows), "--label-set", "mood", "-o", "-")
    assert [row["label"] for row in labelled.lines] == [expected_label(text, LABELS) for text in TEXTS]
    assert textmill("label-sets", "delete", "mood", "--yes").exit_code == 0
    assert textmill("label", str(rows), "--label-set", "mood", "-o", "-").exit_code == 2


def test_a_key_works_until_it_is_revoked(textmill: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    made = textmill("keys", "create", "for the archive", "--scopes", "submit,read", "--expires-days", "7", "--json").json
    assert str(made["key"]).startswith("tm_")
    listed = next(one for one in textmill("keys", "list", "--json").items if one["id"] == made["id"])
    assert listed["name"] == "for the archive"
    assert made["key"] not in textmill("keys", "list", "--json").out
    with monkeypatch.context() as other:
        other.setenv("TEXTMILL_API_KEY", str(made["key"]))
        assert textmill("jobs", "list").exit_code == 0
        assert textmill("keys", "list").exit_code == 4
    assert textmill("keys", "revoke", str(made["id"])).exit_code == 0
    monkeypatch.setenv("TEXTMILL_API_KEY", str(made["key"]))
    assert textmill("jobs", "list").exit_code == 4


def test_a_key_that_has_expired_is_not_called_active(textmill: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    made = textmill("keys", "create", "for a week", "--scopes", "read", "--expires-days", "7", "--json").json

    def state() -> str:
        return next(line for line in textmill("keys", "list").out.splitlines() if line.startswith(str(made["id"]))).split("\t")[3]

    assert state() == "active"
    later = time.time() + 8 * 86_400
    with monkeypatch.context() as clock:
        clock.setattr("api.cli.commands.keys.time.time", lambda: later)
        assert state() == "expired"
    assert textmill("keys", "revoke", str(made["id"])).exit_code == 0
    assert state() == "revoked"


def test_the_key_in_use_and_the_last_that_makes_others_are_revoked_only_by_who_means_it(textmill: Callable[..., Done]) -> None:
    keys = {str(key["id"]): key for key in textmill("keys", "list", "--json").items}
    (in_use,) = (name for name, key in keys.items() if key["current"])
    for answer, told in ((b"n\n", "Nothing was revoked."), (b"", "nobody answered. --yes does it without asking")):
        asked = textmill("keys", "revoke", in_use, stdin=answer)
        assert (asked.exit_code, told in asked.err) == (2, True), asked.err
        assert "the key in use" in asked.err
    assert textmill("jobs", "list").exit_code == 0


def test_a_key_that_was_revoked_already_is_said_to_have_been_and_none_is_the_last(textmill: Callable[..., Done]) -> None:
    made = str(textmill("keys", "create", "for the archive", "--scopes", "read", "--json").json["id"])
    assert f"Revoked {made}." in textmill("keys", "revoke", made).err
    again = textmill("keys", "revoke", made)
    assert (again.exit_code, again.err.strip()) == (0, f"{made} was revoked already.")
    refused = textmill("keys", "revoke", "last")
    assert (refused.exit_code, "`last`" in refused.err) == (2, False), refused.err


def test_files_are_listed_and_deleted(textmill: Callable[..., Done], rows: Path) -> None:
    textmill("label", str(rows), "--labels", "x,y", "-o", "-")
    output, newest = textmill("files", "list", "--limit", "2", "--json").items
    assert (output["purpose"], newest["filename"]) == ("batch_output", "rows.jsonl")
    assert int(str(output["bytes"])) > 0

    def day(moment: object) -> str:
        return time.strftime("%Y-%m-%d", time.localtime(float(str(moment)))) if moment else ""

    table = [line.split("\t") for line in textmill("files", "list", "--limit", "2").out.splitlines()]
    assert [row[table[0].index("EXPIRES")] for row in table[1:]] == [day(output["expires_at"]), day(newest["expires_at"])]
    asked = textmill("files", "delete", str(newest["id"]), stdin=b"n\n")
    assert (asked.exit_code, f"Delete file {newest['id']} for ever?" in asked.err) == (2, True), asked.err
    assert textmill("files", "delete", str(newest["id"]), "--yes").exit_code == 0
    gone = textmill("files", "delete", str(newest["id"]), "--yes")
    assert gone.exit_code == 1
    assert "file" in gone.err


def test_models_are_listed_and_who_has_them_loaded(textmill: Callable[..., Done], rows: Path) -> None:
    assert "fake-encoder\tclassify, embed" in textmill("models", "list").out
    assert textmill("label", str(rows), "--labels", "a,b", "--model", "fake-encoder", "-o", os.devnull, "-q").exit_code == 0
    (worker,) = textmill("workers", "list", "--json").items
    by = f"{without_start(str(worker['worker']))} (cpu)"
    wait_until(lambda: f"\t{by}\n" in textmill("models", "list").out)
    (listed,) = [one for one in textmill("models", "list", "--json").items if one["id"] == "fake-encoder"]
    assert listed["textmill"]["loaded_by"] == 1  # type: ignore[index]


def test_the_record_of_accesses_is_readable(textmill: Callable[..., Done], rows: Path) -> None:
    job = str(textmill("label", str(rows), "--labels", "x,y", "-o", os.devnull, "--json").json["job"])
    events = textmill("audit", "list", "--limit", "500", "--json").items
    actions = {event["action"] for event in events if event["batch_id"] == job}
    assert {"results.write", "results.read"} <= actions
    only = textmill("audit", "list", "--action", "results.read", "--limit", "3", "--json").items
    assert [event["action"] for event in only] == ["results.read"] * len(only)
    assert textmill("audit", "list", "--limit", "2").out.count("\n") == 3


def test_an_unknown_id_is_one_sentence(textmill: Callable[..., Done]) -> None:
    done = textmill("jobs", "show", "batch_" + "0" * 32)
    assert done.exit_code == 1
    assert done.err.count("\n") == 1


def heed_interrupts() -> None:
    """A shell's background job, as the tests may be one, ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def begin(environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    """A command that goes on, and can be interrupted."""
    return subprocess.Popen(
        [sys.executable, "-m", "api.cli", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


class Terminal:
    """The program with a terminal for stdin, stdout and stderr. ``seen``: every byte it sent there."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._leader, follower = pty.openpty()
        environment = {**environment, "TERM": "xterm", "COLUMNS": "160"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", *arguments],
            env=environment,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            preexec_fn=heed_interrupts,
        )
        os.close(follower)
        self.seen = b""

    def write(self, keys: bytes) -> None:
        os.write(self._leader, keys)

    def read_until(self, wanted: bytes, seconds: float = 30.0) -> None:
        until = time.monotonic() + seconds
        while wanted not in self.seen:
            ready, _, _ = select.select([self._leader], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"{wanted!r} did not come"
            assert self._read(), f"the program ended before {wanted!r}"

    def end(self) -> int:
        """Reads to the end. Returns the exit code."""
        while self._read():
            pass
        os.close(self._leader)
        return self.process.wait(timeout=30)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._leader, 65536)
        except OSError:  # the last writer is gone
            return False
        self.seen += chunk
        return bool(chunk)


def test_a_job_tells_where_its_time_went(textmill: Callable[..., Done], rows: Path, tmp_path: Path) -> None:
    quiet = textmill("label", str(rows), "--labels", ",".join(LABELS), "-o", str(tmp_path / "out.jsonl")).err
    assert "STAGE" not in quiet
    told = textmill("label", str(rows), "--labels", ",".join(LABELS), "-o", str(tmp_path / "out.jsonl"), "-v").err
    assert re.search(r"^speed: .* rows/s, .* tokens/s over .* s$", told, re.MULTILINE)
    assert [line.split("\t")[0] for line in told.splitlines() if "\t" in line] == ["STAGE", *STAGES]
    job = re.search(r"batch_[0-9a-f]{32}", told)
    assert job is not None
    shown = textmill("profile", job.group()).out
    assert re.search(r"^bare model\t[0-9.]+% of the speed that it has by itself$", shown, re.MULTILINE)
    used = json.loads(textmill("profile", job.group(), "--json").out)
    assert set(used["stages"]) == set(STAGES)
    assert 0 < used["bare_share"] <= used["device_busy"] <= 1
    assert used["rows"] == len(TEXTS)


def test_a_job_s_story_is_shown(textmill: Callable[..., Done], rows: Path) -> None:
    job = str(textmill("label", str(rows), "--labels", "x,y", "-o", os.devnull, "--json").json["job"])
    (running,) = json.loads(textmill("workers", "list", "--json").out)
    story = textmill("jobs", "show", job, "--json").json["story"]
    assert isinstance(story, dict)
    assert story["shards"] == [], "nothing to tell of shards that went well"
    assert [(total["state"], total["rows"]) for total in story["totals"]] == [("done", len(TEXTS))]
    assert [each["worker"] for each in story["workers"]] == [running["worker"]]
    shown = textmill("jobs", "show", job).out
    assert re.search(rf"^done\t\d+\t{len(TEXTS)}\t0\t0$", shown, re.MULTILINE)
    assert running["worker"] in shown


def test_workers_are_listed_drained_and_resumed(textmill: Callable[..., Done], rows: Path) -> None:
    listed = textmill("workers", "list")
    assert listed.exit_code == 0, listed.err
    header, line = listed.out.splitlines()
    assert header.split("\t")[:3] == ["WORKER", "DEVICE", "STATE"]
    name, device, state = line.split("\t")[:3]
    assert (device, state) == ("cpu", "running")
    drained = textmill("workers", "drain", host_of(name), "--wait", "--json")
    assert drained.exit_code == 0, drained.err
    assert [(each["worker"], each["state"], each["shards"]) for each in drained.items] == [(name, "drained", 0)]
    assert "drained" in [part["now"] for part in textmill("status", "--json").json["parts"]]
    job = textmill("label", str(rows), "--labels", "x,y", "--detach", "-q").out.strip()
    assert textmill("jobs", "show", job, "--json").json["status"] in {"validating", "in_progress"}
    resumed = textmill("workers", "resume", without_start(name), "--wait")
    assert (resumed.exit_code, resumed.out) == (0, "")
    assert f"Resumed: {name}." in resumed.err
    assert textmill("jobs", "watch", job, "-q").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["drain"], 2, "--all"),
        (["resume", "host:1", "--all"], 2, "--all"),
        (["drain", "nobody:1"], 1, "No worker is called nobody:1"),
    ],
)
def test_a_worker_must_be_named(textmill: Callable[..., Done], arguments: list[str], code: int, part: str) -> None:
    done = textmill("workers", *arguments)
    assert done.exit_code == code
    assert part in done.err
